//! `spgz`: containers made, extracted and measured, in that tool's arguments and exit codes, without its weaknesses.
//!
//! Source: spgz v1.2.1. Unlike that tool, a container or image appears under its name only when it is complete and on the
//! disk, nothing is left after a failure, a redirected standard output is not cut, and damage that it does not notice is
//! an error.

mod args;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use engine::location::{Format, Location};
use engine::ops::cat::{self, CatRequest};
use engine::ops::copy::{self, CopyRequest, NewMode, OnReadError, TargetKind};
use engine::ops::info::{self, InfoRequest};
use engine::ops::pack::{self, PackRequest};
use engine::stores::Stores;
use engine::{Error, ErrorKind, Listener, Phase, RangeSet, Reflink, Result, Task, Threads};

use super::diskrsync::log;
use super::output::show;
use super::refusal::refuse;
use crate::render::{complain, say};
use crate::{debug, exit, signals};
use args::{Call, Refused, Work};

pub(crate) fn main() -> ExitCode {
    let call = match args::parse(std::env::args_os().skip(1)) {
        Ok(call) => call,
        Err(Refused::Help) => {
            complain(args::USAGE);
            complain(args::FLAGS);
            return ExitCode::SUCCESS;
        }
        Err(Refused::Flag(why)) => {
            complain(&why);
            complain(args::USAGE);
            complain(args::FLAGS);
            return ExitCode::from(2);
        }
        Err(Refused::Usage(why)) => {
            say(args::USAGE);
            complain(&format!("{why}\n{}", args::FLAGS));
            return ExitCode::FAILURE;
        }
    };
    let ears = Ears { debug: call.debug };
    let task = Task::new(Box::new(ears), signals::cancel_flag());
    match run(&call, &task) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(exit::INCOMPLETE),
        Err(error) => {
            log::line(&error.full_sentence());
            ExitCode::FAILURE
        }
    }
}

/// Does it. Returns whether something is missing in what was written.
fn run(call: &Call, task: &Task) -> Result<bool> {
    match &call.work {
        Work::Create { container, input } => create(container, input, task).map(|()| false),
        Work::Extract { container, output } => {
            let (damaged, lost_end) = extract(call, container, output, task)?;
            list(container, &damaged);
            Ok(!damaged.is_empty() || lost_end)
        }
        Work::Size { container } => {
            let request = InfoRequest {
                image: at(container, Format::Spgz),
                stores: Stores::default(),
                map: false,
            };
            show(&info::facts(&request)?.size_bytes.to_string()).map(|()| false)
        }
        Work::Serve => Err(refuse(
            "-b is not supported: it needs the network block device of the kernel (extract the image with -x, and attach \
             it with losetup)",
        )),
    }
}

/// Makes a container of a file, a device, or whatever else has an end.
fn create(container: &Path, input: &Path, task: &Task) -> Result<()> {
    let stream = match input == Path::new("-") {
        true => Some(File::from(own(&io::stdin(), "standard input")?)),
        false if is_stream(input) => Some(open_stream(input, File::options().read(true))?),
        false => None,
    };
    if let Some(stream) = stream {
        let request = PackRequest {
            target: container.to_owned(),
            block_bytes: None,
            threads: Threads::Automatic,
            steps: debug::steps(),
        };
        pack::perform(pack::plan(request)?, stream, task)?;
        return Ok(());
    }
    let request = CopyRequest {
        force: false,
        ..request(at(input, Format::Raw), at(container, Format::Spgz))
    };
    copy::perform(copy::plan(request, task)?, task)?;
    Ok(())
}

