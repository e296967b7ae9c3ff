//! The program under the name `loclone`: that tool's arguments, messages and exit codes, without its weaknesses.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use testkit::host::{Filesystem, Outcome, Program, TempDir, thaw};

use crate::live::{self, Live, Outer, assert_takes_a_write, judge, stopped_at};
use crate::support::{MIB, assert_same, make_mixed, names};

/// A link to the program, called as that tool is.
struct Loclone {
    folder: TempDir,
}

impl Loclone {
    fn new() -> Self {
        let folder = TempDir::new("loclone");
        symlink(env!("CARGO_BIN_EXE_blockprint"), folder.join("loclone")).unwrap();
        Loclone { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("loclone")
    }

    fn call(&self, arguments: &[&Path]) -> Program {
        Program::new(self.path()).args(arguments)
    }

    /// Runs it, and panics unless it says and ends so.
    #[track_caller]
    fn expect(&self, arguments: &[&Path], code: i32, stdout: &str, stderr: &str) -> Outcome {
        let outcome = self.call(arguments).run().expect_exit(code);
        assert_eq!(outcome.stdout, stdout, "{outcome}");
        assert_eq!(outcome.stderr, stderr, "{outcome}");
        outcome
    }
}

/// What is said of an image that is not mounted.
fn idle_lines(source: &Path) -> String {
    let source = source.display();
    format!("{source} is not mounted, not freezing\n{source} is not mounted, not thawing\n")
}

#[test]
fn arguments_are_judged_as_that_tool_judges_them() {
    let loclone = Loclone::new();
    let usage = format!("Usage: {} [src] [dest]\n", loclone.path().display());
    for arguments in [&["-h"][..], &["-x"], &["a", "b", "-h"], &["--help"]] {
        let paths: Vec<&Path> = arguments.iter().map(Path::new).collect();
        loclone.expect(&paths, 1, "", &usage);
    }
    loclone.expect(&[], 1, "", "Expected arguments\n");
    loclone.expect(&[Path::new("a")], 1, "", "Expected arguments\n");
}

#[test]
fn a_source_that_is_no_image_is_named_as_that_tool_names_it() {
    let Some(scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    let target = scratch.join("dest");
    for source in [scratch.path(), Path::new("/dev/null")] {
        let words = format!("{} is not a valid image\n", source.display());
        loclone.expect(&[source, &target], 1, "", &words);
    }
    let missing = scratch.join("missing");
    let words = format!("Error opening {}: No such file or directory\n", missing.display());
    loclone.expect(&[&missing, &target], 1, "", &words);
    assert_eq!(names(scratch.path()), [] as [&str; 0]);
}

#[test]
fn an_idle_image_is_cloned_with_two_lines_and_without_a_question() {
    let Some(_scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    for outer in Outer::BOTH {
        let outer = outer.make();
        let (image, target) = (outer.path().join("a.img"), outer.path().join("dest.img"));
        make_mixed(&image, 1, 1);
        loclone.expect(&[&image, &target], 0, &idle_lines(&image), "");
        assert_same(&image, &target);
        // Again, onto a longer file, with arguments that are ignored.
        fs::write(&target, vec![1; 20 * MIB as usize]).unwrap();
        let more = Path::new("ignored");
        loclone.expect(&[&image, &target, more, more], 0, &idle_lines(&image), "");
        assert_same(&image, &target);
        assert_eq!(names(outer.path()), ["a.img", "dest.img"]);
    }
}

#[test]
fn a_new_file_has_the_sources_mode_less_the_umask_and_an_old_one_keeps_its_own() {
    let Some(_scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    let outer = Outer::Xfs.make();
    let (image, target) = (outer.path().join("a.img"), outer.path().join("dest.img"));
    make_mixed(&image, 1, 1);
    fs::set_permissions(&image, Permissions::from_mode(0o666)).unwrap();
    chown(&image, Some(1234), Some(1234)).unwrap();
    let clone = || {
        let script = "umask 027 && exec \"$0\" \"$1\" \"$2\"";
        let program = Program::new("sh").args(["-c", script]).arg(loclone.path());
        program.arg(&image).arg(&target).run().expect_ok();
        let made = fs::metadata(&target).unwrap();
        (made.mode() & 0o7777, made.uid())
    };
    assert_eq!(clone(), (0o640, 0));
    fs::set_permissions(&target, Permissions::from_mode(0o604)).unwrap();
    chown(&target, Some(4321), None).unwrap();
    assert_eq!(clone(), (0o604, 4321));
}

#[test]
fn a_mounted_image_is_frozen_and_nothing_is_said() {
    let Some(_scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    for outer in Outer::BOTH {
        let live = Live::start(outer);
        let target = live.beside("dest.img");
        for _ in 0..3 {
            let running = stopped_at(loclone.call(&[&live.image, &target]), "frozen");
            let acknowledged = live.writer.acknowledged();
            running.signal("CONT");
            let outcome = running.wait().expect_ok();
            assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""), "{outcome}");
            live.assert_writable("loclone");
            judge(&target, acknowledged);
        }
        live.assert_nothing_but(&["dest.img"]);
    }
}

#[test]
fn a_clone_that_fails_is_reported_in_that_tools_words_and_leaves_dest_as_it_was() {
    let Some(scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    let live = Live::start(Outer::Xfs);
    let elsewhere = scratch.join("dest.img");
    let ext4 = Filesystem::ext4(64 * MIB);
    let [plain, clone_of_plain] = ["plain.img", "dest.img"].map(|name| ext4.path().join(name));
    make_mixed(&plain, 1, 1);
    for dest in [&elsewhere, &clone_of_plain] {
        fs::write(dest, "old").unwrap();
    }
    let image = live.image.display();
    let words = format!("Error cloning {image}: Invalid cross-device link\n");
    loclone.expect(&[&live.image, &elsewhere], 1, "", &words);
    live.assert_writable("the clone failed");
    let words = format!("Error cloning {}: Operation not supported\n", plain.display());
    let said = format!("{} is not mounted, not freezing\n", plain.display());
    loclone.expect(&[&plain, &clone_of_plain], 1, &said, &words);
    for dest in [&elsewhere, &clone_of_plain] {
        assert_eq!(fs::read(dest).unwrap(), b"old");
    }
    let missing = live.beside("no/such/dest");
    let words = format!("Error opening {}: No such file or directory\n", missing.display());
    loclone.expect(&[&live.image, &missing], 1, "", &words);
    let words = format!("Error opening {}: Is a directory\n", scratch.path().display());
    loclone.expect(&[&live.image, scratch.path()], 1, "", &words);
    live.assert_nothing_but(&[]);
}

#[test]
fn a_freeze_that_fails_is_reported_in_that_tools_words() {
    let Some(_scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    let live = Live::start(Outer::Xfs);
    let target = live.beside("dest.img");
    fs::write(&target, "old").unwrap();
    live.inner.as_mount().freeze();
    let words = format!("Error freezing {}: Device or resource busy\n", live.image.display());
    loclone.expect(&[&live.image, &target], 1, "", &words);
    assert!(thaw(live.inner.path()), "it was thawed by us");
    live.assert_writable("it was frozen by somebody else");
    assert_eq!(fs::read(&target).unwrap(), b"old");
}

#[test]
fn a_clone_that_takes_too_long_is_thawed_and_fails() {
    let Some(_scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    let live = Live::start(Outer::Xfs);
    let target = live.beside("dest.img");
    fs::write(&target, "old").unwrap();
    let running = stopped_at(loclone.call(&[&live.image, &target]), "frozen");
    assert!(live.writer.goes_on(std::time::Duration::from_secs(8)), "nobody thaws");
    running.signal("CONT");
    let outcome = running.wait().expect_exit(1);
    let head = format!("Error thawing {}: ", live.image.display());
    assert!(outcome.stderr.starts_with(&head), "{outcome}");
    assert_eq!(outcome.stdout, "", "{outcome}");
    assert_eq!(fs::read(&target).unwrap(), b"old");
}

#[test]
fn killed_or_interrupted_it_leaves_nothing_frozen_and_dest_as_it_was() {
    let Some(_scratch) = live::scratch() else { return };
    let loclone = Loclone::new();
    let live = Live::start(Outer::Btrfs);
    let target = live.beside("dest.img");
    fs::write(&target, "old").unwrap();
    for signal in ["KILL", "INT", "TERM"] {
        for step in ["precloned", "frozen", "cloned"] {
            let running = stopped_at(loclone.call(&[&live.image, &target]), step);
            running.signal(signal);
            running.signal("CONT");
            let outcome = running.wait();
            assert!(!outcome.status.success(), "{signal} at {step}: {outcome}");
            live.assert_writable(&format!("{signal} at {step}"));
            assert_takes_a_write(live.inner.path());
            live::until_no_process_names(&target);
            assert_eq!(fs::read(&target).unwrap(), b"old");
            live.assert_nothing_but(&["dest.img"]);
        }
    }
}
