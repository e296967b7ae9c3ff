//! What a target has to do, and in which order: answer, write, prove, take digests.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use image::Result;

use super::super::Digest;
use super::super::content::Zeroes;
use super::super::cut::{Cut, block_range};
use super::super::frame::{Data, Frame, breach};
use super::super::link::Link;
use super::super::row::Row;
use super::Queue;
use super::question::Question;

/// The most digests that a source may have asked for, and were not sent.
const OWED_MAX: u64 = 1 << 18;
/// The most questions that may wait.
const QUESTIONS_MAX: usize = 4096;
/// What may wait to be written, in bytes; each write counts [`WRITE_COST`] more.
const WRITES_MAX_BYTES: usize = 8 << 20;
const WRITE_COST: usize = 256;
/// How many digests go in one frame, and how long they wait for each other.
const TELL_AT_ONCE: usize = 64;
const TELL_EVERY: Duration = Duration::from_millis(20);
/// Digests are not told as long as so much waits for the wire, in bytes.
const TELL_MAX_BYTES: usize = 1 << 20;

/// What threads of a target share.
pub(super) struct Desk {
    state: Mutex<State>,
    for_workers: Condvar,
    /// There is room for another write.
    for_reader: Condvar,
    /// Which regions the book has forgotten; held while it does.
    forgotten: Mutex<Vec<bool>>,
}

struct State {
    questions: Queue<Question>,
    writes: Queue<(u64, Write)>,
    write_bytes: usize,
    /// Writes that came and are not done: in the queue, or with a worker.
    unwritten: BTreeSet<u64>,
    came: u64,
    proofs: Queue<u64>,
    unproven: u64,
    row: Row,
    told: u64,
    told_at: Option<Instant>,
    /// Regions that were written to and not read again since.
    dirty: Vec<bool>,
    /// The source said that these are settled.
    settled: u64,
    marks: Queue<Mark>,
    known_bytes: u64,
    is_closed: bool,
}

/// Below this number all is said; it is there once all that came before the mark is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) below: u64,
    pub(super) is_last: bool,
    came: u64,
}

/// What a worker does.
pub(super) enum Job {
    /// Answer a question.
    Answer(Question),
    /// Write; the number goes to [`Desk::written`].
    Write(u64, Write),
    /// Read a region again that was written to.
    Prove(u64),
    /// Take the digest of a region as it was.
    Hash(u64),
}

/// What came to be written.
pub(super) enum Write {
    Data(Data),
    Zero(Range<u64>),
}