/// Writes the image out. Returns what of it was damaged, and whether its end is lost.
fn extract(call: &Call, container: &Path, output: &Path, task: &Task) -> Result<(RangeSet, bool)> {
    let source = at(container, Format::Spgz);
    if output == Path::new("-") {
        return to_stream(call, source, &mut io::stdout().lock(), task);
    }
    if is_stream(output) {
        let mut stream = open_stream(output, File::options().write(true))?;
        return to_stream(call, source, &mut stream, task);
    }
    let request = CopyRequest {
        sparse: !call.no_sparse,
        on_read_error: match call.skip_damaged {
            true => OnReadError::Zero,
            false => OnReadError::Stop,
        },
        ..request(source, at(output, Format::Raw))
    };
    let plan = copy::plan(request, task)?;
    if let (TargetKind::Device, Some(extra_bytes)) = (plan.target_kind, plan.extra_bytes) {
        let name = output.display().to_string();
        let sentence = format!(
            "{name} is {extra_bytes} bytes larger than the image: a device has to have exactly its size of {} bytes \
             (`blockprint copy` writes to the front of a larger one)",
            plan.source.size_bytes
        );
        return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
    }
    let report = copy::perform(plan, task)?;
    Ok((report.unreadable, report.lost_end))
}

fn to_stream(
    call: &Call,
    image: Location,
    stream: &mut dyn Write,
    task: &Task,
) -> Result<(RangeSet, bool)> {
    let request = CatRequest {
        image,
        stores: Stores::default(),
        offset: 0,
        len_bytes: None,
        output: None,
        force: false,
        skip_damaged: call.skip_damaged,
        limit_bytes_per_s: None,
        threads: Threads::Automatic,
    };
    let report = cat::perform(cat::plan(request, task)?, stream, task)?;
    if report.written_bytes < report.range.end {
        let sentence = "nobody reads the output any more";
        return Err(Error::new(ErrorKind::Io, sentence));
    }
    let lost_end = report.damaged.iter().any(|range| range.end > report.source.size_bytes);
    Ok((report.damaged, lost_end))
}

/// What the calls of `copy` have in common: a file that stands there is replaced, and nothing is kept of a failed one.
fn request(source: Location, target: Location) -> CopyRequest {
    CopyRequest {
        source,
        stores: Stores::default(),
        target,
        used_only: false,
        block_bytes: None,
        mode: NewMode::ForAll,
        sparse: true,
        keep: false,
        force: true,
        in_place: false,
        resume: false,
        reflink: Reflink::Never,
        verify: false,
        on_read_error: OnReadError::Stop,
        bad_map: None,
        journal: None,
        limit_bytes_per_s: None,
        threads: Threads::Automatic,
        checkpoint_every: Duration::from_secs(3600),
        steps: debug::steps(),
    }
}

fn at(path: &Path, format: Format) -> Location {
    Location { format: Some(format), path: path.to_owned() }
}

/// Whether what stands there has no size: a pipe, a terminal, another character device.
fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device() || kind.is_socket()
    })
}

fn open_stream(path: &Path, how: &fs::OpenOptions) -> Result<File> {
    how.open(path).map_err(|cause| {
        let name = path.display().to_string();
        Error::io(format!("cannot open {name}"), cause).at(name, None)
    })
}

/// A descriptor of our own for a stream that the program was given.
fn own(stream: &impl AsFd, name: &str) -> Result<std::os::fd::OwnedFd> {
    let owned = stream.as_fd().try_clone_to_owned();
    owned.map_err(|cause| Error::io(format!("cannot read {name}"), cause))
}

/// The damaged blocks, one a line.
fn list(container: &Path, damaged: &RangeSet) {
    for range in damaged.iter() {
        log::line(&format!(
            "{}: {} bytes at offset {} are damaged and were skipped",
            container.display(),
            range.end - range.start,
            range.start
        ));
    }
}

/// Warnings are told, and with `-debug` everything.
struct Ears {
    debug: bool,
}

impl Listener for Ears {
    fn began(&self, phase: Phase, total_bytes: u64) {
        if self.debug {
            log::line(&format!("{}: {total_bytes} bytes", phase.name()));
        }
    }

    fn noted(&self, sentence: &str) {
        if self.debug {
            log::line(sentence);
        }
    }

    fn warned(&self, sentence: &str) {
        log::line(sentence);
    }
}
