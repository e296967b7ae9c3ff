//! Puts searched blocks into their order, cuts them, and gathers the pieces of each chunk.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use digest::Algorithm;
use digest::rolling::{Candidates, WINDOW_BYTES, window_hash};

use super::block::{Buffer, Pieces};
use crate::ChunkId;
use crate::chunker::{Cutter, Cutting};

/// A part of the source that was searched.
pub(super) enum Segment {
    /// Bytes, and the candidates whose window lies within them.
    Data { buffer: Arc<Buffer>, len: usize, candidates: Vec<u32> },
    /// So many zeroes.
    Zero { len_bytes: u64 },
}

/// What was cut.
pub(super) enum Cut {
    /// A chunk to be hashed.
    Data { len_bytes: u64, pieces: Pieces },
    /// A chunk of zeroes; its name is known.
    Zero { len_bytes: u64, id: ChunkId },
}

/// Takes segments in any order, gives chunks in theirs.
pub(super) struct Sequencer {
    early: BTreeMap<u64, Segment>,
    next: u64,
    candidates: Option<Candidates>,
    zero_passes: bool,
    cutter: Cutter,
    /// Where the next segment begins.
    at: u64,
    /// The last bytes before it: the windows of its first positions begin there.
    tail: Vec<u8>,
    /// Segments from the beginning of the chunk under way on.
    parts: VecDeque<Part>,
    zero_ids: ZeroIds,
    scratch: Vec<u32>,
}

struct Part {
    range: Range<u64>,
    /// `None` for zeroes.
    buffer: Option<Arc<Buffer>>,
}

const CONTEXT: usize = WINDOW_BYTES - 1;

impl Sequencer {
    pub(super) fn new(cutting: &Cutting, algorithm: Algorithm) -> Self {
        let candidates = cutting.candidates();
        Sequencer {
            early: BTreeMap::new(),
            next: 0,
            zero_passes: candidates
                .as_ref()
                .is_some_and(|search| search.passes(window_hash(&[0; WINDOW_BYTES]))),
            candidates,
            cutter: Cutter::new(cutting),
            at: 0,
            tail: Vec::new(),
            parts: VecDeque::new(),
            zero_ids: ZeroIds { algorithm, last: None, known: HashMap::new() },
            scratch: Vec::new(),
        }
    }

    /// Takes the segment with this number, and cuts as far as all before it are there.
    pub(super) fn take(&mut self, number: u64, segment: Segment, mut cut: impl FnMut(Cut)) {
        self.early.insert(number, segment);
        while let Some(segment) = self.early.remove(&self.next) {
            self.next += 1;
            self.append(segment);
            while let Some(end) = self.cut_one() {
                cut(end);
            }
        }
    }

    /// All segments were taken: the last chunk, if there is one.
    pub(super) fn finish(&mut self) -> Option<Cut> {
        let start = self.cutter.start();
        (start < self.at).then(|| self.gather(start..self.at))
    }

    fn append(&mut self, segment: Segment) {
        let start = self.at;
        match segment {
            Segment::Data { buffer, len, candidates } => {
                self.search_border(&buffer[..len.min(CONTEXT)]);
                for position in candidates {
                    let position = start + u64::from(position);
                    self.cutter.candidate(position..=position);
                }
                self.remember(&buffer[len.saturating_sub(CONTEXT)..len]);
                self.at = start + len as u64;
                self.parts.push_back(Part { range: start..self.at, buffer: Some(buffer) });
            }
            Segment::Zero { len_bytes } => {
                let zeroes = [0; CONTEXT];
                let head = &zeroes[..len_bytes.min(CONTEXT as u64) as usize];
                self.search_border(head);
                self.at = start + len_bytes;
                if self.zero_passes && len_bytes >= WINDOW_BYTES as u64 {
                    self.cutter.candidate(start + WINDOW_BYTES as u64..=self.at);
                }
                self.remember(head);
                self.parts.push_back(Part { range: start..self.at, buffer: None });
            }
        }
        self.cutter.scanned_to(self.at);
    }

    /// Searches the positions whose windows begin before this segment.
    fn search_border(&mut self, head: &[u8]) {
        let Some(search) = &self.candidates else { return };
        let before = self.tail.len();
        self.tail.extend_from_slice(head);
        self.scratch.clear();
        search.find(&self.tail, &mut self.scratch);
        for position in &self.scratch {
            let position = *position as usize;
            // Those up to the border were found with the segment before.
            if position > before {
                let position = self.at + (position - before) as u64;
                self.cutter.candidate(position..=position);
            }
        }
        self.tail.truncate(before);
    }

    /// Keeps the last bytes of what was appended.
    fn remember(&mut self, last: &[u8]) {
        self.tail.extend_from_slice(last);
        let excess = self.tail.len().saturating_sub(CONTEXT);
        self.tail.drain(..excess);
    }

    fn cut_one(&mut self) -> Option<Cut> {
        let start = self.cutter.start();
        let end = self.cutter.next_cut()?;
        Some(self.gather(start..end))
    }

    /// The chunk that covers `range`, which begins in the first part.
    fn gather(&mut self, range: Range<u64>) -> Cut {
        let len_bytes = range.end - range.start;
        if let Some(Part { range: part, buffer: None }) = self.parts.front()
            && range.end < part.end
        {
            // A hole may hold millions of chunks.
            return Cut::Zero { len_bytes, id: self.zero_ids.of(len_bytes) };
        }
        let mut pieces = Pieces::new();
        let mut is_zero = true;
        while let Some(part) = self.parts.front() {
            let from = part.range.start.max(range.start);
            let to = part.range.end.min(range.end);
            match &part.buffer {
                Some(buffer) => {
                    is_zero = false;
                    let base = part.range.start;
                    pieces.data(buffer, (from - base) as usize..(to - base) as usize);
                }
                None => pieces.zeroes(to - from),
            }
            if part.range.end > range.end {
                break;
            }
            self.parts.pop_front();
            if to == range.end {
                break;
            }
        }
        // Zeroes that were read are mostly cut at the largest size; looking for the first other byte is cheap.
        if is_zero || len_bytes == self.cutter.max() && pieces.is_zero() {
            return Cut::Zero { len_bytes, id: self.zero_ids.of(len_bytes) };
        }
        Cut::Data { len_bytes, pieces }
    }
}

/// The names of chunks of zeroes.
struct ZeroIds {
    algorithm: Algorithm,
    last: Option<(u64, ChunkId)>,
    known: HashMap<u64, ChunkId>,
}

impl ZeroIds {
    fn of(&mut self, len_bytes: u64) -> ChunkId {
        if let Some((len, id)) = self.last
            && len == len_bytes
        {
            return id;
        }
        let algorithm = self.algorithm;
        let id = *self
            .known
            .entry(len_bytes)
            .or_insert_with(|| ChunkId::of_zeroes(algorithm, len_bytes));
        self.last = Some((len_bytes, id));
        id
    }
}
