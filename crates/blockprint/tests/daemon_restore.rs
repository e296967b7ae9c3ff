//! Restores by the daemon, with stand-ins for partclone, and deletions.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use testkit::host::{Needs, TempDir, tool};

use crate::daemon_client::{
    Client, HEAD, TAIL, calls, moment, require_client, stand_in, stand_ins_for_partclone,
    with_stand_ins,
};
use crate::support::make_noise;

const STEM: &str = "my image-2026-03-04T0506.apt";

fn request(image: &Path, target: &str) -> String {
    format!("type: restore\nsource: {}\ndestination: {target}\n", image.display())
}

/// An image of `content` as the tools make it that everybody has.
#[track_caller]
fn packed(scratch: &TempDir, content: &Path, variant: &str, ending: &str) -> std::path::PathBuf {
    let path = scratch.join(format!("{STEM}.{variant}.{ending}"));
    let (program, argument) = match ending {
        "gz" => ("gzip", "-1c"),
        "zst" | "zstd" => ("zstd", "-cq"),
        "lz4" => ("lz4", "-cq"),
        _ => ("cat", "-"),
    };
    let mut command = tool(program);
    command.arg(argument).stdin(fs::File::open(content).unwrap());
    let status = command.stdout(fs::File::create(&path).unwrap()).stderr(Stdio::inherit()).status();
    assert!(status.unwrap().success());
    path
}

#[test]
fn restores_of_every_sort_give_the_stand_in_what_was_packed() {
    let needs = Needs::none().tools(&["gzip", "zstd", "lz4"]);
    let Some(scratch) = require_client(&needs) else { return };
    let content = scratch.join("content");
    make_noise(&content, 4, 400_000);
    stand_ins_for_partclone(&scratch, "0.15");
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let sorts =
        [("ext2", "gz"), ("f2fs", "zst"), ("ext2", "zstd"), ("dd", "lz4"), ("dd", "uncompressed")];
    for (variant, ending) in sorts {
        let image = packed(&scratch, &content, variant, ending);
        client.say(request(&image, "/dev/sdy4"));
        let messages = client.job();
        for message in &messages {
            assert_eq!(message["type"], "restore", "{message}");
            assert_eq!(message["source"], image.to_str().unwrap());
            assert_eq!(message["destination"], "/dev/sdy4");
            assert_eq!(message["start"], messages[0]["start"]);
            assert_eq!(message.get("source_uuid"), None);
            assert_eq!(message.get("image_size"), None);
        }
        assert_eq!(
            (&messages[0]["complete"], &messages[0]["rate"]),
            (&Value::from(0.0), &Value::Null)
        );
        let with_rate =
            |rate: &str| messages.iter().find(|message| message["rate"] == rate).unwrap();
        assert_eq!(with_rate("1.49GB/min")["complete"], 0.3664);
        assert_eq!(with_rate("1.49GB/min")["syncing"], false);
        // With the report that reaches the end.
        assert_eq!(with_rate("1.35GB/min")["complete"], 0.9999);
        assert_eq!(with_rate("1.35GB/min")["syncing"], true);
        let last = &messages[messages.len() - 1];
        assert_eq!((&last["complete"], &last["syncing"]), (&Value::from(1.0), &Value::from(false)));
        moment(&last["finish"]);
        let given = fs::read(scratch.join(format!("pcl.{variant}.restored"))).unwrap();
        assert!(given == fs::read(&content).unwrap(), "{variant} {ending}");
    }
    assert_eq!(calls(&scratch, "pcl.ext2"), ["-r -o /dev/sdy4", "-r -o /dev/sdy4"]);
    assert_eq!(calls(&scratch, "pcl.dd"), ["-o /dev/sdy4", "-o /dev/sdy4"]);
    client.end().1.expect_ok();
}

