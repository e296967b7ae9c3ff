//! Make one image like another, on this machine or over ssh, moving only what differs.

mod book;
mod call;
mod local;
mod play;
mod relay;
mod serve;
mod since;
mod target;
mod wired;

use std::fmt;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use image::ranges::RangeSet;
use image::{Result, Task};
use sys::holders::Holders;

use crate::location::{Format, Place};
use crate::registry::Facts;
use crate::remote::Ssh;
pub use crate::remote::WireBytes;
use crate::stores::Stores;
use crate::used;
use crate::{Steps, Threads};
pub use serve::{ServeRequest, ServeRole, Served, serve};
pub use sync::diskrsync::Shape as DiskrsyncShape;

/// What is to be made like what, and how.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// What is read.
    pub source: Place,
    /// What is written: a block device, or a file; in a folder, the source's name.
    pub target: Place,
    /// Where the chunks of a local source come from that is an index.
    pub stores: Stores,
    /// How a local end works.
    pub end: EndRequest,
    /// What is spoken with a remote end.
    pub protocol: Protocol,
    /// How a remote end is reached.
    pub ssh: Ssh,
    /// A remote diskrsync is asked to say on its standard error how far it is (`--calc-progress`, `--sync-progress`).
    pub remote_progress: bool,
    /// Is told each line that a remote end writes to its standard error; by default they are notes of the task.
    pub remote_lines: RemoteLines,
    /// Data is compressed on the wire.
    pub compress_wire: bool,
    /// At most so many bytes a second: on the wire; between two local images, read from each.
    pub limit_bytes_per_s: Option<u64>,
    /// Only the used blocks of the filesystem on the source are read, as far as partclone knows them: the rest of the
    /// target stays as it is. For a source and a target on this machine.
    pub used_only: bool,
    /// Nothing is written: only what would be sent is counted.
    pub dry_run: bool,
}

/// What concerns one end, wherever it is: a remote one gets the same wishes on its command line.
#[derive(Clone, Debug)]
pub struct EndRequest {
    /// The format of a target that is made; one that is there keeps its own, and is refused if that is another. `None` is
    /// raw, unless the name of the target ends in `.spgz`.
    pub format: Option<Format>,
    /// The block size of a container that is made, in bytes.
    pub block_bytes: Option<NonZero<u64>>,
    /// As under the name diskrsync: the first bytes of a file alone say whether it is a container; a target file that is
    /// empty counts as missing; one that is there and raw stays raw, also where `format` is spgz. A container where
    /// `format` is raw is refused as ever.
    pub content_decides: bool,
    /// The target is replaced in one step, when all is done, by a clone of it that was made like the source.
    pub atomic: bool,
    /// Digests of both ends are kept for the next time.
    pub keep_digests: KeepDigests,
    /// A clone of the source that was synced before: only what differs from it by its place on the disk is read. To the end
    /// of the target it says that only a part will be compared.
    pub since: Option<PathBuf>,
    /// How many threads.
    pub threads: Threads,
    /// How often what is done is made durable and noted.
    pub checkpoint_every: Duration,
    /// Told of each step.
    pub steps: Steps,
}

/// Is told each line that a remote end writes to its standard error, without its newline.
#[derive(Clone, Default)]
pub struct RemoteLines(Option<Arc<LineHook>>);

type LineHook = dyn Fn(ServeRole, &str) + Send + Sync;

impl RemoteLines {
    /// Calls `hook` with the role of the remote end and the line, from whichever thread reads it.
    pub fn new(hook: impl Fn(ServeRole, &str) + Send + Sync + 'static) -> Self {
        RemoteLines(Some(Arc::new(hook)))
    }

    /// Tells the hook; false if there is none.
    pub(crate) fn hear(&self, role: ServeRole, line: &str) -> bool {
        self.0.as_ref().inspect(|hook| hook(role, line)).is_some()
    }
}

impl fmt::Debug for RemoteLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "RemoteLines(hooked)" } else { "RemoteLines" })
    }
}

