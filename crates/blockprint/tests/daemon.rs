//! The daemon and its client: beginning and end, requests of every form, disks, and clients that misbehave.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::host::{Needs, Program};

use crate::daemon_client::{
    Client, HEAD, TAIL, address, apart_core, is_end, require_client, stand_in,
    stand_ins_for_partclone, with_stand_ins,
};
use crate::partition_kill::descendants;
use crate::support::{names, until};

#[test]
fn without_an_address_the_core_says_how_it_is_called() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    for arguments in [&[][..], &["--help"], &["--version"], &["tcp://127.0.0.1:5"], &["/tmp/x"]] {
        let outcome = apart_core(&scratch).args(arguments).run().expect_exit(1);
        for word in ["ipc://", "APART_PARTCLONE_CMD", "APART_LSBLK_CMD"] {
            assert!(outcome.stdout.contains(word), "{outcome}");
        }
    }
    let daemon = Program::new(env!("CARGO_BIN_EXE_blockprint")).args(["daemon", "tcp://x"]);
    daemon.run().expect_exit(17).expect_error("ipc://");
}

#[test]
fn the_first_message_shows_all_disks_as_the_protocol_has_them() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let client = Client::start(&scratch, with_stand_ins(&scratch));
    let started = &client.heard[0];
    assert_eq!(started["compression_options"], json!(["gz", "uncompressed", "zst", "lz4"]));
    let part = |name: &str, size: u64, mounted: bool, more: Value| {
        let mut part = json!({"name": name, "size": size, "mounted": mounted});
        part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        part
    };
    let odd = "a\nb\u{1}c \"q\" \\ #x: y\u{85}\u{2028}";
    let expected = json!([{"name": "sdy", "size": 8_000_000_000_u64, "parts": [
        part("sdy2", 4_000_000_000, false, json!({"fstype": "ext2", "label": "2024", "uuid": "0123-4567"})),
        part("sdy1", 1_000_000, true, json!({"fstype": "vfat", "label": "null", "uuid": "12345678"})),
        part("sdy3", 1_000_000, false, json!({"fstype": "f2fs", "label": odd, "uuid": "1e3"})),
        part("sdy4", 1_000_000, false, json!({})),
        part("sdy5", 1_000_000, true, json!({"fstype": "crypto_LUKS", "uuid": "x"})),
    ]}]);
    assert_eq!(started["sources"], expected);
    let (heard, outcome) = client.end();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[1].get("sources"), None);
    outcome.expect_ok();
}

#[test]
fn a_request_is_understood_in_every_style_of_yaml() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    for text in [
        "type: status-request",
        "type: \"status-request\"\n",
        "{type: status-request}",
        r#"{"type":"status-request","more":[1]}"#,
        "---\ntype: 'status-request'\n...\n",
    ] {
        client.say(text);
        let status = client.next();
        assert_eq!((&status["type"], &status["status"]), (&json!("status"), &json!("running")));
        assert_eq!(status["sources"], client.heard[0]["sources"]);
    }
    client.end().1.expect_ok();
}

#[test]
fn what_is_no_request_is_answered_without_alarming_anybody() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let unknown = "0b8b9a52-91f2-4c0d-8a2c-0f6b5a8f6a11";
    let cancel = format!("type: cancel-clone\nid: {unknown}");
    for (text, request, id) in [
        ("}{", None, None),
        ("type: dance", Some("dance"), None),
        ("type: clone\nsource: /dev/sdy2", Some("clone"), None),
        ("type: cancel-restore", Some("cancel-restore"), None),
        (cancel.as_str(), Some("cancel-clone"), Some(unknown)),
    ] {
        client.say(text);
        let answer = client.next();
        assert_eq!(answer["type"], "request-rejected", "{text}");
        assert_eq!((answer["request"].as_str(), answer["id"].as_str()), (request, id), "{text}");
        assert!(answer["reason"].as_str().unwrap().len() > 10, "{answer}");
        for kept in ["error", "complete", "rate"] {
            assert_eq!(answer.get(kept), None);
        }
    }
    client.end().1.expect_ok();
}

