//! `cargo xtask demo`: the main job on real filesystems, step by step, with times and sizes.

mod chunks;
mod sync;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::host::{
    Filesystem, Load, LoopDevice, LoopOptions, Needs, Outcome, Program, TempDir, Writer, fsck,
    make_image, read_records,
};

use crate::units;
use crate::workspace::Workspace;

const OUTER_BYTES: u64 = 4 << 30;
const IMAGE_BYTES: u64 = 1 << 30;
const FILES_BYTES: u64 = 512 << 20;

/// What the user asks for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    program: Option<PathBuf>,
}

impl Options {
    /// Reads the words after the verb.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        match words {
            [] => Ok(Options::default()),
            [option, path] if option == "--program" => Ok(Options { program: Some(path.into()) }),
            _ => Err("demo understands --program PATH and nothing else".to_string()),
        }
    }
}

/// Builds the program and shows what it does. Guards clean up, also when a step fails.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let program = match &options.program {
        Some(path) => {
            path.canonicalize().map_err(|cause| format!("{}: {cause}", path.display()))?
        }
        None => Workspace::load()?.build_program()?,
    };
    let mut demo = Demo { program, started: Instant::now(), step: 0 };
    let missing = Needs::root().filesystems(&["xfs", "ext4"]).tools(&["e2fsck"]).missing();
    let scratch = TempDir::new("demo");
    let skipped = if missing.is_empty() {
        demo.clone_in_use(&scratch)?;
        0
    } else {
        println!("skipped: cloning an image in use, onto a device: {}", missing.join(", "));
        demo.copy_files(&scratch)?;
        1
    };
    drop(scratch);
    println!("\ndone in {}; all of it is removed again", units::time(demo.started.elapsed()));
    if skipped > 0 {
        println!("{skipped} part skipped, which needs root");
    }
    Ok(())
}

struct Demo {
    program: PathBuf,
    started: Instant,
    step: u32,
}

impl Demo {
    fn clone_in_use(&mut self, scratch: &TempDir) -> Result<(), String> {
        self.say("make an XFS with reflinks, and on it an image with an ext4, mounted");
        let outer = Filesystem::xfs(OUTER_BYTES);
        let image = outer.path().join("disk.img");
        make_image("ext4", &image, IMAGE_BYTES);
        let inner = Filesystem::mount(&image);
        let files = fill(inner.path(), FILES_BYTES)?;
        println!("   {}, with {files} files of /usr: {}", image.display(), sizes(&image)?);

        self.say("start a writer in it: numbered records, each with fsync");
        let writer = Writer::start(inner.path(), &Load::default());
        std::thread::sleep(Duration::from_millis(500));
        println!("   {} records acknowledged", writer.acknowledged());

        self.say("what is it, and who uses it?");
        self.show(&self.call("info").arg(&image).run())?;

        self.say("clone it while the writer goes on");
        let clone = outer.path().join("clone.img");
        let before = writer.acknowledged();
        let start = Instant::now();
        let outcome = self.call("clone").arg("--json").arg(&image).arg(&clone).run();
        succeeded(&outcome)?;
        let pause = writer.longest_pause(start);
        let result = outcome.result();
        let frozen_ms = result["frozen_ms"].as_f64();
        let frozen = frozen_ms.ok_or_else(|| format!("nothing was frozen:\n{outcome}"))?;
        let method = result["clones"][0]["method"].as_str().unwrap_or("?");
        println!(
            "   cloned in {} ({method}), frozen for {}, longest pause of the writer {}",
            units::time(outcome.elapsed),
            units::time(Duration::from_secs_f64(frozen / 1e3)),
            units::time(pause.length),
        );
        if !writer.goes_on(Duration::from_secs(2)) {
            return Err("the writer does not go on after the clone".to_string());
        }
        let acknowledged = writer.stop()?;
        println!("   {before} records were acknowledged before, {acknowledged} by now");

        self.say("judge the clone: e2fsck, and every record from before the freeze");
        let start = Instant::now();
        fsck::ext4(&clone);
        println!("   e2fsck -fn: clean ({})", units::time(start.elapsed()));
        let mounted = Filesystem::mount_read_only(&clone);
        let last = read_records(mounted.path())?;
        drop(mounted);
        if last < before {
            return Err(format!(
                "the clone ends with record {last}, and {before} were acknowledged"
            ));
        }
        println!("   records 1 to {last} are in it, intact");

        self.say("copy the clone to a block device, and read it back");
        let backing = scratch.join("device.img");
        let file = fs::File::create(&backing).and_then(|file| file.set_len(IMAGE_BYTES));
        file.map_err(|cause| format!("cannot make {}: {cause}", backing.display()))?;
        let options = LoopOptions { direct_io: true, ..LoopOptions::default() };
        let device = LoopDevice::attach(&backing, &options);
        let outcome = self.call("copy").arg("--verify").arg(&clone).arg(device.path()).run();
        self.show(&outcome)?;
        self.tell_rate("copied and verified", &outcome, IMAGE_BYTES);

        self.compare(&clone, device.path())?;
        self.keep_versions(&clone, device.path(), scratch)?;
        self.sync(&clone, device.path(), scratch)
    }

