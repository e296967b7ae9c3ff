//! One end that is on this machine, played over a wire: by whoever started the sync, or by whoever was called.

use std::sync::{Mutex, PoisonError};

use image::ranges::RangeSet;
use image::{Error, ErrorKind, ImageMut, Result, Task};
use sync::native::{Book, NoBook};
use sync::{Target, Wire, diskrsync, native};

use super::book::{self, KeptBook};
use super::target::SyncTarget;
use super::{EndRequest, Way, WireBytes, since, warn_about_source};
use crate::location::{Format, Location};
use crate::registry::{self, Source};
use crate::stores::Stores;

/// A source that is open.
pub(super) struct OpenSource {
    pub(super) source: Source,
    /// What may have changed since it was cloned; all of it if there is none.
    scope: Option<RangeSet>,
}

/// What both ends have to agree on, and this one wishes.
#[derive(Clone, Copy)]
pub(super) struct Wishes<'a> {
    pub(super) end: &'a EndRequest,
    pub(super) compress: bool,
    pub(super) dry_run: bool,
}

/// What was done by both ends, with what went between them.
pub(super) struct Done {
    pub(super) way: Way,
    pub(super) report: native::Report,
    pub(super) repaired: RangeSet,
    pub(super) wire: WireBytes,
}

/// What was done, and what is to be done when the other end has ended well.
pub(super) struct Played {
    pub(super) report: native::Report,
    /// Damaged blocks of a target container that were made anew.
    pub(super) repaired: RangeSet,
    book: Option<KeptBook>,
}

impl OpenSource {
    /// Opens what is at `location`, and finds out what changed in it where that was asked for.
    pub(super) fn open(
        location: &Location,
        stores: &Stores,
        end: &EndRequest,
        task: &Task,
    ) -> Result<Self> {
        let location = match end.content_decides {
            true => registry::by_content(location)?,
            false => location.clone(),
        };
        let source = registry::open_source_over(&location, stores, task)?;
        warn_about_source(&source.facts, task)?;
        let scope = match &end.since {
            None => None,
            Some(clone) if source.facts.is_plain_file() => {
                Some(since::changed(&source.facts.path, clone, task)?)
            }
            Some(_) => {
                let name = source.facts.path.display().to_string();
                let what = match source.facts.format {
                    Format::Raw => source.facts.medium.name(),
                    format => format.name(),
                };
                let sentence = format!(
                    "{name} is no raw image file ({what}): what changed since it was cloned cannot be told by its place on the disk"
                );
                return Err(Error::new(ErrorKind::Unsupported, sentence).at(name, None));
            }
        };
        Ok(OpenSource { source, scope })
    }

    /// Plays it by the native protocol.
    pub(super) fn native(&self, wishes: Wishes<'_>, wire: Wire<'_>, task: &Task) -> Result<Played> {
        let facts = &self.source.facts;
        // In a scope regions are compared in parts, and a dry run leaves nothing behind.
        let book = match self.scope.is_none() && !wishes.dry_run {
            true => match KeptBook::of_source(facts, wishes.end, task) {
                Ok(book) => Some(book),
                Err(error) => return Err(told(wire, error)),
            },
            false => None,
        };
        let clone = wishes.end.since.as_deref().filter(|_| self.scope.is_some());
        let expected = clone.map(|clone| book::kept_root(clone, wishes.end));
        let what = native::Source {
            image: &self.source.image,
            scope: self.scope.as_ref(),
            expected: expected.flatten(),
            book: book.as_ref().map_or(&NoBook as &dyn Book, |book| book),
            compress: wishes.compress,
            dry_run: wishes.dry_run,
            threads: wishes.end.threads.count(),
            unchanged: &|| facts.refuse_changed("synced"),
        };
        let report = native::source(&what, wire, task);
        self.source.tell_of_stores(task);
        Ok(Played { report: report?, repaired: RangeSet::new(), book })
    }