#[test]
fn no_bytes_stop_the_core() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let mut random = fastrand::Rng::with_seed(10);
    let pieces = [
        "type: ",
        "clone",
        "restore",
        "\nsource: ",
        "/dev/sdy9",
        "\nname: ",
        "\"",
        "{",
        "[",
        "- ",
        ": ",
        "\u{85}",
        " #",
    ];
    for round in 0..20 {
        for _ in 0..50 {
            let mut message = Vec::new();
            for _ in 0..random.usize(..10) {
                match random.bool() {
                    true => message.extend(pieces[random.usize(..pieces.len())].bytes()),
                    false => message.push(random.u8(..)),
                }
            }
            client.say(&message);
        }
        client.say("type: status-request");
        while client.next()["status"] != "running" {}
        assert_eq!(client.next_within(Duration::ZERO), None, "round {round}");
    }
    client.end().1.expect_ok();
}

#[test]
fn a_failing_lsblk_leaves_what_was_seen_before_and_stops_nothing() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    stand_in(&scratch, "lsblk", "exit 1");
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    assert_eq!(client.heard[0]["sources"], json!([]));
    fs::remove_file(scratch.join("lsblk")).unwrap();
    with_stand_ins(&scratch);
    let seen = client.status()["sources"].clone();
    assert_eq!(seen[0]["name"], "sdy");
    for body in ["echo '{'", "exit 1", "echo '{}'", "kill -9 $$"] {
        stand_in(&scratch, "lsblk", body);
        assert_eq!(client.status()["sources"], seen, "{body}");
    }
    // One that hangs is answered for; the end does not wait for it, and ends it with all that it has started.
    stand_in(&scratch, "lsblk", "sleep 1000; true");
    assert_eq!(client.status()["sources"], seen);
    client.end().1.expect_ok();
    until("nothing is left of it", || descendants(&scratch).is_empty());
}

#[test]
fn a_request_to_end_stops_jobs_and_leaves_nothing() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    stand_in(
        &scratch,
        "pcl.ext2",
        &format!("{HEAD}\nhead -c 100000 /dev/zero\nsleep 1000\n{TAIL}"),
    );
    stand_in(&scratch, "pcl.dd", &format!("{HEAD}\ncat > /dev/null\nsleep 1000"));
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    let image = folder.join("r-2026-03-04T0506.apt.dd.uncompressed");
    fs::write(&image, vec![7; 1000]).unwrap();
    for signal in [None, Some("TERM"), Some("INT"), Some("HUP")] {
        let mut client = Client::start(&scratch, with_stand_ins(&scratch));
        let shown = folder.display();
        client.say(format!("type: clone\nsource: /dev/sdy2\ndestination: {shown}\nname: n"));
        client.next_of("clone");
        client.say(format!("type: restore\nsource: {}\ndestination: /dev/sdy4", image.display()));
        client.next_of("restore");
        assert!(names(&folder).iter().any(|name| name.ends_with(".inprogress")));
        let core = client.core().pid();
        let (heard, outcome) = match signal {
            None => client.end(),
            Some(signal) => {
                client.core().signal(signal);
                client.goodbye()
            }
        };
        outcome.expect_ok();
        let failed: Vec<&Value> =
            heard.iter().filter(|message| !message["error"].is_null()).collect();
        assert_eq!(failed.len(), 2, "{heard:?}");
        assert!(failed.iter().all(|message| message["error"] == "Cancelled"));
        assert_eq!(names(&folder), [image.file_name().unwrap().to_string_lossy()]);
        assert!(children_of_stand_ins(&scratch).is_empty(), "of process {core}");
    }
}

/// The processes that were started from scripts in the folder of the test.
fn children_of_stand_ins(scratch: &testkit::host::TempDir) -> Vec<String> {
    let mark = scratch.join("pcl.").display().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&mark))
        .collect()
}

#[test]
fn a_client_that_is_gone_is_waited_for_and_then_nobody_is_left() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let client = Client::start(&scratch, with_stand_ins(&scratch));
    let core = client.crash();
    core.wait_at_most(Duration::from_secs(30)).expect_ok();
}