impl Desk {
    pub(super) fn new(cut: &Cut) -> Self {
        let count = cut.count() as usize;
        Desk {
            state: Mutex::new(State {
                questions: Queue::new(),
                writes: Queue::new(),
                write_bytes: 0,
                unwritten: BTreeSet::new(),
                came: 0,
                proofs: Queue::new(),
                unproven: 0,
                row: Row::default(),
                told: 0,
                told_at: None,
                dirty: vec![false; count],
                settled: 0,
                marks: Queue::new(),
                known_bytes: 0,
                is_closed: false,
            }),
            for_workers: Condvar::new(),
            for_reader: Condvar::new(),
            forgotten: Mutex::new(vec![false; count]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do; waits for one. Nothing more once the desk is closed, or the end has failed.
    pub(super) fn job(&self, cut: &Cut, link: &Link) -> Option<Job> {
        // Somebody who fails does not know that we wait here.
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let mut state = self.lock();
        loop {
            if state.is_closed || link.is_over() {
                return None;
            }
            if let Some(question) = state.questions.pop_front() {
                return Some(Job::Answer(question));
            }
            if let Some((number, write)) = state.writes.pop_front() {
                state.write_bytes -= write.cost();
                self.for_reader.notify_one();
                return Some(Job::Write(number, write));
            }
            if let Some(number) = state.proofs.pop_front() {
                return Some(Job::Prove(number));
            }
            if let Some(number) = state.row.take(cut.count()) {
                return Some(Job::Hash(number));
            }
            let waited = self.for_workers.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// There is nothing more to do.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.for_workers.notify_all();
    }

    /// The source asked something.
    pub(super) fn asked(&self, cut: &Cut, link: &Link, question: Question) -> Result<()> {
        let mut state = self.lock();
        for block in &question.blocks {
            let range = block_range(*block);
            state.check_is_told(cut, &range, "asked about")?;
            // What is told of it may come from a book that is wrong: it is read again in any case.
            let number = cut.number_at(range.start).filter(|number| *number >= state.settled);
            let Some(number) = number else {
                return Err(breach(format!("asked about block {block}, which it called settled")));
            };
            state.dirty[number as usize] = true;
        }
        let owed = link.owe(question.digests);
        if owed > OWED_MAX || state.questions.len() >= QUESTIONS_MAX {
            return Err(breach(format!("asked for {owed} digests without waiting for answers")));
        }
        state.questions.push_back(question);
        drop(state);
        self.for_workers.notify_one();
        Ok(())
    }

    /// Something came to be written. Waits until there is room for it.
    pub(super) fn write(&self, cut: &Cut, link: &Link, write: Write) -> Result<()> {
        let mut state = self.lock();
        for range in write.ranges() {
            if !cut.contains(range) {
                let (start, end) = (range.start, range.end);
                return Err(breach(format!(
                    "sent data for {start}..{end}, which is not compared, or past the end"
                )));
            }
            state.check_is_told(cut, range, "sent data for")?;
            for number in self.numbers(cut, range) {
                if number < state.settled {
                    let did = format!("sent data for region {number}, which it called settled");
                    return Err(breach(did));
                }
                state.dirty[number as usize] = true;
            }
        }
        while state.write_bytes >= WRITES_MAX_BYTES {
            link.go_on()?;
            let waited = self.for_reader.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let sequence = state.came;
        state.came += 1;
        state.unwritten.insert(sequence);
        state.write_bytes += write.cost();
        state.writes.push_back((sequence, write));
        drop(state);
        self.for_workers.notify_one();
        Ok(())
    }

    /// A write is done.
    pub(super) fn written(&self, sequence: u64) {
        self.lock().unwritten.remove(&sequence);
    }

    /// The regions that `range` touches, which is compared.
    pub(super) fn numbers(&self, cut: &Cut, range: &Range<u64>) -> Range<u64> {
        let first = cut.number_at(range.start);
        let last = cut.number_at(range.end - 1);
        match (first, last) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        }
    }

    /// Calls `forget` if this is the first time for that region. No other thread gets past here meanwhile.
    pub(super) fn forget_once(
        &self,
        number: u64,
        forget: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        if !forgotten[number as usize] {
            forget()?;
            forgotten[number as usize] = true;
        }
        Ok(())
    }

    /// The source has said all that the regions below this number need.
    pub(super) fn settled(&self, cut: &Cut, below: u64) -> Result<()> {
        let mut state = self.lock();
        if below <= state.settled || below > state.told {
            let (settled, told) = (state.settled, state.told);
            return Err(breach(format!(
                "called the regions below {below} settled, where {settled} were, and {told} of {} are known to it",
                cut.count()
            )));
        }
        state.settled = below;
        let mark = Mark { below, is_last: false, came: state.came };
        state.marks.push_back(mark);
        Ok(())
    }

    /// The source has said all.
    pub(super) fn finish(&self, cut: &Cut) -> Result<()> {
        let mut state = self.lock();
        if state.told != cut.count() {
            let told = state.told;
            let count = cut.count();
            return Err(breach(format!(
                "finished when {told} of {count} regions were known to it"
            )));
        }
        state.settled = state.told;
        let mark = Mark { below: state.told, is_last: true, came: state.came };
        state.marks.push_back(mark);
        Ok(())
    }

    /// The last mark before which all is written.
    pub(super) fn next_mark(&self) -> Option<Mark> {
        let mut state = self.lock();
        let written = state.unwritten.first().copied().unwrap_or(state.came);
        let mut last = None;
        while state.marks.front().is_some_and(|mark| mark.came <= written) {
            last = state.marks.pop_front();
        }
        last
    }

    /// Lets those of the regions `numbers` be read again that were written to. Says how many bytes that are.
    pub(super) fn prove(&self, cut: &Cut, numbers: Range<u64>) -> u64 {
        let mut state = self.lock();
        let mut bytes = 0;
        for number in numbers {
            if std::mem::take(&mut state.dirty[number as usize]) {
                state.proofs.push_back(number);
                state.unproven += 1;
                bytes += cut.bytes_of(number);
            }
        }
        drop(state);
        self.for_workers.notify_all();
        bytes
    }

    /// What a region holds that was read again. Says whether it was the last.
    pub(super) fn proven(&self, number: u64, digest: Digest) -> bool {
        let mut state = self.lock();
        state.row.replace(number, digest);
        state.unproven -= 1;
        state.unproven == 0
    }

    pub(super) fn all_is_proven(&self) -> bool {
        self.lock().unproven == 0
    }

    /// What a region held before.
    pub(super) fn hashed(&self, cut: &Cut, number: u64, digest: Digest, is_known: bool) {
        let mut state = self.lock();
        state.row.put(number, digest);
        if is_known {
            state.known_bytes += cut.bytes_of(number);
        }
    }

    /// Tells the source the digests that it does not know, if they are many, or the last, or have waited. `anyway`: also
    /// if they have not.
    pub(super) fn tell(&self, cut: &Cut, link: &Link, zeroes: &Zeroes, anyway: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        while (state.told as usize) < state.row.done().len() {
            let is_all = state.row.done().len() as u64 == cut.count();
            let untold = &state.row.done()[state.told as usize..];
            let waited = state.told_at.is_none_or(|at| at.elapsed() >= TELL_EVERY);
            let is_time = anyway || is_all || waited || untold.len() >= TELL_AT_ONCE;
            if !is_time || link.urgent_bytes() > TELL_MAX_BYTES {
                return;
            }
            let is_zero = |(at, digest): &(usize, &Digest)| {
                **digest == zeroes.of(cut.bytes_of(state.told + *at as u64))
            };
            let first = state.told;
            let zero_run = untold.iter().enumerate().take_while(is_zero).count();
            let frame = match zero_run {
                0 => {
                    let upto = untold
                        .iter()
                        .enumerate()
                        .take(TELL_AT_ONCE)
                        .take_while(|one| !is_zero(one));
                    let digests: Vec<Digest> = upto.map(|(_, digest)| *digest).collect();
                    state.told += digests.len() as u64;
                    Frame::Digests { first, digests }
                }
                count => {
                    state.told += count as u64;
                    Frame::Zeroes { first, count: count as u64 }
                }
            };
            state.told_at = Some(Instant::now());
            // Within the lock: the next ones must not overtake them.
            link.urgent(frame.to_bytes());
        }
    }

    pub(super) fn root(&self, cut: &Cut) -> Digest {
        cut.root(self.lock().row.done())
    }

    pub(super) fn known_bytes(&self) -> u64 {
        self.lock().known_bytes
    }
}

impl State {
    /// Nothing about a region may come before its digest was told: it is not known before what it should become.
    fn check_is_told(&self, cut: &Cut, range: &Range<u64>, did: &str) -> Result<()> {
        let last = range.end.min(cut.shape().size_bytes) - 1;
        let region = last / cut.shape().region_bytes;
        match cut.number_at(last) {
            Some(number) if number >= self.told => {
                Err(breach(format!("{did} region {region} before it knew its digest")))
            }
            _ => Ok(()),
        }
    }
}

impl Write {
    fn ranges(&self) -> &[Range<u64>] {
        match self {
            Write::Data(data) => &data.parts,
            Write::Zero(range) => std::slice::from_ref(range),
        }
    }

    /// What it takes in the queue, in bytes.
    fn cost(&self) -> usize {
        let bytes = match self {
            Write::Data(data) => data.bytes().len(),
            Write::Zero(_) => 0,
        };
        bytes + WRITE_COST
    }
}