/// Whether and where digests are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeepDigests {
    /// Only until the sync is complete, to go on after an interruption.
    #[default]
    No,
    /// Beside a file; for a device, in the folder for state.
    Beside,
    /// In this folder.
    In(PathBuf),
}

/// What is spoken with a remote end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The native one if there is a blockprint, else diskrsync's.
    #[default]
    Auto,
    /// The native one.
    Native,
    /// diskrsync's.
    Diskrsync,
}

/// A sync that can be done as far as is known here: local ends are open and claimed, nothing is written, and nobody was
/// called.
pub struct SyncPlan {
    request: SyncRequest,
    ends: Ends,
}

enum Ends {
    Local(Box<local::Plan>),
    Wired(wired::Plan),
}

/// What a sync did; in a dry run, what it would do.
#[derive(Clone, Debug)]
pub struct SyncReport {
    /// What was read, as it was written.
    pub source: String,
    /// What was written, as it was written.
    pub target: String,
    /// How.
    pub way: Way,
    /// Size of the source in bytes.
    pub size_bytes: u64,
    /// Size that the target had before, in bytes.
    pub old_bytes: u64,
    /// Bytes that were compared; the rest lay outside of what may have changed.
    pub compared_bytes: u64,
    /// Bytes that were taken as unchanged on the word of a clone.
    pub assumed_bytes: u64,
    /// Of those compared, bytes whose digests this end knew.
    pub known_bytes: u64,
    /// Bytes of data that differed, and were written.
    pub data_bytes: u64,
    /// Bytes that became zero without being sent.
    pub zeroed_bytes: u64,
    /// Bytes that came from the other end and went there, all told; none on one machine.
    pub wire: Option<WireBytes>,
    /// The root digest of what was compared, which both ends found alike; only by the native protocol.
    pub root: Option<[u8; 32]>,
    /// Damaged blocks of a target container, which were made anew.
    pub repaired: RangeSet,
    /// Nothing was written.
    pub dry_run: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// How a sync was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Both on this machine, compared byte by byte.
    Local,
    /// By the native protocol.
    Native,
    /// By diskrsync's protocol.
    Diskrsync,
}

/// Opens what is local, claims a local target, and refuses what has to be refused. Writes nothing, calls nobody.
///
/// # Errors
///
/// As [`copy::plan`](crate::ops::copy::plan), and `Invalid` or `Unsupported` for wishes that do not go together.
pub fn plan(request: SyncRequest, task: &Task) -> Result<SyncPlan> {
    let ends = match (&request.source, &request.target) {
        (Place::Local(source), Place::Local(target)) => {
            Ends::Local(Box::new(local::plan(&request, source, target, task)?))
        }
        _ => {
            used::refuse_remote(request.used_only)?;
            Ends::Wired(wired::plan(&request, task)?)
        }
    };
    Ok(SyncPlan { request, ends })
}

/// Makes the target like the source.
///
/// What a power cut, `kill -9`, an error or a wish to stop may leave: of a new target and of one with `atomic`, the old
/// state under its name, and beside it a partial file that the next run goes on with; of any other, a mixture of old and
/// new, which the next run makes right.
pub fn perform(plan: SyncPlan, task: &Task) -> Result<SyncReport> {
    let report = match plan.ends {
        Ends::Local(local) => local::perform(*local, &plan.request, task),
        Ends::Wired(wired) => wired::perform(wired, &plan.request, task),
    }?;
    plan.request.end.steps.reach("done");
    Ok(report)
}

/// Says before anything is written what people may not have thought of about a source on this machine.
fn warn_about_source(source: &Facts, task: &Task) -> Result<()> {
    let name = source.path.display();
    if let Some(format) = source.looks_like {
        task.warn(format!("{name} looks like a {format} file; it is synced as it is"));
    }
    let holders = Holders::of_path(&source.path)?;
    if !holders.mounts.is_empty() {
        task.warn(format!(
            "{name} is in use ({holders}): unless nothing writes to it, what is synced is of no single moment \
             (`blockprint clone` freezes a filesystem in an image file for that moment)"
        ));
    }
    Ok(())
}
