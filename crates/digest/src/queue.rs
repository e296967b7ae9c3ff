//! The queue that keeps the lanes of a kernel busy with messages of any lengths.

use crate::Message;
use crate::block::{BlockHash, Engine, Job, MAX_LANES, TAIL_BYTES};

/// Messages under way. Each owns a lane until it is finished; no pointer into it outlives a step.
pub(crate) struct Queue<M, H: BlockHash> {
    engine: Engine<H::State>,
    initial: H::State,
    /// The first `busy` of them have a message.
    lanes: Box<[Lane<M, H>; MAX_LANES]>,
    busy: usize,
}

impl<M: Message, H: BlockHash> Queue<M, H> {
    /// Empty lanes for messages whose state begins as `initial`.
    pub(crate) fn new(engine: Engine<H::State>, initial: H::State) -> Self {
        assert!((1..=MAX_LANES).contains(&engine.lanes));
        let lanes = Box::new(std::array::from_fn(|_| Lane::idle(&initial)));
        Queue { engine, initial, lanes, busy: 0 }
    }

    /// Takes a message; when all lanes are busy, first works until one is free.
    pub(crate) fn push(&mut self, message: M, done: &mut impl FnMut(M, &H::State)) {
        while self.busy == self.engine.lanes {
            self.step(done);
        }
        self.lanes[self.busy].start(message, &self.initial);
        self.busy += 1;
    }

    /// Works until all lanes are free.
    pub(crate) fn finish(&mut self, done: &mut impl FnMut(M, &H::State)) {
        while self.busy > 0 {
            self.step(done);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.busy
    }

    /// Compresses as many blocks of all busy lanes as are at hand in each, and frees those that are finished.
    fn step(&mut self, done: &mut impl FnMut(M, &H::State)) {
        let busy = &self.lanes[..self.busy];
        let len = busy.iter().map(|lane| lane.run_len).min().unwrap_or(0);
        let mut jobs = self.lanes.each_mut().map(|lane| lane.job(len));
        (self.engine.many)(&mut jobs[..self.busy]);

        // From the last, so that a lane which fills the gap has been looked at already.
        for number in (0..self.busy).rev() {
            let lane = &mut self.lanes[number];
            lane.advance(len);
            if lane.run_len > 0 || lane.find_run() {
                continue;
            }
            if let Some(message) = lane.message.take() {
                done(message, &lane.state);
            }
            self.busy -= 1;
            if number != self.busy {
                self.lanes.swap(number, self.busy);
            }
        }
    }
}

/// One message, and how far it is.
struct Lane<M, H: BlockHash> {
    message: Option<M>,
    state: H::State,
    /// What can be compressed next without a copy: whole blocks of a piece, or of `buffer`.
    run: Run,
    run_len: usize,
    /// The piece that the next run is taken from, and where in it.
    piece: usize,
    at: usize,
    total_bytes: u64,
    /// Of the message, behind the run; `None` when the tail has been padded.
    left_bytes: Option<u64>,
    /// A block that crosses pieces, or the padded tail.
    buffer: [u8; TAIL_BYTES],
}

/// Where a run begins.
#[derive(Clone, Copy)]
enum Run {
    Piece { number: usize, at: usize },
    Buffer { at: usize },
}

impl<M: Message, H: BlockHash> Lane<M, H> {
    fn idle(initial: &H::State) -> Self {
        Lane {
            message: None,
            state: initial.clone(),
            run: Run::Buffer { at: 0 },
            run_len: 0,
            piece: 0,
            at: 0,
            total_bytes: 0,
            left_bytes: None,
            buffer: [0; TAIL_BYTES],
        }
    }

    fn start(&mut self, message: M, initial: &H::State) {
        let mut total_bytes = 0;
        let mut number = 0;
        while let Some(piece) = message.piece(number) {
            total_bytes += piece.len() as u64;
            number += 1;
        }
        self.message = Some(message);
        self.state.clone_from(initial);
        (self.piece, self.at) = (0, 0);
        (self.total_bytes, self.left_bytes) = (total_bytes, Some(total_bytes));
        self.find_run();
    }

    /// The next `len` bytes of the run; nothing for a lane that is not busy.
    fn job(&mut self, len: usize) -> Job<'_, H::State> {
        let blocks = match (&self.message, self.run) {
            (None, _) => &[],
            (Some(message), Run::Piece { number, at }) => {
                &expect_piece(message, number)[at..][..len]
            }
            (Some(_), Run::Buffer { at }) => &self.buffer[at..][..len],
        };
        Job { state: &mut self.state, blocks }
    }

    /// Leaves `len` bytes of the run behind.
    fn advance(&mut self, len: usize) {
        let (Run::Piece { at, .. } | Run::Buffer { at }) = &mut self.run;
        *at += len;
        self.run_len -= len;
    }

    /// Finds the next run. `false` when the message is at its end.
    fn find_run(&mut self) -> bool {
        let (Some(message), Some(left_bytes)) = (&self.message, self.left_bytes) else {
            return false;
        };
        // At least one byte is kept back for the tail.
        let block_bytes = H::BLOCK_BYTES as u64;
        let whole_bytes = left_bytes.saturating_sub(1) / block_bytes * block_bytes;
        if whole_bytes == 0 {
            let filled = left_bytes as usize;
            copy_out(message, &mut self.piece, &mut self.at, &mut self.buffer[..filled]);
            self.run = Run::Buffer { at: 0 };
            self.run_len = H::pad(&mut self.state, &mut self.buffer, filled, self.total_bytes);
            self.left_bytes = None;
            return true;
        }
        let mut here = expect_piece(message, self.piece).len() - self.at;
        while here == 0 {
            (self.piece, self.at) = (self.piece + 1, 0);
            here = expect_piece(message, self.piece).len();
        }
        if here >= H::BLOCK_BYTES {
            let here = here - here % H::BLOCK_BYTES;
            self.run = Run::Piece { number: self.piece, at: self.at };
            // `here` is the lesser where the other does not fit into a `usize`.
            self.run_len = usize::try_from(whole_bytes).map_or(here, |whole| whole.min(here));
            self.at += self.run_len;
        } else {
            let block = &mut self.buffer[..H::BLOCK_BYTES];
            copy_out(message, &mut self.piece, &mut self.at, block);
            self.run = Run::Buffer { at: 0 };
            self.run_len = H::BLOCK_BYTES;
        }
        self.left_bytes = Some(left_bytes - self.run_len as u64);
        true
    }
}

/// Fills `to` with the bytes from `at` in piece `piece` on, and moves both behind them.
fn copy_out(message: &impl Message, piece: &mut usize, at: &mut usize, to: &mut [u8]) {
    let mut filled = 0;
    while filled < to.len() {
        let from = &expect_piece(message, *piece)[*at..];
        let len = from.len().min(to.len() - filled);
        to[filled..filled + len].copy_from_slice(&from[..len]);
        filled += len;
        if len == from.len() {
            (*piece, *at) = (*piece + 1, 0);
        } else {
            *at += len;
        }
    }
}

/// A piece that was there when the message was pushed.
fn expect_piece(message: &impl Message, number: usize) -> &[u8] {
    message.piece(number).expect("a message must give the same pieces each time it is asked")
}
