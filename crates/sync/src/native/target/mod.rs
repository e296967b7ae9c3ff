//! The target end: tells digests, answers, writes, proves.
//!
//! Threads: one writes to the wire, one reads, the others ([`worker`](End::worker)) do what lies on the [`Desk`]. The
//! reader waits for workers, where more data came than they have written, and for nothing else; workers wait for nothing
//! but the disk.

mod apply;
mod desk;
mod question;

use std::collections::VecDeque;
use std::io::Read;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use image::{Error, ErrorKind, ImageMut, Phase, Result, Task};

use super::content::{Content, PIECE_BYTES, Zeroes};
use super::cut::{Cut, ScopeReader};
use super::frame::{Frame, FrameReader, Role, Sums, breach};
use super::hello::{Agreed, Hello};
use super::link::Link;
use super::{Book, Digest, How, Report, SIZE_MAX_BYTES, Shape};
use crate::{Target, Wire};
use apply::Writer;
use desk::{Desk, Job, Mark, Write};
use question::Question;

/// What the threads share.
struct End<'a> {
    how: &'a How<'a>,
    link: &'a Link,
    zeroes: Zeroes,
    old_bytes: u64,
    session: OnceLock<Session>,
    /// The other end may close the connection: all was said.
    is_done: AtomicBool,
}

/// What is known once the source has said what is compared.
struct Session {
    agreed: Agreed,
    cut: Cut,
    desk: Desk,
    finish: OnceLock<(Digest, Sums)>,
}

/// How an image is read.
struct Contents<'a> {
    /// Before it is written.
    before: Content<'a>,
    /// At any time.
    now: Content<'a>,
}

pub(super) fn run(
    target: &mut dyn Target,
    how: &How<'_>,
    wire: Wire<'_>,
    task: &Task,
) -> Result<Report> {
    let Wire { input, output, hangup } = wire;
    let link = &Link::new(hangup, task);
    let end = &End {
        how,
        link,
        zeroes: Zeroes::default(),
        old_bytes: target.size_bytes(),
        session: OnceLock::new(),
        is_done: AtomicBool::new(false),
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            let _watch = link.watch();
            link.send_all(&Hello::of(how.compress, how.dry_run), output);
        });
        scope.spawn(move || {
            let _watch = link.watch();
            link.read_all(|| end.read(input));
        });
        let _watch = link.watch();
        link.close(end.work(target))
    })
}