#[test]
fn a_client_that_comes_again_in_time_finds_its_jobs() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    fs::write(scratch.join("content"), vec![5; 400_000]).unwrap();
    stand_ins_for_partclone(&scratch, "0.6");
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let shown = folder.display();
    client.say(format!("type: clone\nsource: /dev/sdy2\ndestination: {shown}\nname: n"));
    let id = client.next_of("clone")["id"].clone();
    let core = client.crash();
    let mut client = Client::bind(&scratch);
    assert_ne!(client.status()["sources"], json!([]));
    let last = loop {
        let message = client.next();
        if is_end(&message) {
            break message;
        }
    };
    assert_eq!((&last["id"], &last["complete"]), (&id, &json!(1.0)));
    client.say("type: kill-request");
    while client.next()["status"] != "dying" {}
    core.wait_at_most(Duration::from_secs(30)).expect_ok();
}

#[test]
fn jobs_come_to_their_end_without_a_client_or_are_cancelled() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    fs::write(scratch.join("content"), vec![5; 400_000]).unwrap();
    for policy in ["finish", "cancel"] {
        stand_ins_for_partclone(&scratch, "2.5");
        let folder = scratch.join(policy);
        fs::create_dir(&folder).unwrap();
        let core = with_stand_ins(&scratch).env("BLOCKPRINT_ON_DISCONNECT", policy);
        let mut client = Client::start(&scratch, core);
        let shown = folder.display();
        client.say(format!("type: clone\nsource: /dev/sdy2\ndestination: {shown}\nname: n"));
        client.next_of("clone");
        let core = client.crash();
        core.wait_at_most(Duration::from_secs(30)).expect_ok();
        let left = names(&folder);
        match policy {
            "finish" => assert!(left.len() == 1 && left[0].ends_with(".apt.ext2.gz"), "{left:?}"),
            _ => assert_eq!(left, [] as [&str; 0]),
        }
    }
}

#[test]
fn what_a_killed_daemon_left_is_removed_by_the_next_one() {
    let Some(scratch) = require_client(&Needs::root()) else { return };
    stand_in(
        &scratch,
        "pcl.ext2",
        // Nothing below it: what a stand-in starts itself does not hear of our end.
        &format!("{HEAD}\nhead -c 100000 /dev/zero\nexec sleep 1000"),
    );
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let shown = folder.display();
    client.say(format!("type: clone\nsource: /dev/sdy2\ndestination: {shown}\nname: n"));
    client.next_of("clone");
    until("the image is begun", || !names(&folder).is_empty());
    client.core().signal("KILL");
    until("its stand-ins end with it", || children_of_stand_ins(&scratch).is_empty());
    drop(client);
    assert!(names(&folder)[0].ends_with(".inprogress"));
    let client = Client::start(&scratch, with_stand_ins(&scratch));
    until("it is cleaned", || names(&folder).is_empty());
    client.end().1.expect_ok();
}

#[test]
fn a_client_may_come_late_and_another_library_will_do() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    drop(with_stand_ins(&scratch));
    let core = Program::new(env!("CARGO_BIN_EXE_blockprint")).arg("daemon").arg(address(&scratch));
    let core = core.env("APART_LSBLK_CMD", scratch.join("lsblk")).spawn();
    let context = zmq::Context::new();
    let socket = context.socket(zmq::PAIR).unwrap();
    socket.set_rcvtimeo(30_000).unwrap();
    // The daemon has tried to connect by then.
    std::thread::sleep(Duration::from_millis(300));
    socket.bind(&address(&scratch)).unwrap();
    let started = socket.recv_string(0).unwrap().unwrap();
    assert!(started.starts_with("type: \"status\"\nstatus: \"started\"\nsources:\n"), "{started}");
    // Several parts are no message.
    socket.send_multipart(["type: kill-request", "x"], 0).unwrap();
    socket.send("{type: status-request}", 0).unwrap();
    let running = socket.recv_string(0).unwrap().unwrap();
    assert!(running.contains("status: \"running\""), "{running}");
    let start = Instant::now();
    socket.send("type: kill-request", 0).unwrap();
    let dying = socket.recv_string(0).unwrap().unwrap();
    assert!(dying.contains("status: \"dying\""), "{dying} after {:?}", start.elapsed());
    core.wait_at_most(Duration::from_secs(30)).expect_ok();
}
