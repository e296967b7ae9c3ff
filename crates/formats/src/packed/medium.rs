//! The content of a compressed file as a medium, readable at any place by many threads.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use image::{Error, ErrorKind, Extent, ExtentKind, Medium, Result};

/// How the segments of one file are found and unpacked.
pub trait Segments: Send + Sync {
    /// Length of the content in bytes.
    fn len_bytes(&self) -> u64;

    /// The segment that has the byte at `offset`, which lies before the end: its number, and its range of the content.
    fn find(&self, offset: u64) -> (usize, Range<u64>);

    /// Whether the content stands in the file as it is, so that nothing has to be unpacked or kept.
    fn is_plain(&self) -> bool {
        false
    }

    /// Replaces `out` by the content of segment `at`, checked.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position in the packed file.
    fn unpack(&self, file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()>;

    /// Fills `out`, which is as long as the content of segment `at`, with it, checked.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position in the packed file.
    fn unpack_into(&self, file: &dyn Medium, at: usize, out: &mut [u8]) -> Result<()> {
        let mut content = Vec::new();
        self.unpack(file, at, &mut content)?;
        out.copy_from_slice(&content);
        Ok(())
    }

    /// Checks what [`unpack`](Segments::unpack) never sees: head, tail, and that nothing lies between.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position.
    fn check_rest(&self, file: &dyn Medium) -> Result<()>;
}

/// The content of a compressed file. Segments that were unpacked last are kept for the next reader: at most
/// [`PackedMedium::KEPT_SEGMENTS`], and [`PackedMedium::KEPT_BYTES`] of them, or one.
///
/// A reader waits for another only where that one unpacks the segment that it wants itself. What is read as a whole
/// segment is unpacked straight to where the reader wants it, and not kept.
pub struct PackedMedium<M> {
    file: M,
    segments: Box<dyn Segments>,
    kept: Mutex<Kept>,
}

const KEPT_SEGMENTS: usize = 8;
const KEPT_BYTES: u64 = 64 << 20;

/// Unpacked segments, the one that was used last at the end.
#[derive(Default)]
struct Kept {
    cells: Vec<(usize, Arc<Cell>)>,
    /// Memory of one that had to go, to be used again.
    spare: Vec<u8>,
}

struct Cell {
    len_bytes: u64,
    /// Empty until somebody has unpacked it.
    content: RwLock<Vec<u8>>,
}

impl<M: Medium> PackedMedium<M> {
    /// How many unpacked segments are kept.
    pub const KEPT_SEGMENTS: usize = KEPT_SEGMENTS;
    /// How many bytes of unpacked segments are kept.
    pub const KEPT_BYTES: u64 = KEPT_BYTES;

    /// The content of `file`, by its `segments`.
    pub fn new(file: M, segments: Box<dyn Segments>) -> Self {
        PackedMedium { file, segments, kept: Mutex::default() }
    }

    /// The packed file.
    pub fn file(&self) -> &M {
        &self.file
    }

    /// The segment that has the byte at `offset`, which lies before the end, as a range of the content. Who reads all
    /// of it in whole segments reads it fastest.
    pub fn segment_at(&self, offset: u64) -> Range<u64> {
        self.segments.find(offset).1
    }

    /// Checks the parts of the packed file that no reading touches.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position.
    pub fn check_rest(&self) -> Result<()> {
        self.segments.check_rest(&self.file)
    }
}

impl<M: Medium> Medium for PackedMedium<M> {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn len(&self) -> Result<u64> {
        Ok(self.segments.len_bytes())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let len = self.segments.len_bytes();
        let end = offset.saturating_add(buf.len() as u64);
        if end > len {
            let name = self.file.name();
            let sentence = format!(
                "cannot read {} bytes at {offset} of what is packed in {name}: it ends at {len}",
                buf.len()
            );
            return Err(Error::new(ErrorKind::Changed, sentence).at(name, None));
        }
        if self.segments.is_plain() {
            return self.file.read_at(buf, offset);
        }
        let (mut rest, mut offset) = (buf, offset);
        while !rest.is_empty() {
            let (at, segment) = self.segments.find(offset);
            let part_len = (segment.end.min(end) - offset) as usize;
            let (part, behind) = rest.split_at_mut(part_len);
            self.read_part(at, &segment, part, offset)?;
            (rest, offset) = (behind, offset + part_len as u64);
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        Err(self.read_only())
    }