    /// Plays it by diskrsync's protocol.
    pub(super) fn diskrsync(
        &self,
        end: &EndRequest,
        wire: Wire<'_>,
        task: &Task,
    ) -> Result<Played> {
        let facts = &self.source.facts;
        let unchanged = || facts.refuse_changed("synced");
        let how = diskrsync::How { threads: end.threads.count(), unchanged: &unchanged };
        let report = diskrsync::source(&self.source.image, wire, &how, task);
        self.source.tell_of_stores(task);
        Ok(Played { report: in_common(&report?), repaired: RangeSet::new(), book: None })
    }
}

/// Plays a target by the native protocol.
pub(super) fn native_target(
    target: &mut SyncTarget,
    wishes: Wishes<'_>,
    wire: Wire<'_>,
    task: &Task,
) -> Result<Played> {
    let book = match wishes.dry_run {
        true => None,
        false => match KeptBook::of_target(target, wishes.end, task) {
            Ok(book) => Some(book),
            Err(error) => return Err(told(wire, error)),
        },
    };
    let how = native::How {
        book: book.as_ref().map_or(&NoBook as &dyn Book, |book| book),
        compress: wishes.compress,
        dry_run: wishes.dry_run,
        threads: wishes.end.threads.count(),
    };
    let report = native::target(target, &how, wire, task);
    let report = report.map_err(|error| with_remains(error, target))?;
    Ok(Played { report, repaired: target.repaired(), book })
}

/// Plays a target by diskrsync's protocol. That has no word for success or failure, so `confirm` is asked whether the
/// other end has ended well before the target is put where it belongs.
pub(super) fn diskrsync_target(
    target: &mut SyncTarget,
    end: &EndRequest,
    confirm: &mut (dyn FnMut() -> Result<()> + Send),
    wire: Wire<'_>,
    task: &Task,
) -> Result<Played> {
    let how = diskrsync::How { threads: end.threads.count(), unchanged: &|| Ok(()) };
    let mut confirmed = Confirmed { target, end, confirm: Mutex::new(confirm) };
    let report = diskrsync::target(&mut confirmed, wire, &how, task);
    let report = report.map_err(|error| with_remains(error, target))?;
    Ok(Played { report: in_common(&report), repaired: target.repaired(), book: None })
}

impl Played {
    /// All went well, at both ends: keeps digests for the next time, or takes away what was kept for this one.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.book.take().map_or(Ok(()), KeptBook::finish)
    }
}

/// Tells the other end of an error before the protocol has begun.
pub(super) fn told(wire: Wire<'_>, error: Error) -> Error {
    // It may be gone; then nobody wants to know.
    let _ = native::refuse(wire, &error);
    error
}

fn with_remains(error: Error, target: &SyncTarget) -> Error {
    match target.left_behind() {
        Some(remains) => error.and(remains),
        None => error,
    }
}

fn in_common(report: &diskrsync::Report) -> native::Report {
    native::Report {
        source_bytes: report.source_bytes,
        target_bytes: report.target_bytes,
        compared_bytes: report.compared_bytes,
        data_bytes: report.data_bytes,
        packed_bytes: report.data_bytes,
        zeroed_bytes: report.zeroed_bytes,
        ..native::Report::default()
    }
}

/// A target that is finished only if the other end has ended well.
struct Confirmed<'a> {
    target: &'a mut SyncTarget,
    end: &'a EndRequest,
    confirm: Mutex<&'a mut (dyn FnMut() -> Result<()> + Send)>,
}

impl Target for Confirmed<'_> {
    fn size_bytes(&self) -> u64 {
        self.target.size_bytes()
    }
    fn may_be_partial(&self) -> Result<()> {
        self.target.may_be_partial()
    }
    fn begin(&mut self, source_bytes: u64) -> Result<()> {
        // What is kept of the target will not hold any more, and nobody here learns what does.
        book::take_away(self.target, self.end)?;
        self.target.begin(source_bytes)
    }
    fn image(&self) -> &dyn ImageMut {
        self.target.image()
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.target.resize(size_bytes)
    }
    fn finish(&mut self) -> Result<()> {
        self.confirm.get_mut().unwrap_or_else(PoisonError::into_inner)()?;
        self.target.finish()
    }
}
