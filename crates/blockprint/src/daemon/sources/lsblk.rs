//! Disks as lsblk tells of them.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use engine::partitions::probe;
use engine::{Error, ErrorKind, ProcessGroup, Result};
use serde_json::Value;

use super::{Disk, Part};

/// lsblk is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// So often it is asked whether anybody still wants to know.
const LOOK_UP_EVERY: Duration = Duration::from_millis(20);

/// More output is not read, in bytes.
const OUTPUT_BYTES: u64 = 16 << 20;

/// No device lies deeper.
const DEPTH: usize = 16;

/// Asks lsblk, or what stands in for it, as long as somebody wants to know.
pub(super) fn list(stand_in: Option<&Path>, is_wanted: &dyn Fn() -> bool) -> Result<Vec<Disk>> {
    let program = stand_in.unwrap_or(Path::new("lsblk"));
    let output = run(program, is_wanted)?;
    let invalid = |what: &str| {
        let name = program.display();
        Error::new(ErrorKind::Damaged, format!("what {name} says about disks is {what}"))
    };
    let answer: Value =
        serde_json::from_slice(&output).map_err(|error| invalid("no JSON").because(error))?;
    let devices = answer["blockdevices"].as_array().ok_or_else(|| invalid("no list of them"))?;
    let machine = match stand_in {
        Some(_) => None,
        None => Some(Machine),
    };
    Ok(devices.iter().filter_map(|device| disk(device, machine.as_ref())).collect())
}

/// What we may look at ourselves, because lsblk speaks of what is there.
struct Machine;

impl Machine {
    /// What is on a device of which lsblk knows nothing: without udev, it knows of none.
    fn look(&self, part: &mut Part) {
        let node = Path::new("/dev").join(&part.name);
        let is_device =
            node.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
        if part.kind.is_some() || part.label.is_some() || part.uuid.is_some() || !is_device {
            return;
        }
        // One that cannot be looked at is shown all the same.
        if let Ok(found) = probe(&node) {
            (part.kind, part.label, part.uuid) = (found.kind, found.label, found.uuid);
        }
    }

    /// Whether other devices are built on it: crypt, LVM, RAID.
    fn has_holders(&self, name: &str) -> bool {
        let folder = PathBuf::from(format!("/sys/class/block/{}/holders", name.replace('/', "!")));
        folder.read_dir().is_ok_and(|mut entries| entries.next().is_some())
    }
}

fn disk(device: &Value, machine: Option<&Machine>) -> Option<Disk> {
    let children = device["children"].as_array().filter(|children| !children.is_empty())?;
    let mut disk =
        Disk { name: text(device, "name")?, size_bytes: size(device)?, parts: Vec::new() };
    let mut seen = BTreeSet::new();
    for child in children {
        let Some(mut part) = part(child) else { continue };
        if part.in_use.is_none() {
            part.in_use = use_of_any(child, DEPTH);
        }
        if part.in_use.is_none() && machine.is_some_and(|machine| machine.has_holders(&part.name)) {
            part.in_use = Some("is held by another device".to_string());
        }
        if let Some(machine) = machine {
            machine.look(&mut part);
        }
        seen.insert(part.name.clone());
        disk.parts.push(part);
    }
    // What is built on partitions comes behind them, each once, if it has a node under its name.
    for child in children {
        nested(child, machine, &mut seen, &mut disk.parts, DEPTH);
    }
    Some(disk)
}

fn nested(
    device: &Value,
    machine: Option<&Machine>,
    seen: &mut BTreeSet<String>,
    parts: &mut Vec<Part>,
    depth: usize,
) {
    let (Some(children), Some(machine)) = (device["children"].as_array(), machine) else { return };
    for child in children {
        let Some(mut part) = part(child) else { continue };
        let mapped = format!("mapper/{}", part.name);
        let named = [mapped, part.name.clone()]
            .into_iter()
            .find(|name| Path::new("/dev").join(name).exists());
        if let Some(name) = named.filter(|name| seen.insert(name.clone())) {
            part.name = name;
            if part.in_use.is_none() {
                part.in_use = use_of_any(child, DEPTH);
            }
            machine.look(&mut part);
            parts.push(part);
        }
        if depth > 0 {
            nested(child, Some(machine), seen, parts, depth - 1);
        }
    }
}

fn part(device: &Value) -> Option<Part> {
    Some(Part {
        name: text(device, "name")?,
        size_bytes: size(device)?,
        in_use: own_use(device),
        kind: text(device, "fstype"),
        label: text(device, "label"),
        uuid: text(device, "uuid"),
    })
}

fn own_use(device: &Value) -> Option<String> {
    let point = text(device, "mountpoint")?;
    Some(match point.as_str() {
        "[SWAP]" => "is used as swap".to_string(),
        _ => format!("is mounted at {point}"),
    })
}

/// How any device below is in use.
fn use_of_any(device: &Value, depth: usize) -> Option<String> {
    let children = device["children"].as_array()?;
    children.iter().find_map(|child| {
        let below = || depth.checked_sub(1).and_then(|depth| use_of_any(child, depth));
        match own_use(child) {
            Some(words) => {
                let name = text(child, "name").unwrap_or_default();
                Some(format!("holds {name}, which {words}"))
            }
            None => below(),
        }
    })
}