impl End<'_> {
    /// The main thread: watches over the others, keeps the book, and finishes.
    fn work(&self, target: &mut dyn Target) -> Result<Report> {
        let (how, link) = (self.how, self.link);
        let session = link.wait_until(|| Ok(self.session.get()))?;
        let Session { agreed, cut, desk, finish } = session;
        let size_bytes = cut.shape().size_bytes;
        if agreed.dry_run && !how.dry_run {
            let sentence = "the other end wants a dry run, which this end was not made ready for";
            return Err(Error::new(ErrorKind::Unsupported, sentence));
        }
        target.begin(size_bytes)?;
        let held_bytes = target.image().size();
        if held_bytes < size_bytes && !agreed.dry_run {
            target.resize(size_bytes)?;
        }
        if target.image().size() < size_bytes && !agreed.dry_run {
            let sentence = format!("the target cannot hold {size_bytes} bytes");
            return Err(Error::new(ErrorKind::TooSmall, sentence));
        }
        how.book.begin(cut.shape());
        link.task().begin(Phase::Sync, cut.total_bytes());
        let root = {
            let image = target.image();
            let known_end = held_bytes.min(image.size());
            let contents = Contents {
                before: Content::of_target(image, known_end, link),
                now: Content::unmapped(image, image.size(), link),
            };
            self.with_workers(session, &contents, image)?;
            desk.root(cut)
        };
        let (theirs, sums) = link.wait_until(|| Ok(finish.get()))?;
        if !agreed.dry_run {
            if root != *theirs {
                disbelieve(how.book, cut)?;
                return Err(Error::new(
                    ErrorKind::Changed,
                    "the target does not hold what the source has, as their root digests say: the source was written to \
                     during the sync, or what was written to the target did not stay; sync again",
                ));
            }
            link.task().begin(Phase::Flush, 0);
            if target.image().size() > size_bytes {
                target.resize(size_bytes)?;
            }
            target.finish()?;
        }
        self.is_done.store(true, Ordering::SeqCst);
        link.urgent(Frame::Done { root }.to_bytes());
        Ok(Report {
            source_bytes: size_bytes,
            target_bytes: self.old_bytes,
            compared_bytes: cut.total_bytes(),
            known_bytes: desk.known_bytes(),
            data_bytes: sums.data_bytes,
            packed_bytes: sums.packed_bytes,
            zeroed_bytes: sums.zeroed_bytes,
            root: (!agreed.dry_run).then_some(root),
        })
    }

    /// Compares and writes until all is written and proven.
    fn with_workers(
        &self,
        session: &Session,
        contents: &Contents<'_>,
        image: &dyn ImageMut,
    ) -> Result<()> {
        thread::scope(|scope| {
            for _ in 0..self.how.threads.max(1) {
                scope.spawn(move || {
                    let _watch = self.link.watch();
                    if let Err(error) = self.worker(session, contents, image) {
                        self.link.fail(error);
                    }
                });
            }
            let _watch = self.link.watch();
            let proven = self.until_all_is_proven(session, image);
            session.desk.close();
            proven.map_err(|error| self.link.fail(error))
        })
    }

    fn until_all_is_proven(&self, session: &Session, image: &dyn ImageMut) -> Result<()> {
        let Session { agreed, cut, desk, .. } = session;
        let mut proving: Option<Mark> = None;
        let mut proven = 0;
        self.link.wait_until(|| {
            desk.tell(cut, self.link, &self.zeroes, true);
            if proving.is_none()
                && let Some(mark) = desk.next_mark()
            {
                let bytes = desk.prove(cut, proven..mark.below);
                if mark.is_last {
                    self.link.task().begin(Phase::Verify, bytes);
                }
                proving = Some(mark);
            }
            let Some(mark) = proving.take_if(|_| desk.all_is_proven()) else { return Ok(None) };
            if !mark.is_last {
                let bytes = (proven..mark.below).map(|number| cut.bytes_of(number)).sum();
                self.link.task().advance(bytes);
            }
            if !cut.is_scoped() && !agreed.dry_run && mark.below > proven {
                self.how.book.settle(mark.below, &|| image.flush())?;
            }
            proven = mark.below;
            // There may be another one that is ready already.
            self.link.ring();
            Ok(mark.is_last.then_some(()))
        })
    }

    /// The reading thread.
    fn read(&self, input: Box<dyn Read + Send + '_>) -> Result<()> {
        let mut frames = FrameReader::new(input);
        let hello = Hello::of(self.how.compress, self.how.dry_run);
        let agreed = hello.meet(&Hello::from_bytes(&frames.hello()?)?)?;
        let opening = Frame::Open {
            role: Role::Target,
            size_bytes: self.old_bytes,
            root: self.how.book.root(),
        };
        self.link.urgent(opening.to_bytes());
        let Some(session) = self.start(&mut frames, agreed)? else { return Ok(()) };
        let Session { cut, desk, .. } = session;
        while !self.link.is_over() {
            let frame = match frames.next() {
                Ok(frame) => frame,
                Err(_) if self.is_done.load(Ordering::SeqCst) => break,
                Err(error) => return Err(error),
            };
            match frame {
                Frame::Alive => {}
                Frame::Error { kind, sentence } => {
                    self.link.given_up(kind, &sentence);
                    break;
                }
                other if session.finish.get().is_some() => {
                    let did = format!("sent the frame {} after it had finished", other.name());
                    return Err(breach(did));
                }
                Frame::AskBlocks { id, first, count } => {
                    let question = Question::of_blocks(cut, id, first, count)?;
                    desk.asked(cut, self.link, question)?;
                }
                Frame::AskPages { id, blocks } => {
                    let question = Question::of_pages(cut, id, blocks)?;
                    desk.asked(cut, self.link, question)?;
                }
                Frame::Data(_) | Frame::Zero(_) if agreed.dry_run => {
                    return Err(breach("sent data in a dry run"));
                }
                Frame::Data(data) => desk.write(cut, self.link, Write::Data(data))?,
                Frame::Zero(range) => desk.write(cut, self.link, Write::Zero(range))?,
                Frame::Settled { below } => {
                    desk.settled(cut, below)?;
                    self.link.ring();
                }
                Frame::Finish { root, sums } => {
                    // There is no second one: that was refused above.
                    let _ = session.finish.set((root, sums));
                    desk.finish(cut)?;
                    self.link.ring();
                }
                other => {
                    return Err(breach(format!("sent the frame {} as a source", other.name())));
                }
            }
        }
        Ok(())
    }

    /// Hears what the source is, and what is compared.
    fn start<R: Read>(
        &self,
        frames: &mut FrameReader<R>,
        agreed: Agreed,
    ) -> Result<Option<&Session>> {
        let mut opened = None;
        let mut scope = ScopeReader::default();
        let cut = loop {
            match (frames.next()?, opened) {
                (Frame::Alive, _) => {}
                (Frame::Error { kind, sentence }, _) => {
                    self.link.given_up(kind, &sentence);
                    return Ok(None);
                }
                (Frame::Open { role: Role::Target, .. }, _) => {
                    return Err(breach("is a target as well; one end must be a source"));
                }
                (Frame::Open { size_bytes, .. }, None) if size_bytes <= SIZE_MAX_BYTES => {
                    opened = Some(Shape::of(size_bytes));
                }
                (Frame::Open { size_bytes, .. }, None) => {
                    return Err(breach(format!(
                        "has an image of {size_bytes} bytes; up to {SIZE_MAX_BYTES} are allowed"
                    )));
                }
                (Frame::Scope(bytes), Some(shape)) => scope.add(&bytes, shape.size_bytes)?,
                (Frame::Start { is_scoped: true }, Some(shape)) => break scope.finish(shape),
                (Frame::Start { is_scoped: false }, Some(shape)) if scope.is_empty() => {
                    break Cut::whole(shape);
                }
                (other, _) => {
                    return Err(breach(format!("sent the frame {} before its turn", other.name())));
                }
            }
        };
        let desk = Desk::new(&cut);
        let session = Session { agreed, cut, desk, finish: OnceLock::new() };
        let session = self.session.get_or_init(|| session);
        self.link.ring();
        Ok(Some(session))
    }

    /// Takes digests, answers, writes.
    fn worker(
        &self,
        session: &Session,
        contents: &Contents<'_>,
        image: &dyn ImageMut,
    ) -> Result<()> {
        let Session { cut, desk, .. } = session;
        let mut buf = vec![0; PIECE_BYTES];
        let mut writer = Writer::new(image, cut, desk, self.how.book);
        while let Some(job) = desk.job(cut, self.link) {
            self.link.go_on()?;
            match job {
                Job::Answer(question) => {
                    let answer = question.answer(&contents.before, cut, &self.zeroes, &mut buf)?;
                    self.link.answer(answer.to_bytes(), question.digests);
                }
                Job::Write(sequence, write) => {
                    writer.write(&write)?;
                    desk.written(sequence);
                    self.link.ring();
                }
                Job::Prove(number) => {
                    let range = cut.range(number);
                    let digest = contents.now.digest(cut, range, &self.zeroes, &mut buf)?;
                    if !cut.is_scoped() {
                        self.how.book.learn(number, digest);
                    }
                    if desk.proven(number, digest) {
                        self.link.ring();
                    }
                    if session.finish.get().is_some() {
                        self.link.task().advance(cut.bytes_of(number));
                    }
                }
                Job::Hash(number) => {
                    let known = if cut.is_scoped() { None } else { self.how.book.digest(number) };
                    let digest = match known {
                        Some(digest) => digest,
                        None => {
                            let range = cut.range(number);
                            let digest =
                                contents.before.digest(cut, range, &self.zeroes, &mut buf)?;
                            if !cut.is_scoped() {
                                self.how.book.learn(number, digest);
                            }
                            digest
                        }
                    };
                    desk.hashed(cut, number, digest, known.is_some());
                    desk.tell(cut, self.link, &self.zeroes, false);
                }
            }
        }
        Ok(())
    }
}

/// Something that is known may be wrong, and nobody can say what.
fn disbelieve(book: &dyn Book, cut: &Cut) -> Result<()> {
    (0..cut.count()).try_for_each(|number| book.forget(cut.region(number)))
}

/// Where a list of things waits, in the order in which they came.
type Queue<T> = VecDeque<T>;
