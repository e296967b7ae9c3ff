//! What a source knows of both ends, what it has asked, and what is to be done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use image::Result;

use super::super::content::Zeroes;
use super::super::cut::Cut;
use super::super::frame::{Frame, Short, Sums, breach};
use super::super::link::Link;
use super::super::row::Row;
use super::super::{BLOCK_BYTES, Digest, QUESTION_BLOCKS};
use super::question::Question;

/// The most questions that wait for an answer.
const QUESTIONS_MAX: usize = 1024;
/// The most digests that are asked for, or have come and are not compared yet.
const ASKED_MAX: u64 = 1 << 16;
/// The most regions that differ and are not settled. What is known of those behind them waits.
const OPEN_MAX: usize = 1 << 14;

/// What threads of a source share. What is in it is bounded by the number of regions, and by the limits above.
pub(super) struct Table {
    state: Mutex<State>,
    for_workers: Condvar,
}

struct State {
    ours: Row,
    /// What the target said of the regions that are not decided yet.
    theirs: Theirs,
    decided: u64,
    /// Regions that are decided and not settled: how much is still to be done for each.
    open: BTreeMap<u64, u32>,
    jobs: VecDeque<Job>,
    /// Regions whose blocks are to be asked for: the number, and the first block of which nobody asked yet.
    differing: VecDeque<(u64, u64)>,
    /// Pages that are to be asked for; before any more blocks, so that this stays short.
    pages: VecDeque<Question>,
    questions: HashMap<u32, Question>,
    next_id: u32,
    asked: u64,
    sums: Sums,
    known_bytes: u64,
    /// In a scope, what was read of regions that are not decided or sent yet: few, since a region is read there only once
    /// the target's digest is known, and what differs is sent before more is read.
    kept: HashMap<u64, Vec<u8>>,
    is_closed: bool,
}

/// Digests of the target, in order.
#[derive(Default)]
pub(super) struct Theirs {
    digests: VecDeque<Digest>,
    heard: u64,
}

/// Stands for the digest of zeroes, of whatever length; nothing that is known has this digest.
const ZEROES: Digest = [0; 32];

/// What a worker does.
pub(super) enum Job {
    /// Take the digest of a region.
    Hash(u64),
    /// Say that a region is zero.
    Zero(u64),
    /// Send a region that is zero at the target.
    Fill(u64),
    /// Send all that is compared of a region that differs, without a question.
    Send(u64),
    /// Compare blocks or pages with what the target answered.
    Compare(Question, Vec<Short>),
}

impl Theirs {
    pub(super) fn extend(&mut self, digests: &[Digest]) {
        self.digests.extend(digests);
    }

    pub(super) fn extend_zeroes(&mut self, count: u64) {
        // Not more than there are regions: that was checked.
        self.digests.extend(std::iter::repeat_n(ZEROES, count as usize));
    }
}

