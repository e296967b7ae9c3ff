//! What clients write, and what is understood.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use testkit::host::TempDir;

use super::*;

fn clone_of(text: &str) -> (String, String, String, Option<String>) {
    match read(text.as_bytes()) {
        Ok(Request::Clone { source, destination, name, compression }) => {
            (source.shown(), destination.shown(), name, compression)
        }
        other => panic!("{text:?} is {other:?}"),
    }
}

fn rejection_of(text: &[u8]) -> Rejection {
    match read(text) {
        Err(rejection) => rejection,
        Ok(request) => panic!("{:?} is {request:?}", String::from_utf8_lossy(text)),
    }
}

fn expected() -> (String, String, String, Option<String>) {
    ("/dev/sdb1".into(), "/srv/images".into(), "Ada home".into(), Some("zst".into()))
}

#[test]
fn block_flow_quoted_and_json_style_are_one() {
    for text in [
        "type: clone\nsource: /dev/sdb1\ndestination: /srv/images\nname: Ada home\ncompression: zst",
        "---\ntype:   clone \nsource: /dev/sdb1\r\ndestination: /srv/images\n\nname: Ada home\ncompression: zst\n",
        "{type: clone, source: /dev/sdb1, destination: /srv/images, name: Ada home, compression: zst}",
        r#"{"type":"clone","source":"/dev/sdb1","destination":"/srv/images","name":"Ada home","compression":"zst"}"#,
        "type: \"clone\"\nsource: '/dev/sdb1'\ndestination: \"/srv/images\"\nname: 'Ada home'\ncompression: zst\n",
        "type: clone # a remark\nsource: /dev/sdb1\ndestination: \"/srv/images\" # here\nname: >-\n  Ada\n  home\ncompression: zst\n...\n",
        "type: clone\nsource: /dev/sdb1\ndestination: /srv/images\nname: Ada home\ncompression: zst\n---\nname: other\n",
        "type: clone\nmore: [1, {2: 3}]\n? [odd, key]\n: 4\nsource: /dev/sdb1\ndestination: /srv/images\nname: Ada home\ncompression: zst",
    ] {
        assert_eq!(clone_of(text), expected(), "{text}");
    }
}

#[test]
fn a_value_is_its_text_whatever_yaml_makes_of_it() {
    for name in ["2024", "true", "1e3", "null", "0x1F", "no", "2026-03-04", "- x", "-", ".5"] {
        let text = format!("type: clone\nsource: /dev/a\ndestination: /d\nname: {name}\n");
        assert_eq!(clone_of(&text).2, name);
    }
    for nothing in ["", "~", " ~ "] {
        let text =
            format!("type: clone\nsource: /d/a\ndestination: /d\nname: n\ncompression: {nothing}");
        assert_eq!(clone_of(&text).3, None);
    }
}

#[test]
fn what_is_no_yaml_is_taken_as_it_stands() {
    for path in ["/srv/c: d", "/srv/a: b: c", "/srv/trailing:", "/srv/%x @y `z", "/srv/{a}, [b]"] {
        let text = format!("type: clone\nsource: /dev/sdb1\ndestination: {path}\nname: n");
        assert_eq!(clone_of(&text).1, path);
    }
    for (name, meant) in
        [("[a", "[a"), ("\"a", "\"a"), ("'a' b", "'a' b"), ("*a", "*a"), ("'a: b'", "a: b")]
    {
        let text = format!("type: clone\nsource: /dev/sdb1\ndestination: /srv/c: d\nname: {name}");
        let read = clone_of(&text);
        assert_eq!((read.1.as_str(), read.2.as_str()), ("/srv/c: d", meant));
    }
    let bytes = b"type: delete-clone\nfile: /srv/\xff-2026-03-04T0506.apt.dd.gz";
    let Ok(Request::Delete { file }) = read(bytes) else { panic!("it is a request") };
    assert_eq!(file.resolve().as_os_str().as_bytes(), &bytes[25..]);
}