#[test]
fn a_restore_that_cannot_be_is_refused_or_fails_with_a_reason() {
    let Some(scratch) = require_client(&Needs::none().tools(&["gzip"])) else { return };
    let content = scratch.join("content");
    make_noise(&content, 4, 400_000);
    stand_ins_for_partclone(&scratch, "0");
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let good = packed(&scratch, &content, "ext2", "gz");
    let whole = fs::read(&good).unwrap();
    let cut = scratch.join("cut-2026-03-04T0506.apt.dd.gz");
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let wrong = scratch.join("wrong-2026-03-04T0506.apt.dd.gz");
    let mut bytes = whole.clone();
    bytes[200_000] ^= 0x40;
    fs::write(&wrong, &bytes).unwrap();
    let unfinished = scratch.join("u-2026-03-04T0506.apt.dd.gz.inprogress");
    fs::write(&unfinished, &whole).unwrap();
    let unknown = scratch.join("v-2026-03-04T0506.apt.nofs.gz");
    fs::write(&unknown, &whole).unwrap();
    let missing = scratch.join("missing-2026-03-04T0506.apt.dd.gz");
    for (image, target, reason) in [
        (&good, "/dev/sdy1", "is mounted at /boot"),
        (&good, "sdy4", "absolute"),
        (&missing, "/dev/sdy4", "missing"),
        (&unfinished, "/dev/sdy4", ""),
        (&unknown, "/dev/sdy4", ""),
        (&cut, "/dev/sdy4", ""),
        (&wrong, "/dev/sdy4", ""),
    ] {
        client.say(request(image, target));
        let messages = client.job();
        let last = &messages[messages.len() - 1];
        assert_eq!(last["type"], "restore-failed", "{} {last}", image.display());
        let error = last["error"].as_str().unwrap();
        assert!(error.contains(reason) && error != "Failed" && !error.is_empty(), "{error}");
        assert_eq!(last["source"], image.to_str().unwrap());
        assert_eq!(last["destination"], target);
    }
    stand_in(&scratch, "pcl.ext2", &format!("{HEAD}\ncat > /dev/null\nexit 1"));
    client.say(request(&good, "/dev/sdy4"));
    let messages = client.job();
    assert_eq!(messages[messages.len() - 1]["error"], "Failed");
    stand_in(&scratch, "pcl.ext2", &format!("{HEAD}\ncat > /dev/null\n{TAIL}"));
    client.say(request(&good, "/dev/sdy4"));
    let messages = client.job();
    assert_eq!(messages[messages.len() - 1]["complete"], 1.0);
    client.end().1.expect_ok();
}

#[test]
fn a_restore_is_cancelled_and_its_target_is_nobody_elses_meanwhile() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    stand_in(
        &scratch,
        "pcl.dd",
        &format!("{HEAD}\ncat > /dev/null\nreport 00:00:09 5.00 1.00GB/min\nsleep 1000"),
    );
    let image = scratch.join(format!("{STEM}.dd.uncompressed"));
    make_noise(&image, 8, 100_000);
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    client.say(request(&image, "/dev/sdy4"));
    let first = client.next();
    let id = first["id"].as_str().unwrap().to_string();
    while client.next()["rate"].is_null() {}
    client.say(request(&image, "/dev/sdy4"));
    let refused = client.next_of("restore-failed");
    assert_ne!(refused["id"], first["id"]);
    assert!(refused["error"].as_str().unwrap().contains("in use by a restore"), "{refused}");
    client.say(format!("type: delete-clone\nfile: {}", image.display()));
    let refused = client.next_of("delete-clone-failed");
    assert!(refused["error"].as_str().unwrap().contains("in use by a restore"), "{refused}");
    assert!(image.exists());
    client.say(format!("type: cancel-clone\nid: {id}"));
    client.next_of("request-rejected");
    client.say(format!("type: cancel-restore\nid: {id}"));
    let end = client.next_of("restore-failed");
    assert_eq!((&end["id"], &end["error"]), (&first["id"], &Value::from("Cancelled")));
    client.say(format!("type: delete-clone\nfile: {}", image.display()));
    assert_eq!(client.next()["type"], "deleted-clone");
    client.end().1.expect_ok();
}

#[test]
fn only_images_are_deleted_and_every_request_is_answered() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let image = scratch.join(format!("{STEM}.ext2.gz"));
    fs::write(&image, "x").unwrap();
    let folder = scratch.join("f-2026-03-04T0506.apt.d");
    fs::create_dir(&folder).unwrap();
    fs::create_dir(scratch.join("g-2026-03-04T0506.apt.dd.gz")).unwrap();
    let victim = scratch.join("victim.txt");
    fs::write(&victim, "x").unwrap();
    let link = scratch.join("l-2026-03-04T0506.apt.dd.gz");
    symlink(&victim, &link).unwrap();
    let mut ask = |path: &Path| {
        client.say(format!("type: delete-clone\nfile: {}", path.display()));
        let answer = client.next();
        assert_eq!(answer["file"], path.to_str().unwrap());
        let error = answer["error"].as_str().map(str::to_string);
        assert_eq!(answer["type"] == "delete-clone-failed", error.is_some());
        error
    };
    assert_eq!(ask(&image), None);
    assert!(!image.exists());
    assert_eq!(ask(&image).as_deref(), Some("No such file"));
    assert!(ask(&folder.join("../victim.txt")).is_some());
    assert!(ask(&victim).is_some());
    assert!(ask(&link).is_some());
    assert!(ask(&scratch.join("g-2026-03-04T0506.apt.dd.gz")).unwrap().contains("folder"));
    assert!(ask(Path::new("l-2026-03-04T0506.apt.dd.gz")).is_some());
    assert!(victim.exists() && link.is_symlink());
    client.end().1.expect_ok();
}
