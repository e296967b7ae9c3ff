//! What stands in an image, and its digests: holes are not read, and zeroes not hashed.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use digest::blake3::{self, Hasher};
use digest::is_zero;
use image::{Extent, ExtentKind, Image, Result};

use super::cut::{Cut, block_range};
use super::frame::Short;
use super::link::Link;
use super::{Digest, PAGE_BYTES};

/// How much is read at once, in bytes: as large requests as a device wants, and still in the processor's cache when the
/// digest is taken.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// An image as it is read for its digests.
pub(super) struct Content<'a> {
    image: &'a dyn Image,
    /// Bytes from here on are zero, whatever the image says.
    end: u64,
    runs: Runs,
    link: &'a Link,
}

/// Which runs of the image are believed.
enum Runs {
    /// What the map said lately: one question may cost the system a walk over all that follows.
    Mapped(Mutex<VecDeque<Extent>>),
    /// Also unspecified runs are zero.
    MappedForSource(Mutex<VecDeque<Extent>>),
    /// None: all is read.
    Unmapped,
}

/// How many runs are remembered: threads read at different places.
const RUNS_KEPT: usize = 16;

/// A run of zeroes, or bytes that were read, which may be zero as well.
pub(super) enum Piece<'a> {
    Zero(Range<u64>),
    Data(u64, &'a [u8]),
}

impl<'a> Content<'a> {
    /// For a source: what nobody cares about is zero.
    pub(super) fn of_source(image: &'a dyn Image, link: &'a Link) -> Self {
        let runs = Runs::MappedForSource(Mutex::default());
        Content { image, end: image.size(), runs, link }
    }

    /// For a target: what stood there before anything was written, of which `end` bytes count.
    pub(super) fn of_target(image: &'a dyn Image, end: u64, link: &'a Link) -> Self {
        Content { image, end, runs: Runs::Mapped(Mutex::default()), link }
    }

    /// For a target that is being written: maps of it are of no use a moment later.
    pub(super) fn unmapped(image: &'a dyn Image, end: u64, link: &'a Link) -> Self {
        Content { image, end, runs: Runs::Unmapped, link }
    }

    /// All of `range`, in order, in pieces of at most [`PIECE_BYTES`] where it is read.
    pub(super) fn pieces(
        &self,
        range: Range<u64>,
        buf: &mut [u8],
        mut each: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let run = self.run_at(at)?.until(range.end);
            if self.is_zero(run.kind) {
                each(Piece::Zero(run.range()))?;
                at = run.end();
                continue;
            }
            while at < run.end() {
                self.link.go_on()?;
                // Pieces end at multiples of their length, so that pages and blocks are not cut.
                let whole = (at / PIECE_BYTES as u64 + 1) * PIECE_BYTES as u64;
                let len = (whole.min(run.end()) - at) as usize;
                let bytes = &mut buf[..len];
                self.image.read_at(bytes, at)?;
                each(Piece::Data(at, bytes))?;
                at += len as u64;
            }
        }
        Ok(())
    }

    fn is_zero(&self, kind: ExtentKind) -> bool {
        match kind {
            ExtentKind::Zero => true,
            ExtentKind::Unspecified => matches!(self.runs, Runs::MappedForSource(_)),
            ExtentKind::Data => false,
        }
    }

    /// What is at `offset`, and how far.
    fn run_at(&self, offset: u64) -> Result<Extent> {
        if offset >= self.end {
            return Ok(Extent::new(offset..u64::MAX, ExtentKind::Zero));
        }
        let runs = match &self.runs {
            Runs::Mapped(runs) | Runs::MappedForSource(runs) => runs,
            Runs::Unmapped => return Ok(Extent::new(offset..self.end, ExtentKind::Data)),
        };
        let lock = || runs.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().iter().find(|run| run.range().contains(&offset)).copied();
        let run = match known {
            Some(run) => run,
            None => {
                let run = self.image.extent_at(offset)?;
                let mut runs = lock();
                if runs.len() == RUNS_KEPT {
                    runs.pop_front();
                }
                runs.push_back(run);
                run
            }
        };
        Ok(Extent::new(offset..run.end(), run.kind).until(self.end))
    }

    /// The digest of the parts of `range` that are compared.
    pub(super) fn digest(
        &self,
        cut: &Cut,
        range: Range<u64>,
        zeroes: &Zeroes,
        buf: &mut [u8],
    ) -> Result<Digest> {
        let mut taken = Taken::default();
        for part in cut.parts(range) {
            self.pieces(part, buf, |piece| {
                match piece {
                    Piece::Zero(range) => taken.zero(range.end - range.start),
                    Piece::Data(_, bytes) => taken.data(bytes),
                }
                Ok(())
            })?;
        }
        Ok(taken.finish(zeroes))
    }

    /// The parts of `range` that are compared, one behind the other.
    pub(super) fn read(&self, cut: &Cut, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        for part in cut.parts(range) {
            let from = bytes.len();
            bytes.resize(from + (part.end - part.start) as usize, 0);
            self.fill(&mut bytes[from..], part.start)?;
        }
        Ok(bytes)
    }

    /// The digests of the compared parts of `blocks`.
    pub(super) fn blocks(
        &self,
        cut: &Cut,
        blocks: &[u64],
        zeroes: &Zeroes,
        buf: &mut [u8],
    ) -> Result<Vec<Short>> {
        let mut digests = Vec::with_capacity(blocks.len());
        for block in blocks {
            digests.push(short(&self.digest(cut, block_range(*block), zeroes, buf)?));
        }
        Ok(digests)
    }

    /// The digests of the compared pages of `blocks`.
    pub(super) fn pages(
        &self,
        cut: &Cut,
        blocks: &[u64],
        zeroes: &Zeroes,
        buf: &mut [u8],
    ) -> Result<Vec<Short>> {
        let mut digests = Vec::with_capacity(blocks.len() * 16);
        for part in blocks.iter().flat_map(|block| cut.parts(block_range(*block))) {
            let bytes = &mut buf[..(part.end - part.start) as usize];
            self.fill(bytes, part.start)?;
            for page in bytes.chunks(PAGE_BYTES as usize) {
                digests.push(short(&zeroes.or_digest(page)));
            }
        }
        Ok(digests)
    }

    /// What stands at `offset`.
    fn fill(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let mut at = 0;
        while at < buf.len() {
            let (from, end) = (offset + at as u64, offset + buf.len() as u64);
            let run = self.run_at(from)?.until(end);
            let upto = at + run.len_bytes as usize;
            match self.is_zero(run.kind) {
                true => buf[at..upto].fill(0),
                false => self.image.read_at(&mut buf[at..upto], from)?,
            }
            at = upto;
        }
        Ok(())
    }
}