    /// What can be shown without root.
    fn copy_files(&mut self, scratch: &TempDir) -> Result<(), String> {
        self.say("make an image full of files");
        let image = scratch.join("disk.img");
        let folder = scratch.join("files");
        fs::create_dir(&folder).map_err(|cause| cause.to_string())?;
        fill(&folder, FILES_BYTES)?;
        let mut command = testkit::host::tool("mkfs.ext4");
        command.args(["-q", "-F", "-d"]).arg(&folder).arg(&image);
        testkit::host::try_run(command.arg(format!("{}k", IMAGE_BYTES / 1024)))?;
        println!("   {}: {}", image.display(), sizes(&image)?);

        self.say("what is it?");
        self.show(&self.call("info").arg(&image).run())?;

        self.say("copy it, and read the copy back");
        let copy = scratch.join("copy.img");
        let outcome = self.call("copy").arg("--verify").arg(&image).arg(&copy).run();
        self.show(&outcome)?;
        println!("   {}: {}", copy.display(), sizes(&copy)?);
        self.tell_rate("copied and verified", &outcome, IMAGE_BYTES);

        self.compare(&image, &copy)?;
        self.keep_versions(&image, &copy, scratch)?;
        self.sync(&image, &copy, scratch)
    }

    /// Equal at first, and different once a byte has changed.
    fn compare(&mut self, left: &Path, right: &Path) -> Result<(), String> {
        self.say("compare both, then change one byte and compare again");
        let outcome = self.call("compare").arg(left).arg(right).run();
        self.show(&outcome)?;
        self.tell_rate("compared", &outcome, IMAGE_BYTES);
        change_byte(right, IMAGE_BYTES / 2)?;
        let outcome = self.call("compare").arg(left).arg(right).run();
        print_indented(&outcome.stdout);
        match outcome.status.code() {
            Some(1) => Ok(()),
            _ => Err(format!("a changed byte was not found:\n{outcome}")),
        }
    }

    fn say(&mut self, what: &str) {
        self.step += 1;
        println!("\n{}. {what}  [{}]", self.step, units::time(self.started.elapsed()));
    }

    fn call(&self, subcommand: &str) -> Program {
        Program::new(&self.program).arg(subcommand)
    }

    fn show(&self, outcome: &Outcome) -> Result<(), String> {
        print_indented(&outcome.stdout);
        succeeded(outcome)
    }

    fn tell_rate(&self, what: &str, outcome: &Outcome, size_bytes: u64) {
        let rate = units::rate(size_bytes, outcome.elapsed);
        let (size, time) = (units::size(size_bytes), units::time(outcome.elapsed));
        println!("   {what} {size} in {time}: {rate}");
    }
}

fn succeeded(outcome: &Outcome) -> Result<(), String> {
    if outcome.status.success() { Ok(()) } else { Err(outcome.to_string()) }
}

fn print_indented(text: &str) {
    for line in text.lines() {
        println!("   | {line}");
    }
}

/// Copies files of `/usr` into a folder until they make up so much; gives their number.
fn fill(folder: &Path, size_bytes: u64) -> Result<u64, String> {
    let (mut left_bytes, mut count) = (size_bytes, 0);
    let mut folders = vec![PathBuf::from("/usr/bin"), PathBuf::from("/usr/lib")];
    while let Some(source) = folders.pop() {
        for entry in fs::read_dir(&source).into_iter().flatten().flatten() {
            let Ok(meta) = fs::symlink_metadata(entry.path()) else {
                continue;
            };
            if meta.is_dir() {
                folders.push(entry.path());
            }
            if !meta.is_file() || meta.len() > left_bytes {
                continue;
            }
            let target = folder.join(format!("{count}-{}", entry.file_name().display()));
            let bytes = fs::copy(entry.path(), &target);
            left_bytes -=
                bytes.map_err(|cause| format!("cannot write {}: {cause}", target.display()))?;
            count += 1;
        }
        if left_bytes < 1 << 20 {
            break;
        }
    }
    Ok(count)
}

fn sizes(path: &Path) -> Result<String, String> {
    let meta = fs::metadata(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
    Ok(format!("{}, {} on disk", units::size(meta.len()), units::size(meta.blocks() * 512)))
}

fn change_byte(path: &Path, offset: u64) -> Result<(), String> {
    let change = || {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset)?;
        file.write_all_at(&[!byte[0]], offset)?;
        file.sync_all()
    };
    change().map_err(|cause| format!("cannot change {}: {cause}", path.display()))
}
