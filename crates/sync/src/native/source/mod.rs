//! The source end: compares, asks, sends.
//!
//! Threads: one writes to the wire, one reads, the others ([`worker`](End::worker)) take digests, compare blocks, and make data. What
//! they share is the [`Table`]. The reader never waits: what it puts there is bounded by what was asked and by the number
//! of regions.

mod question;
mod send;
mod table;

use std::io::Read;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use image::{Error, ErrorKind, Phase, Result, Task};

use super::content::{Content, PIECE_BYTES, Zeroes};
use super::cut::Cut;
use super::frame::{Frame, FrameReader, Role, breach};
use super::hello::{Agreed, Hello};
use super::link::Link;
use super::{Digest, Report, SIZE_MAX_BYTES, Shape, Source};
use crate::Wire;
use send::Sender;
use table::{Job, Table};

/// How often the target is told how far everything is, if it is not by a number of regions.
const SETTLE_EVERY: Duration = Duration::from_secs(1);
/// How many regions settle before the target is told.
const SETTLE_REGIONS: u64 = 256;

/// The most bytes of a region of a scope that are kept between reading and sending.
const KEPT_MAX_BYTES: u64 = 4 << 20;

/// What the threads share.
struct End<'a> {
    what: &'a Source<'a>,
    link: &'a Link,
    zeroes: Zeroes,
    session: OnceLock<Session>,
    /// All was sent; the target may say that it is done.
    is_finishing: AtomicBool,
    done: OnceLock<Digest>,
}

/// What is known once both ends have opened.
struct Session {
    agreed: Agreed,
    target_bytes: u64,
    cut: Cut,
    table: Table,
}

pub(super) fn run(what: &Source<'_>, wire: Wire<'_>, task: &Task) -> Result<Report> {
    let Wire { input, output, hangup } = wire;
    let link = &Link::new(hangup, task);
    let end = &End {
        what,
        link,
        zeroes: Zeroes::default(),
        session: OnceLock::new(),
        is_finishing: AtomicBool::new(false),
        done: OnceLock::new(),
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            let _watch = link.watch();
            link.send_all(&Hello::of(what.compress, what.dry_run), output);
        });
        scope.spawn(move || {
            let _watch = link.watch();
            link.read_all(|| end.read(input));
        });
        let _watch = link.watch();
        link.close(end.work())
    })
}