/// The first half of `digest`.
pub(super) fn short(digest: &Digest) -> Short {
    std::array::from_fn(|at| digest[at])
}

/// A digest that is being taken. As long as all is zero, it only counts.
#[derive(Default)]
struct Taken {
    zero_bytes: u64,
    hasher: Option<Hasher>,
}

impl Taken {
    fn zero(&mut self, len_bytes: u64) {
        match &mut self.hasher {
            Some(hasher) => hash_zeroes(hasher, len_bytes),
            None => self.zero_bytes += len_bytes,
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        if self.hasher.is_none() && is_zero(bytes) {
            self.zero_bytes += bytes.len() as u64;
            return;
        }
        let zero_bytes = self.zero_bytes;
        let hasher = self.hasher.get_or_insert_with(|| {
            let mut hasher = Hasher::new();
            hash_zeroes(&mut hasher, zero_bytes);
            hasher
        });
        hasher.update(bytes);
    }

    fn finish(self, zeroes: &Zeroes) -> Digest {
        match self.hasher {
            Some(hasher) => hasher.finish(),
            None => zeroes.of(self.zero_bytes),
        }
    }
}

fn hash_zeroes(hasher: &mut Hasher, mut len_bytes: u64) {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    while len_bytes > 0 {
        let len = len_bytes.min(ZEROES.len() as u64);
        hasher.update(&ZEROES[..len as usize]);
        len_bytes -= len;
    }
}

/// The digests of so many zeroes, each taken once.
#[derive(Default)]
pub(super) struct Zeroes {
    known: Mutex<HashMap<u64, Digest>>,
}

/// More lengths than this are met in scopes only, where each costs little.
const LENGTHS_KEPT: usize = 1024;

impl Zeroes {
    /// The digest of `bytes`, which is not taken if they are zero.
    pub(super) fn or_digest(&self, bytes: &[u8]) -> Digest {
        match is_zero(bytes) {
            true => self.of(bytes.len() as u64),
            false => blake3::hash(bytes),
        }
    }

    /// The digest of `len_bytes` zeroes.
    pub(super) fn of(&self, len_bytes: u64) -> Digest {
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&len_bytes).copied();
        known.unwrap_or_else(|| {
            let mut hasher = Hasher::new();
            hash_zeroes(&mut hasher, len_bytes);
            let digest = hasher.finish();
            let mut known = lock();
            if known.len() < LENGTHS_KEPT {
                known.insert(len_bytes, digest);
            }
            digest
        })
    }
}
