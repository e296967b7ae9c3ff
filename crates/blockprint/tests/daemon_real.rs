//! The daemon with the real partclone and lsblk, on partitions of a loop device.

use std::fs;
use std::path::Path;

use serde_json::Value;
use testkit::host::{LoopDevice, LoopOptions, Mount, Needs, fsck, partition_image, run, tool};

use crate::daemon_client::{Client, apart_core, is_end, require_client};
use crate::support::{MIB, names, overwrite};

#[test]
fn a_filesystem_goes_through_an_image_to_another_partition() {
    let tools = [
        "sfdisk",
        "partx",
        "e2fsck",
        "partclone.ext4",
        "partclone.chkimg",
        "gzip",
        "lsblk",
        "sha256sum",
    ];
    let Some(scratch) = require_client(&Needs::root().filesystems(&["ext4"]).tools(&tools)) else {
        return;
    };
    let disk = scratch.join("disk.img");
    partition_image(&disk, 100 * MIB, "label: gpt\nsize=40M\nsize=48M\nsize=2M\n");
    let options = LoopOptions { partitions: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(&disk, &options);
    let (source, target, small) = (device.partition(1), device.partition(2), device.partition(3));
    run(tool("mkfs.ext4").args(["-q", "-L", "2024"]).arg(&source));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| ((number * 7) >> 3) as u8).collect();
    {
        let mount = Mount::new(&source, "");
        fs::write(mount.path().join("letter \u{e4}"), "as it was").unwrap();
        fs::write(mount.path().join("bytes"), &bytes).unwrap();
    }
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();

    // What partclone says is translated; nobody here reads it so.
    let core = apart_core(&scratch).env("LC_ALL", "fr_FR.UTF-8").env("LANGUAGE", "fr");
    let mut client = Client::start(&scratch, core.env("BLOCKPRINT_VERIFY", "1"));
    let name = |path: &Path| path.strip_prefix("/dev").unwrap().to_str().unwrap().to_string();
    let status = client.status();
    let parts: Vec<&Value> = status["sources"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|disk| disk["parts"].as_array().unwrap())
        .collect();
    let part = parts.into_iter().find(|part| part["name"] == name(&source).as_str()).unwrap();
    assert_eq!((&part["fstype"], &part["label"]), (&Value::from("ext4"), &Value::from("2024")));
    assert_eq!((&part["mounted"], &part["size"]), (&Value::from(false), &Value::from(40 * MIB)));

    client.say(format!(
        "type: clone\nsource: {}\ndestination: {}/\nname: home\n",
        source.display(),
        folder.display()
    ));
    let messages = client.job();
    let last = &messages[messages.len() - 1];
    assert_eq!(last["complete"], 1.0, "{last}");
    assert_eq!((&last["source_uuid"], &last["verified"]), (&part["uuid"], &Value::from(true)));
    assert!(messages[..messages.len() - 1].iter().any(|message| message["syncing"] == true));
    let image = Path::new(last["destination"].as_str().unwrap()).to_path_buf();
    assert!(image.to_str().unwrap().ends_with(".apt.ext4.gz"), "{}", image.display());
    assert_eq!(last["image_size"], fs::metadata(&image).unwrap().len());
    let sums = tool("sha256sum").arg(&image).output().unwrap().stdout;
    let sum = String::from_utf8_lossy(&sums).split(' ').next().unwrap().to_string();
    assert_eq!(last["sha256"].as_str().unwrap(), sum);
    let plain = scratch.join("plain");
    let unpack = tool("gzip").arg("-dc").arg(&image).output().unwrap();
    fs::write(&plain, unpack.stdout).unwrap();
    run(tool("partclone.chkimg").args(["-L", "/dev/null", "-s"]).arg(&plain));

    let restore = |client: &mut Client, image: &Path, target: &Path| {
        let (image, target) = (image.display(), target.display());
        client.say(format!("type: restore\nsource: {image}\ndestination: {target}\n"));
        let mut messages = client.job();
        messages.pop().unwrap()
    };
    let last = restore(&mut client, &image, &target);
    assert_eq!(
        (&last["complete"], &last["verified"]),
        (&Value::from(1.0), &Value::from(true)),
        "{last}"
    );
    fsck::ext4(&target);
    {
        let mount = Mount::new(&target, "");
        let letter = fs::read_to_string(mount.path().join("letter \u{e4}")).unwrap();
        assert_eq!(letter, "as it was");
        assert!(fs::read(mount.path().join("bytes")).unwrap() == bytes);
        // In use, and so refused, both ways, with the place.
        let last = restore(&mut client, &image, &target);
        let error = last["error"].as_str().unwrap();
        assert!(error.contains(mount.path().to_str().unwrap()), "{error}");
        client
            .say(format!("type: clone\nsource: {}\ndestination: /tmp\nname: n", target.display()));
        let refused = client.next_of("clone-failed");
        assert!(refused["error"].as_str().unwrap().contains("mounted"), "{refused}");
    }
    // Two clones share a source; to whom it is under another name is all the same.
    let link = scratch.join("by-label");
    std::os::unix::fs::symlink(&source, &link).unwrap();
    for (name, source) in [("first", &source), ("second", &link)] {
        let (source, folder) = (source.display(), folder.display());
        client.say(format!("type: clone\nsource: {source}\ndestination: {folder}\nname: {name}"));
    }
    let mut twins = Vec::new();
    while twins.len() < 2 {
        let message = client.next();
        if is_end(&message) {
            assert_eq!(message["complete"], 1.0, "{message}");
            assert_eq!(message["source_uuid"], part["uuid"]);
            twins.push(Path::new(message["destination"].as_str().unwrap()).to_path_buf());
        }
    }
    for twin in twins {
        fs::remove_file(twin).unwrap();
    }
    // Renamed, it is known by its content; damaged or too large, it is refused.
    let renamed = folder.join("renamed by hand.img");
    fs::copy(&image, &renamed).unwrap();
    assert_eq!(restore(&mut client, &renamed, &target)["complete"], 1.0);
    assert_eq!(restore(&mut client, &image, &small)["type"], "restore-failed");
    overwrite(&renamed, fs::metadata(&renamed).unwrap().len() / 2, b"damage");
    let last = restore(&mut client, &renamed, &target);
    assert_eq!(last["type"], "restore-failed");
    let nowhere = Path::new("/dev/blockprint-no-such-partition");
    assert_eq!(restore(&mut client, &image, nowhere)["type"], "restore-failed");
    assert!(!nowhere.exists());
    assert_eq!(names(&folder).len(), 2);
    client.end().1.expect_ok();
}