fn text(device: &Value, key: &str) -> Option<String> {
    device[key].as_str().filter(|text| !text.is_empty()).map(str::to_string)
}

/// A number, or one in a string, as older versions of lsblk write it.
fn size(device: &Value) -> Option<u64> {
    let size = &device["size"];
    size.as_u64().or_else(|| size.as_str()?.trim().parse().ok())
}

/// Its standard output, if it ends well and in time.
fn run(program: &Path, is_wanted: &dyn Fn() -> bool) -> Result<Vec<u8>> {
    let name = program.display();
    let mut command = Command::new(program);
    command.args(["-Jbo", "name,size,fstype,label,mountpoint,uuid"]);
    command.env("LC_ALL", "C").env_remove("LANGUAGE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut lsblk = ProcessGroup::spawn(command)
        .map_err(|cause| Error::io(format!("cannot start {name}"), cause))?;
    let (tell, told) = mpsc::channel();
    if let Some(output) = lsblk.child_mut().stdout.take() {
        let read = move || {
            let mut bytes = Vec::new();
            let read = output.take(OUTPUT_BYTES).read_to_end(&mut bytes);
            let _ = tell.send(read.map(|_| bytes));
        };
        let reader = thread::Builder::new().name("lsblk".to_string()).spawn(read);
        reader.map_err(|cause| Error::io("cannot start a thread", cause))?;
    }
    let end = Instant::now() + PATIENCE;
    let answer = loop {
        match told.recv_timeout(LOOK_UP_EVERY) {
            Err(RecvTimeoutError::Timeout) if is_wanted() && Instant::now() < end => {}
            answer => break answer.ok(),
        }
    };
    let status = if is_wanted() {
        let status = lsblk.wait_at_most(end.saturating_duration_since(Instant::now()));
        // One that hangs in the kernel cannot be killed, and is not waited for.
        let reaper = thread::Builder::new().name("reaper".to_string()).spawn(move || drop(lsblk));
        reaper.map_err(|cause| Error::io("cannot start a thread", cause))?;
        status
    } else {
        None
    };
    let (Some(bytes), Some(status)) = (answer, status) else {
        let sentence = format!("{name} does not answer within {PATIENCE:?}");
        return Err(Error::new(ErrorKind::Io, sentence));
    };
    // Where there is no device at all, lsblk says so with 32 or 64 and an empty list.
    if !status.success() && status.code().is_none_or(|code| code < 32) {
        return Err(Error::new(ErrorKind::Io, format!("{name} has failed ({status})")));
    }
    bytes.map_err(|cause| Error::io(format!("cannot read from {name}"), cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(device: &Value) -> Option<Disk> {
        disk(device, None)
    }

    #[test]
    fn disks_with_partitions_are_shown_and_sizes_may_be_strings() {
        let found = parsed(&json!({"name": "sda", "size": "1000", "children": [
            {"name": "sda2", "size": 600, "fstype": "ext4", "label": "2024", "uuid": "1-2",
             "mountpoint": null},
            {"name": "sda1", "size": "400", "fstype": null, "label": null, "uuid": null,
             "mountpoint": "/boot"},
            {"name": "sda3", "size": null}, {"size": 5},
        ]}));
        let part =
            |name: &str, size_bytes| Part { name: name.into(), size_bytes, ..Part::default() };
        let second = Part {
            kind: Some("ext4".into()),
            label: Some("2024".into()),
            uuid: Some("1-2".into()),
            ..part("sda2", 600)
        };
        let first = Part { in_use: Some("is mounted at /boot".into()), ..part("sda1", 400) };
        let parts = vec![second, first];
        assert_eq!(found, Some(Disk { name: "sda".into(), size_bytes: 1000, parts }));
        for nothing in [
            json!({"name": "sr0", "size": 1}),
            json!({"name": "sr0", "size": 1, "children": []}),
            json!({"name": "sr0", "children": [{"name": "a", "size": 1}]}),
            json!([]),
        ] {
            assert_eq!(parsed(&nothing), None);
        }
        let empty = parsed(&json!({"name": "sdb", "size": 1, "children": [{"name": "x"}]}));
        assert_eq!(empty.unwrap().parts, []);
    }

    #[test]
    fn a_part_is_in_use_if_anything_on_it_is() {
        let found = parsed(&json!({"name": "sda", "size": 9, "children": [
            {"name": "sda1", "size": 9, "fstype": "crypto_LUKS", "children": [
                {"name": "vault", "size": 8, "children": [
                    {"name": "vg-swap", "size": 7, "mountpoint": "[SWAP]"}]}]}]}));
        let parts = found.unwrap().parts;
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].in_use.as_deref(), Some("holds vg-swap, which is used as swap"));
    }

    #[test]
    fn depth_has_an_end() {
        let mut device = json!({"name": "x", "size": 1, "mountpoint": "/deep"});
        for _ in 0..100 {
            device = json!({"name": "x", "size": 1, "children": [device]});
        }
        assert_eq!(parsed(&device).unwrap().parts[0].in_use, None);
    }
}