    fn set_len(&self, _: u64) -> Result<()> {
        Err(self.read_only())
    }

    fn punch(&self, _: Range<u64>) -> Result<()> {
        Err(self.read_only())
    }

    fn discard(&self, _: Range<u64>) -> Result<()> {
        Err(self.read_only())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        if self.segments.is_plain() {
            return self.file.extent_at(offset);
        }
        Ok(Extent { offset, len_bytes: self.len()? - offset, kind: ExtentKind::Data })
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

impl<M: Medium> PackedMedium<M> {
    /// Reads `part`, which begins at `offset` of the content and lies in `segment`, the one of number `at`.
    fn read_part(
        &self,
        at: usize,
        segment: &Range<u64>,
        part: &mut [u8],
        offset: u64,
    ) -> Result<()> {
        let len_bytes = segment.end - segment.start;
        let (cell, memory) = {
            let mut kept = lock(&self.kept);
            match kept.get(at) {
                Some(cell) => (cell, None),
                None if part.len() as u64 == len_bytes => {
                    drop(kept);
                    return self.segments.unpack_into(&self.file, at, part);
                }
                None => {
                    let (cell, memory) = kept.add(at, len_bytes);
                    (cell, Some(memory))
                }
            }
        };
        let from = (offset - segment.start) as usize;
        let copy = |content: &[u8], part: &mut [u8]| {
            part.copy_from_slice(&content[from..from + part.len()]);
        };
        let content = cell.content.read().unwrap_or_else(PoisonError::into_inner);
        if !content.is_empty() {
            copy(&content, part);
            return Ok(());
        }
        drop(content);
        // Whoever comes first unpacks; the others find it done. After a failure each finds out for itself.
        let mut content = cell.content.write().unwrap_or_else(PoisonError::into_inner);
        if content.is_empty() {
            let mut unpacked = memory.unwrap_or_default();
            self.segments.unpack(&self.file, at, &mut unpacked)?;
            *content = unpacked;
        }
        copy(&content, part);
        Ok(())
    }

    fn read_only(&self) -> Error {
        let name = self.file.name();
        let sentence = format!("{name} is compressed and cannot be written in place");
        Error::new(ErrorKind::Unsupported, sentence).at(name, None)
    }
}

impl Kept {
    fn get(&mut self, at: usize) -> Option<Arc<Cell>> {
        let place = self.cells.iter().position(|(number, _)| *number == at)?;
        self.cells[place..].rotate_left(1);
        self.cells.last().map(|(_, cell)| Arc::clone(cell))
    }

    /// A cell for segment `at`, which has none, and memory to unpack it to. Others go if there are too many.
    fn add(&mut self, at: usize, len_bytes: u64) -> (Arc<Cell>, Vec<u8>) {
        let cell = Arc::new(Cell { len_bytes, content: RwLock::default() });
        self.cells.push((at, Arc::clone(&cell)));
        let mut bytes: u64 = self.cells.iter().map(|(_, cell)| cell.len_bytes).sum();
        let is_too_much = |count: usize, bytes: u64| count > KEPT_SEGMENTS || bytes > KEPT_BYTES;
        while self.cells.len() > 1 && is_too_much(self.cells.len(), bytes) {
            let (_, oldest) = self.cells.remove(0);
            bytes -= oldest.len_bytes;
            // Those who still read it keep it until they are done.
            if let Some(cell) = Arc::into_inner(oldest) {
                self.spare = cell.content.into_inner().unwrap_or_else(PoisonError::into_inner);
            }
        }
        (cell, std::mem::take(&mut self.spare))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
