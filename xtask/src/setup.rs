//! Installs the system's packages that a verb needs, or says which are missing.

use std::fs;
use std::process::Command;

use testkit::host::{Needs, has_tool};

/// What the packages are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Run all tests.
    Test,
    /// Show the main job.
    Demo,
    /// Measure.
    Bench,
}

use Verb::{Bench, Demo, Test};

/// Program (or a path, for what is none: Python's modules), the Debian package that has it, and who needs it.
const TOOLS: [(&str, &str, &[Verb]); 38] = [
    ("losetup", "mount", &[Test, Demo, Bench]),
    ("swapon", "mount", &[Test]),
    ("fsfreeze", "util-linux", &[Test, Demo, Bench]),
    ("partx", "util-linux", &[Test]),
    ("unshare", "util-linux", &[Test]),
    ("mkswap", "util-linux", &[Test]),
    ("sfdisk", "fdisk", &[Test]),
    ("mkfs.ext4", "e2fsprogs", &[Test, Demo, Bench]),
    ("e2fsck", "e2fsprogs", &[Test, Demo]),
    ("filefrag", "e2fsprogs", &[Test, Bench]),
    ("mkfs.xfs", "xfsprogs", &[Test, Demo, Bench]),
    ("mkfs.btrfs", "btrfs-progs", &[Test]),
    ("qemu-img", "qemu-utils", &[Test, Bench]),
    ("ddrescuelog", "gddrescue", &[Test]),
    ("cmp", "diffutils", &[Test, Bench]),
    ("casync", "casync", &[Test, Bench]),
    ("ssh", "openssh-client", &[Test]),
    ("sshd", "openssh-server", &[Test]),
    ("zstd", "zstd", &[Test, Bench]),
    ("partclone.dd", "partclone", &[Test, Bench]),
    ("blkid", "util-linux", &[Test]),
    ("debugfs", "e2fsprogs", &[Test]),
    ("mkfs.vfat", "dosfstools", &[Test]),
    ("mkfs.ntfs", "ntfs-3g", &[Test]),
    ("mkfs.exfat", "exfatprogs", &[Test]),
    ("mkfs.f2fs", "f2fs-tools", &[Test]),
    ("mcopy", "mtools", &[Test]),
    ("sgdisk", "gdisk", &[Test]),
    ("pigz", "pigz", &[Test, Bench]),
    ("g++", "g++", &[Test, Demo, Bench]),
    ("/usr/bin/python3", "python3", &[Test]),
    ("/usr/lib/python3/dist-packages/zmq", "python3-zmq", &[Test]),
    ("/usr/lib/python3/dist-packages/yaml", "python3-yaml", &[Test]),
    ("lz4", "lz4", &[Test]),
    ("time", "time", &[Bench]),
    ("rsync", "rsync", &[Bench]),
    ("b3sum", "b3sum", &[Bench]),
    ("taskset", "util-linux", &[Bench]),
];

/// Installs what `verb` needs and the machine lacks. What cannot be installed is named; tests that need it skip.
pub(crate) fn install(verb: Verb) {
    let missing = missing_packages(verb);
    if !missing.is_empty() {
        let names = missing.join(" ");
        if !is_root() {
            println!("missing packages: {names} (as root they would be installed now)");
        } else if !has_tool("apt-get") {
            println!(
                "missing programs of these Debian packages: {names} (there is no apt-get here)"
            );
        } else if let Err(sentence) = apt_install(&missing) {
            println!("cannot install {names}: {sentence}");
        }
    }
    for reason in Needs::root().missing() {
        println!("what needs root and loop devices is skipped: {reason}");
    }
}

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    ids.split_whitespace().nth(1) == Some("0")
}

fn missing_packages(verb: Verb) -> Vec<&'static str> {
    let needed = TOOLS.iter().filter(|(tool, _, verbs)| verbs.contains(&verb) && !has_tool(tool));
    let mut packages: Vec<&str> = needed.map(|(_, package, _)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

/// A fresh machine has no lists of packages yet: fetch them only if installing fails without.
fn apt_install(packages: &[&str]) -> Result<(), String> {
    println!("installing {}", packages.join(" "));
    let install = || {
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        arguments.extend(packages);
        apt_get(&arguments)
    };
    install().or_else(|_| apt_get(&["update"]).and_then(|()| install()))
}

fn apt_get(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=120"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    testkit::host::try_run(&mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_its_tools() {
        for verb in [Test, Demo, Bench] {
            assert!(TOOLS.iter().any(|(_, _, verbs)| verbs.contains(&verb)), "{verb:?}");
        }
    }
}
