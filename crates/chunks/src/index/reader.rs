//! Reads an index, and believes nothing that was not checked.

use std::io::Read;
use std::ops::Range;

use digest::Algorithm;
use image::{Error, ErrorKind, Medium, MemoryMedium, Result};

use super::layout::{self, HEAD_BYTES, ITEM_BYTES};
use super::{Header, Span};
use crate::{ChunkId, ChunkSizes};

/// The index of a blob.
///
/// The items stay on the medium. Opening checks all of them; an item that is read later is checked against its
/// neighbours again, since a file may change.
pub struct Index {
    medium: Box<dyn Medium>,
    name: String,
    header: Header,
    count: u64,
    size_bytes: u64,
    /// The end of the last chunk of each full block of [`MARK_EVERY`] items: narrows a search to one block.
    marks: Vec<u64>,
}

/// What to do about feature flags that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flags {
    /// Refuse the index, as casync does.
    #[default]
    Known,
    /// Read it all the same; for a blob the flags tell no more than the digest.
    Any,
}

const MARK_EVERY: u64 = 4096;
/// Items that are read at once while going through an index.
const BLOCK_ITEMS: u64 = 1024;

impl Index {
    /// Opens the index that lies on `medium`, and checks all of it.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the name of the medium and the offset of the wrong bytes; `Unsupported` for unknown flags.
    pub fn open(medium: impl Medium + 'static, flags: Flags) -> Result<Self> {
        let name = medium.name().to_string();
        let len = medium.len()?;
        let wrong = Wrong { name: &name };
        let whole = HEAD_BYTES + ITEM_BYTES;
        let header = if len >= whole {
            let mut head = [0; HEAD_BYTES as usize];
            medium.read_at(&mut head, 0)?;
            Some(read_head(&head, flags, &wrong)?)
        } else {
            None
        };
        let Some(header) = header.filter(|_| (len - HEAD_BYTES).is_multiple_of(ITEM_BYTES)) else {
            let sentence = format!(
                "it has {len} bytes, where an index of n chunks has {whole} + {ITEM_BYTES} n: it was cut off, or \
                 something follows it"
            );
            return Err(wrong.at(0..len, &sentence));
        };
        let count = (len - HEAD_BYTES) / ITEM_BYTES - 1;
        let mut index = Index {
            medium: Box::new(medium),
            name: name.clone(),
            header,
            count,
            size_bytes: 0,
            marks: Vec::new(),
        };
        let mut marks = Vec::new();
        let mut end = 0;
        for span in index.chunks(0..count) {
            let span = span?;
            end = span.end();
            if (span.number + 1).is_multiple_of(MARK_EVERY) {
                marks.push(end);
            }
        }
        let mut tail = [0; ITEM_BYTES as usize];
        index.medium.read_at(&mut tail, HEAD_BYTES + count * ITEM_BYTES)?;
        if tail != layout::tail(count) {
            let at = len - ITEM_BYTES..len;
            return Err(wrong.at(at, "its tail is wrong: it was cut off, or written by halves"));
        }
        (index.marks, index.size_bytes) = (marks, end);
        Ok(index)
    }

