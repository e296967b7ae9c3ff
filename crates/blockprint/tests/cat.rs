//! `blockprint cat`: ranges, judged by `dd`; damage, of which no byte may come out; outputs that go away.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use testkit::host::{TempDir, tool};

use crate::index_image::{Made, flip_a_bit};
use crate::support::{
    MIB, Part, allocated, assert_refused, assert_same, blockprint, make, make_mixed,
};

/// `blockprint cat IMAGE …`, with its standard output as bytes.
fn cat(image: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blockprint"))
        .arg("cat")
        .arg(image)
        .args(more)
        .output()
        .unwrap()
}

/// What `dd` cuts out.
fn dd(image: &Path, offset: u64, len: u64) -> Vec<u8> {
    let mut command = tool("dd");
    command.arg(format!("if={}", image.display())).args([
        "iflag=skip_bytes,count_bytes",
        &format!("skip={offset}"),
        &format!("count={len}"),
        "status=none",
    ]);
    command.output().unwrap().stdout
}

#[test]
fn ranges_are_those_that_dd_cuts_out() {
    let Some(made) = Made::mixed(220, 3) else { return };
    let store = made.store.to_str().unwrap();
    let size = fs::metadata(&made.image).unwrap().len();
    let mut random = fastrand::Rng::with_seed(220);
    let mut ranges = vec![(0, size), (0, 0), (size, 0), (size - 1, 1), (MIB - 1, 2), (0, MIB + 1)];
    ranges.extend((0..20).map(|_| {
        let offset = random.u64(0..size);
        (offset, random.u64(0..=(size - offset).min(3 * MIB)))
    }));
    for (offset, len) in ranges {
        let (o, l) = (offset.to_string(), len.to_string());
        for image in [&made.index, &made.image] {
            let got = cat(image, &["-s", store, "-o", &o, "-l", &l, "-n", "3"]);
            assert!(got.status.success() && got.stderr.is_empty(), "{got:?}");
            assert!(got.stdout == dd(&made.image, offset, len), "{len} bytes at {offset}");
        }
    }
    let rest = cat(&made.index, &["-s", store, "--offset", "1M"]);
    assert!(rest.stdout == dd(&made.image, MIB, size));
    let part = cat(&made.index, &["-s", store, "--offset", "64K", "--length", "1.5K"]);
    assert!(part.stdout == dd(&made.image, 64 << 10, 1536));
}

#[test]
fn a_range_that_is_not_within_the_image_is_refused() {
    let scratch = TempDir::new("cat");
    let image = scratch.join("disk.img");
    make_mixed(&image, 221, 1);
    for range in [["-o", "4M", "-l", "1"], ["-o", "4194305", "-l", "0"], ["-o", "1", "-l", "4M"]] {
        let outcome = blockprint(&scratch).arg("cat").arg(&image).args(range).run();
        assert_refused(outcome, 17, &["4194304 bytes"]);
    }
    let outcome = blockprint(&scratch).arg("cat").arg(&image).args(["-o", "5M"]).run();
    assert_refused(outcome, 17, &["offset 5242880"]);
    let max = u64::MAX.to_string();
    let outcome = blockprint(&scratch).arg("cat").arg(&image).args(["-o", "1", "-l", &max]).run();
    assert_refused(outcome, 17, &["4194304 bytes"]);
}

#[test]
fn before_a_damaged_chunk_the_output_ends_and_no_wrong_byte_is_written() {
    let Some(made) = Made::mixed(222, 4) else { return };
    let chunk = made.chunk_in_the_middle();
    flip_a_bit(&chunk);
    let content = fs::read(&made.image).unwrap();
    let store = made.store.to_str().unwrap();
    for threads in ["1", "4"] {
        let got = cat(&made.index, &["-s", store, "-n", threads]);
        assert_eq!(got.status.code(), Some(18), "{}", String::from_utf8_lossy(&got.stderr));
        let said = String::from_utf8_lossy(&got.stderr);
        assert!(said.contains(chunk.to_str().unwrap()), "{said}");
        assert!(content.starts_with(&got.stdout), "wrong bytes came out");
        assert!(!got.stdout.is_empty() && got.stdout.len() < content.len());
    }
    let out = made.scratch.join("out");
    let outcome = made.with_store("cat", &[&made.index, &out]).run();
    assert_refused(outcome, 18, &[chunk.to_str().unwrap()]);
    assert!(!out.exists());
}

#[test]
fn a_file_is_made_as_a_whole_and_with_holes_and_replaces_only_by_force() {
    let Some(made) = Made::of(|image| {
        make(image, 223, &[Part::Noise(MIB), Part::Hole(20 * MIB), Part::Noise(MIB + 5)]);
    }) else {
        return;
    };
    let out = made.scratch.join("out");
    let result = made.with_store("cat", &[&made.index, &out]).arg("--json").run().expect_ok();
    assert_eq!(result.result()["written_bytes"], 22 * MIB + 5);
    assert_same(&made.image, &out);
    assert!(allocated(&out) < 5 * MIB, "{} bytes", allocated(&out));
    let outcome = made.with_store("cat", &[&made.index, &out]).run();
    assert_refused(outcome, 11, &["exists already", "--force"]);
    fs::set_permissions(&out, fs::Permissions::from_mode(0o600)).unwrap();
    made.with_store("cat", &[&made.index, &out]).args(["--force", "-l", "10"]).run().expect_ok();
    assert_eq!(fs::read(&out).unwrap(), dd(&made.image, 0, 10));
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let outcome = made.with_store("cat", &[&made.index, &made.index]).arg("--force").run();
    assert_refused(outcome, 17, &["onto itself"]);
    let outcome = made.with_store("cat", &[&made.index, made.scratch.path()]).run();
    assert_refused(outcome, 17, &["something else stands there"]);
}

#[test]
fn that_nobody_reads_any_more_is_no_error() {
    let scratch = TempDir::new("cat");
    let image = scratch.join("disk.img");
    make_mixed(&image, 224, 8);
    let mut child = Command::new(env!("CARGO_BIN_EXE_blockprint"))
        .arg("cat")
        .arg(&image)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = vec![0; 100];
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut first).unwrap();
    drop(output);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
    assert_eq!(first, dd(&image, 0, 100));
}

#[test]
fn an_output_that_is_full_is_an_error() {
    let scratch = TempDir::new("cat");
    let image = scratch.join("disk.img");
    make_mixed(&image, 225, 1);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = Command::new(env!("CARGO_BIN_EXE_blockprint"))
        .arg("cat")
        .arg(&image)
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(15), "{ended:?}");
}

#[test]
fn events_and_bytes_do_not_share_standard_output() {
    let scratch = TempDir::new("cat");
    let image = scratch.join("disk.img");
    make_mixed(&image, 226, 1);
    let outcome = blockprint(&scratch).arg("cat").arg(&image).arg("--json").run().expect_exit(17);
    assert_eq!(outcome.events("error").len(), 1, "{outcome}");
    let out = scratch.join("out");
    blockprint(&scratch).arg("cat").arg(&image).arg(&out).arg("--json").run().expect_ok();
    assert_same(&image, &out);
}