#[test]
fn a_number_sign_belongs_to_a_path_that_is_there_and_else_begins_a_comment() {
    let scratch = TempDir::new("inbound");
    fs::create_dir(scratch.join("o #1")).unwrap();
    let folder = |path: &Path| {
        let path = path.display();
        let text = format!("type: clone\nsource: /dev/a\ndestination: {path}\nname: n # 2\n");
        match read(text.as_bytes()) {
            Ok(Request::Clone { destination, name, .. }) => {
                assert_eq!(name, "n");
                destination.resolve()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(folder(&scratch.join("o #1")), scratch.join("o #1"));
    assert_eq!(folder(&scratch.join("o #2")), scratch.join("o"));
    assert_eq!(folder(&scratch.join("c: d #2")), scratch.join("c: d"));
    fs::create_dir(scratch.join("# x")).unwrap();
    assert_eq!(folder(&scratch.join("# x")), scratch.join("# x"));
}

#[test]
fn an_image_that_is_gone_is_spoken_of_as_it_was_asked_for() {
    let of = |text: &str| match read(format!("type: delete-clone\nfile: {text}").as_bytes()) {
        Ok(Request::Delete { file }) => file.resolve_image(),
        other => panic!("{other:?}"),
    };
    let image = "/none #1/x-2026-03-04T0506.apt.dd.gz";
    assert_eq!(of(image), Path::new(image));
    let image = "/none/x-2026-03-04T0506.apt.dd.gz";
    assert_eq!(of(&format!("{image} # old")), Path::new(image));
    assert_eq!(of("/none # old"), Path::new("/none"));
}

#[test]
fn what_is_no_request_has_a_reason() {
    let not_utf8 = b"type: \xff\xfe".as_slice();
    for (text, request, reason) in [
        (b"".as_slice(), None, "no YAML mapping"),
        (b"[1, 2]", None, "no YAML mapping"),
        (b"type", None, "no YAML mapping"),
        (b"{type: clone", None, "no YAML"),
        (b"type: clone\ntype: clone", None, "twice"),
        (b"source: /dev/a", None, "type is missing"),
        (b"Type: status-request", None, "type is missing"),
        (b"type: [clone]", None, "type is missing"),
        (b"type: Clone", Some("Clone"), "no request of the type"),
        (b"type: clone\nsource: /a\nname: b", Some("clone"), "destination is missing"),
        (b"type: restore\nsource: /a\ndestination: ~", Some("restore"), "destination is missing"),
        (b"type: cancel-clone", Some("cancel-clone"), "id is missing"),
        (b"{type: restore, source: \"a\\0b\", destination: b}", Some("restore"), "NUL"),
        (not_utf8, Some("\u{fffd}\u{fffd}"), "no request of the type"),
        (b"\xff", None, "UTF-8"),
    ] {
        let rejection = rejection_of(text);
        let shown = String::from_utf8_lossy(text);
        assert_eq!(rejection.request.as_deref(), request, "{shown}");
        assert!(rejection.reason.contains(reason), "{shown}: {}", rejection.reason);
    }
    let long = format!("type: clone\nname: {}", "x".repeat(MESSAGE_BYTES));
    assert!(rejection_of(long.as_bytes()).reason.contains("longer"));
    let with_id = rejection_of(b"type: nonsense\nid: 7");
    assert_eq!(with_id.id.as_deref(), Some("7"));
}

#[test]
fn any_bytes_are_a_request_or_have_a_reason() {
    let mut random = fastrand::Rng::with_seed(5);
    let pieces: [&[u8]; 14] = [
        b"type: ", b"clone", b"\n", b"{", b"[", b"\"", b"- ", b": ", b"&a ", b"*a", b"\xff", b" #",
        b"|\n", b"? ",
    ];
    for _ in 0..20_000 {
        let mut message = Vec::new();
        for _ in 0..random.usize(..12) {
            match random.bool() {
                true => message.extend_from_slice(pieces[random.usize(..pieces.len())]),
                false => message.push(random.u8(..)),
            }
        }
        if let Err(rejection) = read(&message) {
            assert!(!rejection.reason.is_empty());
        }
    }
}