    /// Reads an index that comes from a stream, into memory. `name` is for errors.
    ///
    /// # Errors
    ///
    /// As [`open`](Index::open); `Damaged` if it is longer than `limit_bytes`.
    pub fn read(input: impl Read, name: &str, limit_bytes: u64, flags: Flags) -> Result<Self> {
        let mut bytes = Vec::new();
        input.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|cause| {
            Error::io(format!("cannot read the index {name}"), cause).at(name, None)
        })?;
        if bytes.len() as u64 > limit_bytes {
            let sentence = format!("it is longer than {limit_bytes} bytes");
            return Err(Wrong { name }.at(limit_bytes..limit_bytes + 1, &sentence));
        }
        let medium = MemoryMedium::new(name, bytes.len() as u64);
        medium.write_at(&bytes, 0)?;
        Self::open(medium, flags)
    }

    /// What people call it: a path, mostly.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands in front of the items.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The digest that names the chunks.
    pub fn algorithm(&self) -> Algorithm {
        self.header.algorithm()
    }

    /// The sizes that the chunks were cut with.
    pub fn sizes(&self) -> ChunkSizes {
        self.header.sizes
    }

    /// How many chunks it names.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Size of the blob in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The chunks with these numbers, in order. Numbers past the end make no chunks.
    pub fn chunks(&self, numbers: Range<u64>) -> Chunks<'_> {
        let end = numbers.end.min(self.count);
        Chunks {
            index: self,
            next: numbers.start.min(end),
            end,
            offset: None,
            block: Vec::new(),
            at: 0,
        }
    }

    /// The chunk that covers `offset`, which lies within the blob.
    pub fn chunk_at(&self, offset: u64) -> Result<Span> {
        debug_assert!(offset < self.size_bytes);
        let block = self.marks.partition_point(|end| *end <= offset) as u64;
        let first = block * MARK_EVERY;
        let last = (first + MARK_EVERY).min(self.count);
        let (mut low, mut high) = (first, last);
        // The first item whose end lies behind the offset.
        while low < high {
            let middle = low.midpoint(high);
            if self.end_of(middle)? <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let span = self.chunks(low..low + 1).next().unwrap_or_else(|| Err(self.changed()))?;
        if !span.range().contains(&offset) {
            return Err(self.changed());
        }
        Ok(span)
    }

    fn end_of(&self, number: u64) -> Result<u64> {
        let mut end = [0; 8];
        self.medium.read_at(&mut end, HEAD_BYTES + number * ITEM_BYTES)?;
        Ok(u64::from_le_bytes(end))
    }

    fn changed(&self) -> Error {
        let sentence = format!("{} changed while it was read", self.name);
        Error::new(ErrorKind::Changed, sentence).at(&self.name, None)
    }
}

fn read_head(head: &[u8], flags: Flags, wrong: &Wrong<'_>) -> Result<Header> {
    let word = |offset: usize| layout::word(head, offset);
    if word(8) != layout::INDEX_TYPE {
        return Err(wrong.at(8..16, &format!("it is no index: its type is {:#018x}", word(8))));
    }
    if word(0) != layout::INDEX_BYTES {
        let sentence =
            format!("its header claims {} bytes instead of {}", word(0), layout::INDEX_BYTES);
        return Err(wrong.at(0..8, &sentence));
    }
    let unknown = word(16) & !layout::FLAGS_KNOWN;
    if unknown != 0 && flags == Flags::Known {
        let sentence = format!(
            "cannot read the index {}: it has the unknown feature flags {unknown:#018x} (--lenient ignores them)",
            wrong.name
        );
        return Err(Error::new(ErrorKind::Unsupported, sentence).at(wrong.name, Some(16..24)));
    }
    let sizes = ChunkSizes::new(word(24), word(32), word(40))
        .map_err(|error| wrong.at(24..48, "its chunk sizes are wrong").because(error))?;
    if word(48) != layout::TABLE_SIZE {
        let sentence = format!("its table claims the size {:#018x} instead of all ones", word(48));
        return Err(wrong.at(48..56, &sentence));
    }
    if word(56) != layout::TABLE_TYPE {
        return Err(wrong.at(56..64, &format!("its table has the type {:#018x}", word(56))));
    }
    Ok(Header { flags: word(16), sizes })
}

/// Makes errors about bytes of an index.
struct Wrong<'a> {
    name: &'a str,
}

impl Wrong<'_> {
    fn at(&self, range: Range<u64>, sentence: &str) -> Error {
        let start = range.start;
        Error::new(
            ErrorKind::Damaged,
            format!("cannot read the index {}: at byte {start}, {sentence}", self.name),
        )
        .at(self.name, Some(range))
    }
}

/// Iterator of [`Index::chunks`]. After an error it ends.
pub struct Chunks<'a> {
    index: &'a Index,
    next: u64,
    end: u64,
    /// Where the next chunk begins, once that is known.
    offset: Option<u64>,
    block: Vec<u8>,
    /// Where the next item stands in the block.
    at: usize,
}

