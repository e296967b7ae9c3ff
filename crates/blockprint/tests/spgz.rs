//! The program under the name `spgz`: that tool's arguments, containers and exit codes, without its weaknesses.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use testkit::host::{
    LoopDevice, LoopOptions, Needs, Outcome, Program, TempDir, require, run, tool,
};

use crate::support::{
    KIB, MIB, Part, allocated, assert_same, make, make_mixed, make_noise, names, overwrite,
    partial_of, until,
};

/// A link to the program, called as that tool is, and a folder to work in.
struct Spgz {
    program: TempDir,
    folder: TempDir,
}

impl Spgz {
    fn new() -> Self {
        let program = TempDir::new("spgz-program");
        symlink(env!("CARGO_BIN_EXE_blockprint"), program.join("spgz")).unwrap();
        Spgz { program, folder: TempDir::new("spgz") }
    }

    /// A call from within the folder.
    fn call(&self, arguments: &[&str]) -> Program {
        Program::new(self.program.join("spgz")).args(arguments).current_dir(self.folder.path())
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Outcome {
        self.call(arguments).run().expect_exit(0)
    }

    /// Panics unless it fails with one line that has a date and each of `parts`.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], parts: &[&str]) -> Outcome {
        let outcome = self.call(arguments).run().expect_exit(1);
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        let date: String = outcome.stderr.chars().take(20).collect();
        let shape: String =
            date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000/00/00 00:00:00 ", "{outcome}");
        parts.iter().fold(outcome, |outcome, part| outcome.expect_error(part))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Containers of the real program, and what is in them.
fn vectors() -> (PathBuf, Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/tests/vectors/spgz");
    let cases = fs::read(folder.join("cases.json")).unwrap();
    (folder.canonicalize().unwrap(), serde_json::from_slice(&cases).unwrap())
}

fn sha256(path: &Path) -> String {
    run(tool("sha256sum").arg(path)).split(' ').next().unwrap().to_string()
}

#[test]
fn each_container_of_the_real_program_is_extracted_and_measured() {
    let spgz = Spgz::new();
    let (folder, cases) = vectors();
    let files = cases["files"].as_array().unwrap();
    assert!(files.len() >= 14);
    let crafted = cases["crafted"].as_array().unwrap().iter();
    let valid = crafted.filter(|case| case["valid"] == true).map(|case| {
        (&case["file"], &case["upstream"]["extract_sha256"], &case["upstream"]["extract_len"])
    });
    let good = files.iter().map(|case| (&case["file"], &case["sha256"], &case["size"]));
    for (file, digest, size) in good.chain(valid) {
        let file = file.as_str().unwrap();
        let container = folder.join(file);
        let container = container.to_str().unwrap();
        let size = size.as_u64().unwrap();
        assert_eq!(spgz.run(&["-s", container]).stdout, format!("{size}\n"), "{file}");
        for flags in [&["-x"][..], &["-no-sparse", "-x"]] {
            spgz.run(&[flags, &[container, "out"]].concat());
            let out = spgz.path("out");
            assert_eq!(fs::metadata(&out).unwrap().len(), size, "{file}");
            assert_eq!(sha256(&out), digest.as_str().unwrap(), "{file}");
        }
        let said = spgz.call(&["-x", container, "-"]);
        assert_eq!(sha256_of_stdout(said), digest.as_str().unwrap(), "{file}");
    }
    assert_eq!(names(spgz.folder.path()), ["out"]);
}

/// What it writes to a pipe.
#[track_caller]
fn sha256_of_stdout(mut program: Program) -> String {
    let mut child = program.command().stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let said = run(tool("sha256sum").stdin(Stdio::from(output)));
    assert!(child.wait().unwrap().success());
    said.split(' ').next().unwrap().to_string()
}

#[test]
fn each_container_that_is_broken_is_refused_and_leaves_nothing() {
    let spgz = Spgz::new();
    let (folder, cases) = vectors();
    let crafted = cases["crafted"].as_array().unwrap().iter();
    let mut count = 0;
    for case in crafted.filter(|case| case["valid"] == false) {
        count += 1;
        let file = case["file"].as_str().unwrap();
        let container = folder.join(file);
        spgz.refuses(&["-x", container.to_str().unwrap(), "out"], &[file]);
        assert!(names(spgz.folder.path()).is_empty(), "{file}");
        // Where that tool cannot tell the size, it is damaged for us, too.
        if case["upstream"]["size_exit"] == 1 {
            spgz.refuses(&["-s", container.to_str().unwrap()], &[file]);
        }
    }
    assert!(count >= 10, "only {count} were tried");
}

#[test]
fn what_is_packed_comes_back_and_its_blocks_are_gzip() {
    let spgz = Spgz::new();
    let image = spgz.path("image");
    make_mixed(&image, 400, 1);
    // A block that can be compressed: the first.
    let text: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    overwrite(&image, 0, &text.as_bytes()[..131_071]);
    spgz.run(&["-c", "disk.spgz", "image"]);
    let container = spgz.path("disk.spgz");
    assert_eq!(spgz.run(&["-s", "disk.spgz"]).stdout, format!("{}\n", 4 * MIB));
    assert!(allocated(&container) < allocated(&image), "zeroes were stored");
    let mut slot = vec![0; 131_072];
    File::open(&container).unwrap().read_exact_at(&mut slot, 4096).unwrap();
    assert_eq!(slot[0], 1, "the first block is not compressed");
    let member = spgz.path("member.gz");
    fs::write(&member, &slot[1..]).unwrap();
    let plain = spgz.path("member");
    // gzip says that zeroes behind the member are ignored, and ends with 2 for it.
    let mut gunzip = tool("gzip");
    let status = gunzip.arg("-dc").arg(&member).stdout(File::create(&plain).unwrap()).status();
    assert!(matches!(status.unwrap().code(), Some(0 | 2)));
    assert!(fs::read(&plain).unwrap() == text.as_bytes()[..131_071]);
    spgz.run(&["-x", "disk.spgz", "back"]);
    assert_same(&image, &spgz.path("back"));
    assert!(allocated(&spgz.path("back")) < allocated(&image), "zeroes were written");
    spgz.run(&["-no-sparse", "-x", "disk.spgz", "dense"]);
    assert_same(&image, &spgz.path("dense"));
    assert!(allocated(&spgz.path("dense")) >= 4 * MIB, "zeroes were left out");
}

#[test]
fn a_stream_of_unknown_length_is_packed_as_a_file_is() {
    let spgz = Spgz::new();
    for (number, len) in [0, 1, 131_071, 131_072, 3 * MIB + 5, 40 * MIB + 1].into_iter().enumerate()
    {
        let (image, streamed) = (spgz.path("image"), spgz.path("streamed.spgz"));
        make(&image, 410 + number as u64, &[Part::Noise(len / 2), Part::Zeroes(len - len / 2)]);
        spgz.run(&["-c", "of-file.spgz", "image"]);
        let mut program = spgz.call(&["-c", "streamed.spgz", "-"]);
        let mut cat = tool("cat").arg(&image).stdout(Stdio::piped()).spawn().unwrap();
        program.command().stdin(Stdio::from(cat.stdout.take().unwrap()));
        program.run().expect_exit(0);
        cat.wait().unwrap();
        assert_same(&spgz.path("of-file.spgz"), &streamed);
        // Standard input that is a file is read from where it stands.
        fs::remove_file(&streamed).unwrap();
        let mut program = spgz.call(&["-c", "streamed.spgz", "-"]);
        program.command().stdin(File::open(&image).unwrap());
        program.run().expect_exit(0);
        assert_same(&spgz.path("of-file.spgz"), &streamed);
        assert_eq!(names(spgz.folder.path()), ["image", "of-file.spgz", "streamed.spgz"]);
        for name in names(spgz.folder.path()) {
            fs::remove_file(spgz.path(&name)).unwrap();
        }
    }
}

#[test]
fn a_stream_that_stops_is_given_up_at_a_signal_and_leaves_nothing() {
    let spgz = Spgz::new();
    run(tool("mkfifo").arg(spgz.path("fifo")));
    let running = spgz.call(&["-c", "disk.spgz", "fifo"]).spawn();
    // Opened for reading too, so that this does not wait.
    let writer = File::options().read(true).write(true).open(spgz.path("fifo")).unwrap();
    until("it has begun", || partial_of(&spgz.path("disk.spgz")).exists());
    running.signal("INT");
    let outcome = running.wait_at_most(Duration::from_secs(20)).expect_exit(1);
    outcome.expect_error("interrupted").expect_error("nothing was left behind");
    drop(writer);
    assert_eq!(names(spgz.folder.path()), ["fifo"]);
}

#[test]
fn modes_are_those_that_the_umask_leaves() {
    let spgz = Spgz::new();
    let image = spgz.path("image");
    make_noise(&image, 420, 10_000);
    fs::set_permissions(&image, Permissions::from_mode(0o600)).unwrap();
    let shell = |umask: &str, line: &str| {
        let program = spgz.program.join("spgz");
        let script = format!("umask {umask}; exec \"$0\" {line}");
        let call = Program::new("sh").args(["-c", &script]).arg(program);
        call.current_dir(spgz.folder.path()).run().expect_ok();
    };
    let mode = |name: &str| fs::metadata(spgz.path(name)).unwrap().mode() & 0o7777;
    shell("022", "-c a.spgz image");
    shell("077", "-c b.spgz image");
    shell("027", "-c c.spgz - < image");
    shell("027", "-x a.spgz out");
    assert_eq!((mode("a.spgz"), mode("b.spgz")), (0o644, 0o600));
    assert_eq!((mode("c.spgz"), mode("out")), (0o640, 0o640));
}

#[test]
fn a_container_that_exists_is_not_touched_and_an_output_is_replaced() {
    let spgz = Spgz::new();
    make_noise(&spgz.path("image"), 421, 300_000);
    fs::write(spgz.path("disk.spgz"), "old").unwrap();
    spgz.refuses(&["-c", "disk.spgz", "image"], &["disk.spgz", "exists already"]);
    let mut program = spgz.call(&["-c", "disk.spgz", "-"]);
    program.command().stdin(File::open(spgz.path("image")).unwrap());
    program.run().expect_exit(1).expect_error("exists already");
    assert_eq!(fs::read(spgz.path("disk.spgz")).unwrap(), b"old");
    spgz.refuses(&["-c", "new.spgz", "nothing"], &["nothing", "No such file"]);
    spgz.refuses(&["-x", "image", "out"], &["image"]);
    spgz.run(&["-c", "new.spgz", "image"]);
    make_noise(&spgz.path("out"), 422, 900_000);
    spgz.run(&["-x", "new.spgz", "out"]);
    assert_same(&spgz.path("image"), &spgz.path("out"));
    assert_eq!(names(spgz.folder.path()), ["disk.spgz", "image", "new.spgz", "out"]);
}

#[test]
fn a_redirected_standard_output_is_not_cut() {
    let spgz = Spgz::new();
    make_noise(&spgz.path("image"), 423, 10_000);
    spgz.run(&["-c", "disk.spgz", "image"]);
    fs::write(spgz.path("out"), "what was there before\n").unwrap();
    let mut program = spgz.call(&["-x", "disk.spgz", "-"]);
    let file = File::options().append(true).open(spgz.path("out")).unwrap();
    let status = program.command().stdout(file).status().unwrap();
    assert!(status.success());
    let found = fs::read(spgz.path("out")).unwrap();
    assert!(found.starts_with(b"what was there before\n"));
    assert!(found[22..] == fs::read(spgz.path("image")).unwrap());
}

#[test]
fn damaged_blocks_are_skipped_only_if_asked_and_listed() {
    let spgz = Spgz::new();
    let image = spgz.path("image");
    let text: String = (0..150_000).map(|line| format!("line {line}\n")).collect();
    fs::write(&image, &text).unwrap();
    spgz.run(&["-c", "disk.spgz", "image"]);
    for block in [2, 5] {
        overwrite(&spgz.path("disk.spgz"), 4096 + block * 131_072 + 50, b"????????");
    }
    spgz.refuses(&["-x", "disk.spgz", "out"], &["disk.spgz", "damaged"]);
    assert!(!spgz.path("out").exists());
    let mut content = text.into_bytes();
    for block in [2, 5] {
        content[block * 131_071..(block + 1) * 131_071].fill(0);
    }
    let outcome = spgz.call(&["-skip-damaged", "-x", "disk.spgz", "out"]).run().expect_exit(3);
    assert_eq!(outcome.stderr.lines().count(), 2, "{outcome}");
    outcome.expect_error("131071 bytes at offset 262142").expect_error("offset 655355");
    assert!(fs::read(spgz.path("out")).unwrap() == content);
    let outcome = spgz.call(&["--skip-damaged", "-x", "disk.spgz", "-"]).run().expect_exit(3);
    assert!(outcome.stdout.as_bytes() == content);
    outcome.expect_error("offset 262142").expect_error("offset 655355");
    assert_eq!(names(spgz.folder.path()), ["disk.spgz", "image", "out"]);
}

#[test]
fn a_device_has_to_have_exactly_the_size_of_the_image() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let spgz = Spgz::new();
    make_mixed(&spgz.path("image"), 430, 1);
    spgz.run(&["-c", "disk.spgz", "image"]);
    for (len, part) in [(4 * MIB - 4 * KIB, "too small"), (4 * MIB + 4 * KIB, "larger")] {
        let disk = scratch.join("disk");
        make_noise(&disk, 431, len);
        let before = sha256(&disk);
        let device = LoopDevice::attach(&disk, &LoopOptions::default());
        let path = device.path().to_str().unwrap();
        spgz.refuses(&["-x", "disk.spgz", path], &[path, part]);
        drop(device);
        assert_eq!(sha256(&disk), before, "it was written to");
    }
    let disk = scratch.join("disk");
    make_noise(&disk, 432, 4 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let path = device.path().to_str().unwrap();
    spgz.run(&["-x", "disk.spgz", path]);
    assert_same(&spgz.path("image"), device.path());
    spgz.run(&["-c", "again.spgz", path]);
    assert_same(&spgz.path("disk.spgz"), &spgz.path("again.spgz"));
}

#[test]
fn a_call_that_makes_no_sense_ends_as_that_tool_ends() {
    let spgz = Spgz::new();
    for line in
        ["", "-x a -c b", "-x a -s b", "-c a -s b", "a", "-x a", "-c a", "-c a b c", "-s a b"]
    {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        let outcome = spgz.call(&arguments).run().expect_exit(1);
        assert!(outcome.stdout.starts_with("Usage: spgz"), "{outcome}");
        outcome.expect_error("-no-sparse");
    }
    for flag in ["-y", "--extract", "-x=a=b -z"] {
        let arguments: Vec<&str> = flag.split_whitespace().collect();
        let outcome = spgz.call(&arguments).run().expect_exit(2);
        outcome.expect_error("flag provided but not defined");
    }
    spgz.run(&["-help"]);
    spgz.refuses(&["-b", "disk.spgz", "/dev/nbd0"], &["-b is not supported", "losetup"]);
    spgz.refuses(&["-buse-readonly", "-b", "disk.spgz", "/dev/nbd0"], &["-b is not supported"]);
    assert!(names(spgz.folder.path()).is_empty());
}
