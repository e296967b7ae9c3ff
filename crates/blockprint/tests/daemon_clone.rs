//! Images that the daemon makes, with stand-ins for partclone: names, messages in their order, refusals, cancelling.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::host::{Needs, TempDir, tool};

use crate::daemon_client::{
    Client, HEAD, TAIL, calls, moment, require_client, stand_in, stand_ins_for_partclone,
    with_stand_ins,
};
use crate::support::{make_noise, names};

/// A daemon with stand-ins that clone 400 kB, and a folder for images.
#[track_caller]
fn prepared() -> Option<(TempDir, Client, std::path::PathBuf)> {
    let scratch = require_client(&Needs::none())?;
    make_noise(&scratch.join("content"), 3, 400_000);
    stand_ins_for_partclone(&scratch, "0.15");
    let folder = scratch.join("c: d #1 \u{e4}");
    fs::create_dir(&folder).unwrap();
    let client = Client::start(&scratch, with_stand_ins(&scratch));
    Some((scratch, client, folder))
}

fn request(source: &str, folder: &Path, name: &str, compression: &str) -> String {
    let folder = folder.display();
    // As a client writes it that knows of no quotes.
    format!("type: clone\nsource: {source}\ndestination: {folder}\nname: {name}\n{compression}")
}

/// What a compressed file holds, by the tool that everybody has.
fn unpacked(path: &Path) -> Vec<u8> {
    let (program, arguments) = match path.extension().unwrap().to_str().unwrap() {
        "gz" => ("gzip", ["-dc"]),
        "zst" => ("zstd", ["-dcq"]),
        "lz4" => ("lz4", ["-dcq"]),
        _ => ("cat", ["-"]),
    };
    let mut command: Command = tool(program);
    let output =
        command.args(arguments).stdin(fs::File::open(path).unwrap()).stderr(Stdio::inherit());
    let output = output.output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[track_caller]
fn check_whole_story(messages: &[Value]) {
    let id = messages[0]["id"].as_str().unwrap();
    assert!(id.len() == 36 && id == id.to_lowercase());
    let mut complete = 0.0;
    for message in messages {
        for key in ["id", "source", "destination", "start", "source_uuid"] {
            assert_eq!(message[key], messages[0][key], "{message}");
        }
        let now = message["complete"].as_f64().unwrap();
        assert!(now >= complete, "{messages:?}");
        complete = now;
        moment(&message["start"]);
    }
    let (first, last) = (&messages[0], &messages[messages.len() - 1]);
    assert_eq!((&first["complete"], &first["syncing"]), (&Value::from(0.0), &Value::from(false)));
    for key in ["rate", "estimated_finish"] {
        assert!(first.get(key).is_some_and(Value::is_null), "{first}");
    }
    assert_eq!((&last["complete"], &last["syncing"]), (&Value::from(1.0), &Value::from(false)));
    assert!(moment(&last["finish"]) >= moment(&last["start"]));
    let running = &messages[1..messages.len() - 1];
    let syncing = running.iter().position(|message| message["syncing"] == true).unwrap();
    assert!(running[syncing..].iter().all(|message| message["syncing"] == true));
    assert!(running.iter().all(|message| message["complete"].as_f64().unwrap() <= 0.9999));
}

#[test]
fn clones_of_every_sort_tell_their_whole_story() {
    let Some((scratch, mut client, folder)) = prepared() else { return };
    let content = fs::read(scratch.join("content")).unwrap();
    let sorts = [
        ("/dev/sdy2", "ext2", "compression: gz", "gz", Some("0123-4567")),
        ("/dev/sdy3", "f2fs", "compression: zst\n", "zst", Some("1e3")),
        ("/dev/sdy4", "dd", "compression: lz4", "lz4", None),
        ("/dev/nothing", "dd", "compression: uncompressed", "uncompressed", None),
        ("/dev/sdy2", "ext2", "compression: ~", "gz", Some("0123-4567")),
    ];
    for (number, (source, variant, compression, ending, uuid)) in sorts.into_iter().enumerate() {
        let name = format!("{}", 2020 + number);
        client.say(request(source, &folder, &name, compression));
        let first = client.next();
        let path = first["destination"].as_str().unwrap().to_string();
        let begins = format!("{}/{name}-20", folder.display());
        assert!(path.starts_with(&begins), "{path}");
        assert!(path.ends_with(&format!(".apt.{variant}.{ending}")), "{path}");
        let mut messages = vec![first];
        while !crate::daemon_client::is_end(&messages[messages.len() - 1]) {
            messages.push(client.next());
        }
        check_whole_story(&messages);
        assert_eq!(messages[0]["source"], source);
        assert_eq!(messages[0].get("source_uuid").and_then(Value::as_str), uuid);
        let rates: Vec<&str> =
            messages.iter().filter_map(|message| message["rate"].as_str()).collect();
        assert_eq!(rates, ["1.49GB/min", "1.35GB/min"]);
        let at = |rate: &str| messages.iter().find(|message| message["rate"] == rate).unwrap();
        assert_eq!(at("1.49GB/min")["complete"], 0.3664);
        let left =
            moment(&at("1.49GB/min")["estimated_finish"]) - moment(&at("1.49GB/min")["start"]);
        assert!(left >= 7.0, "{left}");
        assert_eq!(at("1.35GB/min")["complete"], 0.9999);
        assert_eq!(at("1.35GB/min")["syncing"], false);
        let last = &messages[messages.len() - 1];
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(last["image_size"], metadata.len());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(unpacked(Path::new(&path)) == content, "{path}");
    }
    assert_eq!(calls(&scratch, "pcl.ext2"), ["-c -s /dev/sdy2", "-c -s /dev/sdy2"]);
    assert_eq!(calls(&scratch, "pcl.dd"), ["-s /dev/sdy4", "-s /dev/nothing"]);
    assert_eq!(names(&folder).len(), 5);
    client.end().1.expect_ok();
}

#[test]
fn an_image_is_never_replaced_and_names_lead_nowhere_else() {
    let Some((scratch, mut client, folder)) = prepared() else { return };
    let victim = scratch.join("victim");
    fs::write(&victim, "x").unwrap();
    let missing = scratch.join("missing");
    let long = "x".repeat(250);
    let refusals = [
        (request("/dev/sdy2", &folder, "../victim", ""), "slash"),
        (request("/dev/sdy2", &folder, "..", ""), "folder"),
        (request("/dev/sdy2", &folder, &long, ""), "255"),
        (request("/dev/sdy2", &folder, "n", "compression: rar"), "rar"),
        (request("/dev/sdy2", &folder, "n", "compression: 7"), "7"),
        (request("/dev/sdy2", &missing, "n", ""), "missing"),
        (request("/dev/sdy2", &victim, "n", ""), "victim"),
        (request("/dev/sdy2", Path::new("images"), "n", ""), "absolute"),
        (request("sdy2", &folder, "n", ""), "absolute"),
        (request("/dev/sdy1", &folder, "n", ""), "is mounted at /boot"),
        (request("/dev/sdy5", &folder, "n", ""), "vault"),
    ];
    for (request, reason) in refusals {
        client.say(&request);
        let answer = client.next();
        assert_eq!(answer["type"], "clone-failed", "{request}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(reason), "{request}: {error}");
        assert!(moment(&answer["finish"]) >= moment(&answer["start"]));
        let destination = Path::new(answer["destination"].as_str().unwrap());
        let file = destination.file_name().unwrap().to_str().unwrap();
        assert!(file.contains(".apt.") && destination.parent().is_some(), "{destination:?}");
    }
    assert_eq!(names(&folder), [] as [&str; 0]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "x");

    // Within one minute; the clock may turn over once.
    let clone = request("/dev/sdy2", &folder, "twice", "");
    let mut errors = Vec::new();
    let mut made = 0;
    while errors.is_empty() && made < 3 {
        client.say(&clone);
        let messages = client.job();
        match messages[messages.len() - 1]["error"].as_str() {
            Some(error) => errors.push(error.to_string()),
            None => made += 1,
        }
    }
    assert!(errors.iter().all(|error| error.contains("already")), "{errors:?}");
    assert!(!errors.is_empty());
    assert_eq!(names(&folder).len(), made);
    client.end().1.expect_ok();
}

#[test]
fn a_cancelled_clone_leaves_nothing_and_says_so_once() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    stand_in(
        &scratch,
        "pcl.ext2",
        &format!(
            "{HEAD}\nwhile :; do head -c 9999 /dev/zero; report 00:00:09 5.00 1.00GB/min; sleep 0.01; done"
        ),
    );
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    client.say(request("/dev/sdy2", &folder, "n", ""));
    let first = client.next();
    let id = first["id"].as_str().unwrap().to_string();
    let path = first["destination"].as_str().unwrap();
    assert!(Path::new(&format!("{path}.inprogress")).exists() && !Path::new(path).exists());
    while client.next()["rate"].is_null() {}
    client.say(format!("type: cancel-restore\nid: {id}"));
    client.next_of("request-rejected");
    client.say(format!("type: cancel-clone\nid: {id}"));
    let end = client.next_of("clone-failed");
    assert_eq!((&end["id"], &end["error"]), (&first["id"], &Value::from("Cancelled")));
    assert_eq!(end["source_uuid"], "0123-4567");
    assert_eq!(names(&folder), [] as [&str; 0]);
    client.say(format!("type: cancel-clone\nid: {id}"));
    assert_eq!(client.next()["type"], "request-rejected");
    client.end().1.expect_ok();
}

#[test]
fn a_failure_has_a_reason_or_is_the_word_failed() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let endings = [
        (format!("{HEAD}\necho 'strange words' >&2; exit 1"), "Failed"),
        (format!("{HEAD}\nkill -9 $$"), "Failed"),
        // It says that all is well, but its status does not, and the reverse.
        (format!("{HEAD}\n{TAIL}\nexit 3"), "Failed"),
        (format!("{HEAD}\nhead -c 1000 /dev/zero"), "Failed"),
        (
            "echo 'device (/dev/sdy2) is mounted at /mnt/x' >&2; echo 'error exit' >&2; exit 1"
                .to_string(),
            "/dev/sdy2 is mounted at /mnt/x",
        ),
    ];
    // There is no stand-in of any variant yet.
    client.say(request("/dev/sdy2", &folder, "n", ""));
    let messages = client.job();
    let last = &messages[messages.len() - 1];
    assert!(last["type"] == "clone-failed" && last["error"] != "Failed", "{last}");
    assert_eq!(names(&folder), [] as [&str; 0]);
    for (body, error) in endings {
        stand_in(&scratch, "pcl.ext2", &body);
        client.say(request("/dev/sdy2", &folder, "n", "compression: uncompressed"));
        let messages = client.job();
        let last = &messages[messages.len() - 1];
        assert_eq!(last["type"], "clone-failed", "{body}");
        assert_eq!(last["error"], error, "{body}");
        let detail = last["detail"].as_str().unwrap_or_default();
        assert_eq!(body.contains("strange"), detail.contains("strange words"), "{last}");
        assert_eq!(names(&folder), [] as [&str; 0]);
    }
    client.end().1.expect_ok();
}