impl Chunks<'_> {
    fn read(&mut self) -> Result<Span> {
        let offset = match self.offset {
            Some(offset) => offset,
            None if self.next == 0 => 0,
            None => self.index.end_of(self.next - 1)?,
        };
        if self.at == self.block.len() {
            let items = (self.end - self.next).min(BLOCK_ITEMS);
            self.block.resize((items * ITEM_BYTES) as usize, 0);
            self.index.medium.read_at(&mut self.block, HEAD_BYTES + self.next * ITEM_BYTES)?;
            self.at = 0;
        }
        let item = &self.block[self.at..self.at + ITEM_BYTES as usize];
        let end = layout::word(item, 0);
        let max = self.index.sizes().max();
        if end <= offset || end - offset > max {
            let place = HEAD_BYTES + self.next * ITEM_BYTES;
            let wrong = Wrong { name: &self.index.name };
            let sentence = format!(
                "chunk {} is said to end at {end}, but it begins at {offset} and has at most {max} bytes",
                self.next
            );
            return Err(wrong.at(place..place + 8, &sentence));
        }
        let id = ChunkId(*item[8..].first_chunk().expect("32 bytes"));
        let span = Span { number: self.next, offset, len_bytes: end - offset, id };
        self.at += ITEM_BYTES as usize;
        self.next += 1;
        self.offset = Some(end);
        Ok(span)
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Span>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let span = self.read();
        if span.is_err() {
            self.next = self.end;
        }
        Some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::IndexWriter;

    fn sample(lens: &[u64]) -> Vec<u8> {
        let header = Header::new(Algorithm::Sha512_256, ChunkSizes::new(1, 10, 100).unwrap());
        let mut writer = IndexWriter::new(Vec::new(), &header).unwrap();
        for (number, len) in lens.iter().enumerate() {
            writer.push(&ChunkId([number as u8; 32]), *len).unwrap();
        }
        writer.finish().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Index> {
        Index::read(bytes, "test", 1 << 20, Flags::Known)
    }

    #[test]
    fn what_was_written_is_read_and_every_offset_found() {
        let lens: Vec<u64> = (0..9000).map(|number| number % 100 + 1).collect();
        let index = open(&sample(&lens)).unwrap();
        assert_eq!((index.count(), index.size_bytes()), (9000, lens.iter().sum()));
        let spans: Vec<Span> = index.chunks(0..9000).map(Result::unwrap).collect();
        for span in spans.iter().step_by(7) {
            assert_eq!(span.len_bytes, lens[span.number as usize]);
            for offset in [span.offset, span.end() - 1] {
                assert_eq!(index.chunk_at(offset).unwrap(), *span);
            }
        }
        assert_eq!(index.chunks(8998..9100).count(), 2);
    }

    #[test]
    fn an_empty_index_is_an_empty_blob() {
        let index = open(&sample(&[])).unwrap();
        assert_eq!((index.count(), index.size_bytes()), (0, 0));
        assert_eq!(sample(&[]).len(), 104);
    }

    #[test]
    fn each_truncation_and_each_tail_is_refused_with_its_place() {
        let bytes = sample(&[5, 7, 100]);
        for len in 0..bytes.len() {
            let error = open(&bytes[..len]).err().expect("it was cut off");
            assert_eq!(error.kind(), ErrorKind::Damaged);
            assert!(error.location().unwrap().range.is_some());
        }
        assert!(open(&[&bytes[..], b"x"].concat()).is_err());
        assert!(open(&[&bytes[..], &[0; 40]].concat()).is_err());
    }

    #[test]
    fn what_an_index_may_not_say_is_refused() {
        let good = sample(&[5, 7, 100]);
        let with = |offset: usize, word: u64| {
            let mut bytes = good.clone();
            bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
            open(&bytes).map(|_| ()).map_err(|error| error.kind())
        };
        assert_eq!(with(16, 1 << 40), Err(ErrorKind::Unsupported));
        let wrong = [
            (0, 47),
            (8, 1),
            (24, 0),
            (24, 11),
            (40, 9),
            (40, 1 << 40),
            (48, 40),
            (56, 0),
            (64, 0),
            (64, 101),
            (104, 5),
            (104, 4),
            (104, 106),
            (144, u64::MAX),
            (184, 1),
            (192, 1),
            (200, 47),
            (208, 0),
            (216, 0),
        ];
        for (offset, word) in wrong {
            assert_eq!(with(offset, word), Err(ErrorKind::Damaged), "{word} at {offset}");
        }
        assert_eq!(with(16, 0), Ok(()), "SHA-256, and nothing else");
    }
}