impl End<'_> {
    /// The main thread: watches over the others, and says when all is sent.
    fn work(&self) -> Result<Report> {
        let what = self.what;
        if what.image.size() > SIZE_MAX_BYTES {
            let sentence = format!("an image of {} bytes is too large to sync", what.image.size());
            return Err(Error::new(ErrorKind::Unsupported, sentence));
        }
        let session = self.link.wait_until(|| Ok(self.session.get()))?;
        let Session { agreed, cut, table, target_bytes } = session;
        if !cut.is_scoped() {
            what.book.begin(cut.shape());
        }
        self.link.task().begin(Phase::Sync, cut.total_bytes());
        let content = &Content::of_source(what.image, self.link);
        let root = thread::scope(|scope| {
            for _ in 0..what.threads.max(1) {
                scope.spawn(move || {
                    let _watch = self.link.watch();
                    if let Err(error) = self.worker(session, content) {
                        self.link.fail(error);
                    }
                });
            }
            let _watch = self.link.watch();
            let root = self.until_all_is_sent(session);
            table.close();
            root.map_err(|error| self.link.fail(error))
        })?;
        let done = match self.link.wait_until(|| Ok(self.done.get())) {
            Ok(done) => done,
            Err(error) => {
                // The target found out that it holds another thing.
                if self.link.failed_with(ErrorKind::Changed) {
                    self.disbelieve(cut)?;
                }
                return Err(error);
            }
        };
        if !agreed.dry_run && *done != root {
            self.disbelieve(cut)?;
            return Err(Error::new(
                ErrorKind::Changed,
                "the target does not hold what the source has, as their root digests say: the source was written to \
                 during the sync, or what was written to the target did not stay; sync again",
            ));
        }
        let sums = table.sums();
        Ok(Report {
            source_bytes: what.image.size(),
            target_bytes: *target_bytes,
            compared_bytes: cut.total_bytes(),
            known_bytes: table.known_bytes(),
            data_bytes: sums.data_bytes,
            packed_bytes: sums.packed_bytes,
            zeroed_bytes: sums.zeroed_bytes,
            root: (!agreed.dry_run).then_some(root),
        })
    }

    fn until_all_is_sent(&self, session: &Session) -> Result<Digest> {
        let Session { cut, table, .. } = session;
        let mut told = (0, Instant::now());
        let mut kept = Instant::now();
        self.link.wait_until(|| {
            let settled = table.settled_below();
            let is_time = told.1.elapsed() >= SETTLE_EVERY;
            if settled >= told.0 + SETTLE_REGIONS || (settled > told.0 && is_time) {
                self.link.bulk(Frame::Settled { below: settled }.to_bytes())?;
                told = (settled, Instant::now());
            }
            if !cut.is_scoped() && kept.elapsed() >= SETTLE_EVERY {
                // A source is not written to: there is nothing to flush.
                self.what.book.settle(table.hashed_below(), &|| Ok(()))?;
                kept = Instant::now();
            }
            Ok((settled == cut.count()).then_some(()))
        })?;
        (self.what.unchanged)()?;
        if !cut.is_scoped() {
            self.what.book.settle(cut.count(), &|| Ok(()))?;
        }
        let root = table.root(cut);
        self.is_finishing.store(true, Ordering::SeqCst);
        self.link.bulk(Frame::Finish { root, sums: table.sums() }.to_bytes())?;
        Ok(root)
    }

    /// The reading thread.
    fn read(&self, input: Box<dyn Read + Send + '_>) -> Result<()> {
        let mut frames = FrameReader::new(input);
        let what = self.what;
        let hello = Hello::of(what.compress, what.dry_run);
        let agreed = hello.meet(&Hello::from_bytes(&frames.hello()?)?)?;
        let size_bytes = what.image.size();
        let opening = Frame::Open { role: Role::Source, size_bytes, root: None };
        self.link.urgent(opening.to_bytes());
        let Some(session) = self.open(&mut frames, agreed)? else { return Ok(()) };
        while !self.link.is_over() {
            match frames.next()? {
                Frame::Alive => {}
                Frame::Error { kind, sentence } => {
                    self.link.given_up(kind, &sentence);
                    break;
                }
                Frame::Digests { first, digests } => {
                    session.table.heard(&session.cut, first, digests.len() as u64, |table| {
                        table.extend(&digests);
                    })?;
                    self.decide(session);
                }
                Frame::Zeroes { first, count } => {
                    session.table.heard(&session.cut, first, count, |theirs| {
                        theirs.extend_zeroes(count);
                    })?;
                    self.decide(session);
                }
                Frame::Blocks { id, digests } => session.table.answered(id, digests, false)?,
                Frame::Pages { id, digests } => session.table.answered(id, digests, true)?,
                Frame::Done { root } => {
                    if !self.is_finishing.load(Ordering::SeqCst) {
                        return Err(breach("said that it is done before all was sent"));
                    }
                    // There is no second one: this thread ends.
                    let _ = self.done.set(root);
                    self.link.ring();
                    break;
                }
                other => {
                    return Err(breach(format!("sent the frame {} as a target", other.name())));
                }
            }
        }
        Ok(())
    }

    /// Hears what the target is, and says what is compared.
    fn open<R: Read>(
        &self,
        frames: &mut FrameReader<R>,
        agreed: Agreed,
    ) -> Result<Option<&Session>> {
        let (target_bytes, root) = loop {
            match frames.next()? {
                Frame::Open { role: Role::Target, size_bytes, root } => break (size_bytes, root),
                Frame::Open { role: Role::Source, .. } => {
                    return Err(breach("is a source as well; one end must be a target"));
                }
                Frame::Alive => {}
                Frame::Error { kind, sentence } => {
                    self.link.given_up(kind, &sentence);
                    return Ok(None);
                }
                other => return Err(breach(format!("began with the frame {}", other.name()))),
            }
        };
        if let (Some(expected), Some(root)) = (self.what.expected, root)
            && expected != root
        {
            return Err(Error::new(
                ErrorKind::Changed,
                "the target is not what it was after the sync that the clone was made for: sync once without the clone",
            ));
        }
        let shape = Shape::of(self.what.image.size());
        let cut = match self.what.scope {
            Some(scope) => Cut::scoped(shape, scope),
            None => Cut::whole(shape),
        };
        cut.scope_frames(|piece| self.link.urgent(Frame::Scope(piece).to_bytes()));
        self.link.urgent(Frame::Start { is_scoped: cut.is_scoped() }.to_bytes());
        let table = Table::new(&cut);
        let session = self.session.get_or_init(|| Session { agreed, target_bytes, cut, table });
        self.link.ring();
        Ok(Some(session))
    }

    /// Compares what both ends have told, and asks what is to be asked.
    fn decide(&self, session: &Session) {
        let Session { cut, table, .. } = session;
        self.settled(table.decide(cut, &self.zeroes));
        for frame in table.asks(cut) {
            self.link.urgent(frame.to_bytes());
        }
    }

    fn settled(&self, bytes: u64) {
        if bytes > 0 {
            self.link.task().advance(bytes);
            self.link.ring();
        }
    }

    /// Takes digests, and makes of differences what is sent.
    fn worker(&self, session: &Session, content: &Content<'_>) -> Result<()> {
        let Session { agreed, cut, table, .. } = session;
        let mut buf = vec![0; PIECE_BYTES];
        let mut sender = Sender::new(self.link, *agreed);
        while let Some(job) = table.job(cut, self.link) {
            self.link.go_on()?;
            match job {
                Job::Hash(number) if cut.is_scoped() => {
                    let (digest, bytes) = self.read_once(cut, content, number, &mut buf)?;
                    table.read(number, digest, bytes);
                }
                Job::Hash(number) => {
                    let known = self.what.book.digest(number);
                    let digest = match known {
                        Some(digest) => digest,
                        None => {
                            let range = cut.range(number);
                            let digest = content.digest(cut, range, &self.zeroes, &mut buf)?;
                            self.what.book.learn(number, digest);
                            digest
                        }
                    };
                    table.hashed(cut, number, digest, known.is_some());
                }
                Job::Zero(number) => {
                    table.take_kept(number);
                    for part in cut.parts(cut.range(number)) {
                        sender.zero(part)?;
                    }
                    sender.finish(table)?;
                    self.settled(table.finished(cut, number, None));
                }
                Job::Fill(number) | Job::Send(number) => {
                    sender.holes_are_there(matches!(job, Job::Fill(_)));
                    let kept = table.take_kept(number);
                    let mut kept = kept.as_deref();
                    for part in cut.parts(cut.range(number)) {
                        let len = (part.end - part.start) as usize;
                        match kept.and_then(|bytes| bytes.split_at_checked(len)) {
                            Some((bytes, behind)) => {
                                sender.send_bytes(part.start, bytes)?;
                                kept = Some(behind);
                            }
                            None => sender.send(content, part, &mut buf)?,
                        }
                    }
                    sender.holes_are_there(false);
                    sender.finish(table)?;
                    self.settled(table.finished(cut, number, None));
                }
                Job::Compare(question, theirs) => {
                    let (ranges, next) =
                        question.differing(content, cut, &self.zeroes, &theirs, &mut buf)?;
                    for range in ranges {
                        sender.send(content, range, &mut buf)?;
                    }
                    sender.finish(table)?;
                    self.settled(table.finished(cut, question.number, next));
                }
            }
            self.decide(session);
        }
        Ok(())
    }

    /// Something that is known may be wrong, and nobody can say what.
    fn disbelieve(&self, cut: &Cut) -> Result<()> {
        if cut.is_scoped() {
            return Ok(());
        }
        (0..cut.count()).try_for_each(|number| self.what.book.forget(number))
    }

    /// The digest of a region of a scope, and its bytes, if they are few enough to be kept until they are sent. What lies in
    /// a scope most likely differs, and is not to be read twice.
    fn read_once(
        &self,
        cut: &Cut,
        content: &Content<'_>,
        number: u64,
        buf: &mut [u8],
    ) -> Result<(Digest, Option<Vec<u8>>)> {
        if cut.bytes_of(number) > KEPT_MAX_BYTES {
            return Ok((content.digest(cut, cut.range(number), &self.zeroes, buf)?, None));
        }
        let bytes = content.read(cut, cut.range(number))?;
        Ok((self.zeroes.or_digest(&bytes), Some(bytes)))
    }
}