#[test]
fn a_source_is_shared_with_clones_only() {
    let Some((scratch, mut client, folder)) = prepared() else { return };
    stand_in(&scratch, "pcl.ext2", &format!("{HEAD}\nsleep 1000"));
    let image = folder.join("r-2026-03-04T0506.apt.dd.uncompressed");
    fs::write(&image, "x").unwrap();
    client.say(request("/dev/sdy2", &folder, "a", ""));
    client.say(request("/dev/sdy2", &folder, "b", ""));
    let firsts = [client.next(), client.next()];
    assert!(firsts.iter().all(|first| first["type"] == "clone"), "{firsts:?}");
    client.say(format!("type: restore\nsource: {}\ndestination: /dev/sdy2", image.display()));
    let refused = client.next_of("restore-failed");
    assert!(refused["error"].as_str().unwrap().contains("in use by a clone"), "{refused}");
    client.say(format!(
        "type: delete-clone\nfile: {}.inprogress",
        firsts[0]["destination"].as_str().unwrap()
    ));
    let refused = client.next_of("delete-clone-failed");
    assert!(refused["error"].as_str().unwrap().contains("in use by a clone"), "{refused}");
    let (heard, outcome) = client.end();
    outcome.expect_ok();
    assert_eq!(heard.iter().filter(|message| message["error"] == "Cancelled").count(), 2);
}

#[test]
fn any_name_of_a_folder_keeps_all_messages_readable() {
    let Some((_scratch, mut client, folder)) = prepared() else { return };
    let odd = [
        "a\nb",
        "\u{1}\u{85}\u{2028}\u{feff}",
        "\"q\" \\",
        "2024",
        "# x",
        "\u{1f600}",
        "~",
        "- [x",
        "é: {",
    ];
    for name in odd {
        let inner = folder.join(name);
        fs::create_dir(&inner).unwrap();
        let quoted = serde_json::to_string(inner.to_str().unwrap()).unwrap();
        client.say(format!(
            "{{\"type\": \"clone\", \"source\": \"/dev/sdy4\", \"destination\": {quoted}, \"name\": \"n\"}}"
        ));
    }
    let mut ends = 0;
    while ends < odd.len() {
        let message = client.next();
        if crate::daemon_client::is_end(&message) {
            assert_eq!(message["complete"], 1.0, "{message}");
            let path = Path::new(message["destination"].as_str().unwrap());
            assert!(path.exists(), "{}", path.display());
            ends += 1;
        }
    }
    client.end().1.expect_ok();
}