impl Table {
    pub(super) fn new(cut: &Cut) -> Self {
        Table {
            state: Mutex::new(State {
                ours: Row::default(),
                theirs: Theirs::default(),
                decided: 0,
                open: BTreeMap::new(),
                jobs: VecDeque::new(),
                differing: VecDeque::new(),
                pages: VecDeque::new(),
                questions: HashMap::new(),
                next_id: 0,
                asked: 0,
                sums: Sums { compared_bytes: cut.total_bytes(), ..Sums::default() },
                known_bytes: 0,
                kept: HashMap::new(),
                is_closed: false,
            }),
            for_workers: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do; waits for one. Nothing more once the table is closed, or the end has failed.
    pub(super) fn job(&self, cut: &Cut, link: &Link) -> Option<Job> {
        // Somebody who fails does not know that we wait here.
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let mut state = self.lock();
        loop {
            if state.is_closed || link.is_over() {
                return None;
            }
            // What was found to differ goes first: the wire is to be kept busy.
            if let Some(job) = state.jobs.pop_front() {
                if let Job::Compare(question, _) = &job {
                    state.asked -= question.digests;
                }
                return Some(job);
            }
            let upto = if cut.is_scoped() { state.theirs.heard } else { cut.count() };
            if let Some(number) = state.ours.take(upto) {
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

    /// The digest of a region of ours.
    pub(super) fn hashed(&self, cut: &Cut, number: u64, digest: Digest, is_known: bool) {
        let mut state = self.lock();
        state.ours.put(number, digest);
        if is_known {
            state.known_bytes += cut.bytes_of(number);
        }
    }

    /// The same in a scope, with what was read if it is to be sent without being read again.
    pub(super) fn read(&self, number: u64, digest: Digest, bytes: Option<Vec<u8>>) {
        let mut state = self.lock();
        state.ours.put(number, digest);
        if let Some(bytes) = bytes {
            state.kept.insert(number, bytes);
        }
    }

    /// What was read of a region, and kept.
    pub(super) fn take_kept(&self, number: u64) -> Option<Vec<u8>> {
        self.lock().kept.remove(&number)
    }

    /// The target told the digests of `count` regions from `first` on.
    pub(super) fn heard(
        &self,
        cut: &Cut,
        first: u64,
        count: u64,
        add: impl FnOnce(&mut Theirs),
    ) -> Result<()> {
        let mut state = self.lock();
        if first != state.theirs.heard {
            let expected = state.theirs.heard;
            return Err(breach(format!(
                "sent the digest of region {first} where that of region {expected} comes next"
            )));
        }
        match first.checked_add(count).filter(|end| count > 0 && *end <= cut.count()) {
            Some(end) => state.theirs.heard = end,
            None => {
                let regions = cut.count();
                return Err(breach(format!(
                    "sent {count} digests from region {first} on, of {regions} regions"
                )));
            }
        }
        add(&mut state.theirs);
        drop(state);
        if cut.is_scoped() {
            self.for_workers.notify_all();
        }
        Ok(())
    }

    /// Compares as far as both ends are known. Says how many bytes are settled by that.
    pub(super) fn decide(&self, cut: &Cut, zeroes: &Zeroes) -> u64 {
        let mut settled_bytes = 0;
        let mut has_jobs = false;
        let mut state = self.lock();
        let state = &mut *state;
        while state.open.len() < OPEN_MAX
            && let Some(theirs) = state.theirs.digests.front()
            && let Some(ours) = state.ours.done().get(state.decided as usize)
        {
            let number = state.decided;
            let bytes = cut.bytes_of(number);
            let zero = zeroes.of(bytes);
            let theirs = if *theirs == ZEROES { &zero } else { theirs };
            let job = match theirs {
                theirs if theirs == ours => None,
                theirs if *theirs == zero => Some(Job::Fill(number)),
                _ if *ours == zero => Some(Job::Zero(number)),
                _ if cut.is_scoped() => Some(Job::Send(number)),
                _ => {
                    state.differing.push_back((number, cut.range(number).start / BLOCK_BYTES));
                    state.open.insert(number, 1);
                    state.decided += 1;
                    state.theirs.digests.pop_front();
                    continue;
                }
            };
            match job {
                Some(job) => {
                    state.open.insert(number, 1);
                    state.jobs.push_back(job);
                    has_jobs = true;
                }
                None => {
                    state.kept.remove(&number);
                    settled_bytes += bytes;
                }
            }
            state.decided += 1;
            state.theirs.digests.pop_front();
        }
        if has_jobs {
            self.for_workers.notify_all();
        }
        settled_bytes
    }

    /// The questions that may be asked now.
    pub(super) fn asks(&self, cut: &Cut) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut state = self.lock();
        let state = &mut *state;
        while state.questions.len() < QUESTIONS_MAX && state.asked < ASKED_MAX {
            let question = match state.pages.pop_front() {
                Some(question) => question,
                None => match state.next_blocks(cut) {
                    Some(question) => question,
                    None => break,
                },
            };
            let id = state.next_id;
            state.next_id = id.wrapping_add(1);
            state.asked += question.digests;
            frames.push(question.to_frame(id));
            state.questions.insert(id, question);
        }
        frames
    }

    /// The target answered a question.
    pub(super) fn answered(&self, id: u32, digests: Vec<Short>, of_pages: bool) -> Result<()> {
        let mut state = self.lock();
        let Some(question) = state.questions.remove(&id) else {
            return Err(breach(format!("answered question {id}, which nobody asked")));
        };
        if question.of_pages != of_pages || question.digests != digests.len() as u64 {
            return Err(breach(format!(
                "answered question {id} with {} digests instead of {}",
                digests.len(),
                question.digests
            )));
        }
        state.jobs.push_back(Job::Compare(question, digests));
        drop(state);
        self.for_workers.notify_one();
        Ok(())
    }

    /// Something that was to be done for the region `number` is done; `next` is to be asked then. Says how many bytes are
    /// settled by that.
    pub(super) fn finished(&self, cut: &Cut, number: u64, next: Option<Question>) -> u64 {
        let mut state = self.lock();
        if let Some(question) = next {
            state.pages.push_back(question);
            return 0;
        }
        if state.release(number) { cut.bytes_of(number) } else { 0 }
    }

    pub(super) fn add(&self, sums: &Sums) {
        let mut state = self.lock();
        state.sums.data_bytes += sums.data_bytes;
        state.sums.packed_bytes += sums.packed_bytes;
        state.sums.zeroed_bytes += sums.zeroed_bytes;
    }

    /// All that the regions below this number need was handed to the wire.
    pub(super) fn settled_below(&self) -> u64 {
        let state = self.lock();
        state.open.first_key_value().map_or(state.decided, |(number, _)| *number)
    }

    /// The digests of the regions below this number are known.
    pub(super) fn hashed_below(&self) -> u64 {
        self.lock().ours.done().len() as u64
    }

    pub(super) fn root(&self, cut: &Cut) -> Digest {
        cut.root(self.lock().ours.done())
    }

    pub(super) fn sums(&self) -> Sums {
        self.lock().sums
    }

    pub(super) fn known_bytes(&self) -> u64 {
        self.lock().known_bytes
    }
}

impl State {
    /// The next blocks of regions that differ.
    fn next_blocks(&mut self, cut: &Cut) -> Option<Question> {
        let (number, first) = self.differing.pop_front()?;
        let end = cut.range(number).end.div_ceil(BLOCK_BYTES);
        let upto = end.min(first + QUESTION_BLOCKS);
        if upto < end {
            self.differing.push_front((number, upto));
            *self.open.entry(number).or_default() += 1;
        }
        let blocks = cut.blocks(first..upto);
        let digests = blocks.len() as u64;
        if digests > 0 {
            return Some(Question { number, blocks, of_pages: false, digests });
        }
        self.release(number);
        self.next_blocks(cut)
    }

    fn release(&mut self, number: u64) -> bool {
        let Some(left) = self.open.get_mut(&number) else { return false };
        *left -= 1;
        let is_settled = *left == 0;
        if is_settled {
            self.open.remove(&number);
        }
        is_settled
    }
}
