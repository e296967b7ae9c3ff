//! The file in which digests are kept.
//!
//! Our own format, version 1; all integers little-endian. Eight bytes of magic, what ties it to its medium, the cut of the
//! image, one bit for each region, the digests of the regions whose bit is set, and the BLAKE3 digest of all that. It is
//! written as a whole under another name and renamed, so that a power cut leaves the file before or the file after. A file
//! with anything wrong says nothing.

use digest::blake3;
use sync::native::{Digest, Shape};
use sys::DiskState;

use super::binding::{Binding, Mark};

/// What is kept of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// What has to hold for it to be used.
    pub(super) binding: Binding,
    /// Kept on purpose, after a sync was complete; else it is the journal of one that was not.
    pub(super) complete: bool,
    /// The format in which the medium was read, as it is called.
    pub(super) format: String,
    /// How the image is cut.
    pub(super) shape: Shape,
    /// The digest of each region, where it is known.
    pub(super) digests: Vec<Option<Digest>>,
}

const MAGIC: [u8; 8] = *b"BLKPDIG1";
/// More than any record has: 2^19 digests, their bits, and what stands before them.
pub(super) const LEN_MAX_BYTES: u64 = (32 << 19) + (1 << 16) + (1 << 12);

impl Record {
    /// Reads what [`bytes_of`] made; `None` for anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (body, check) = bytes.split_last_chunk::<32>()?;
        let mut rest = body.strip_prefix(&MAGIC)?;
        if blake3::hash(body) != *check {
            return None;
        }
        let rest = &mut rest;
        let binding = Binding::take(rest)?;
        let complete = take_bool(rest)?;
        let format = String::from_utf8(take_bytes(rest)?.to_vec()).ok()?;
        let shape = Shape { size_bytes: take(rest)?, region_bytes: take(rest)? };
        // No disk is larger, and digests of another cut are of no use.
        if i64::try_from(shape.size_bytes).is_err() || shape != Shape::of(shape.size_bytes) {
            return None;
        }
        let count = usize::try_from(shape.regions()).ok()?;
        let bits = rest.split_off(..count.div_ceil(8))?;
        let mut digests = Vec::with_capacity(count);
        for region in 0..count {
            let is_known = bits[region / 8] >> (region % 8) & 1 == 1;
            digests.push(if is_known { Some(take_array(rest)?) } else { None });
        }
        rest.is_empty().then_some(Record { binding, complete, format, shape, digests })
    }
}

/// The bytes of a record of these `digests`, one for each region.
pub(super) fn bytes_of<'a>(
    binding: &Binding,
    complete: bool,
    format: &str,
    shape: &Shape,
    digests: impl Iterator<Item = Option<&'a Digest>> + Clone,
) -> Vec<u8> {
    let mut bits = vec![0_u8; shape.regions().div_ceil(8) as usize];
    let mut known = 0;
    for (region, _) in digests.clone().enumerate().filter(|(_, digest)| digest.is_some()) {
        bits[region / 8] |= 1 << (region % 8);
        known += 1;
    }
    let mut bytes = Vec::with_capacity(32 * known + bits.len() + 512);
    bytes.extend(MAGIC);
    binding.put(&mut bytes);
    bytes.push(u8::from(complete));
    put_bytes(&mut bytes, format.as_bytes());
    put(&mut bytes, shape.size_bytes);
    put(&mut bytes, shape.region_bytes);
    bytes.extend(bits);
    bytes.extend(digests.flatten().flatten());
    let check = blake3::hash(&bytes);
    bytes.extend(check);
    bytes
}

impl Binding {
    fn put(&self, bytes: &mut Vec<u8>) {
        match self {
            Binding::Still { mark, boot } => {
                match mark {
                    Mark::File { inode, size_bytes, modified_ns, changed_ns } => {
                        bytes.push(0);
                        put(bytes, *inode);
                        put(bytes, *size_bytes);
                        bytes.extend(modified_ns.to_le_bytes());
                        bytes.extend(changed_ns.to_le_bytes());
                    }
                    Mark::Device(state) => {
                        bytes.push(1);
                        put_state(bytes, state);
                    }
                }
                bytes.push(u8::from(boot.is_some()));
                bytes.extend(boot.unwrap_or_default());
            }
            Binding::WritingFile { inode, made_ns, until_ns } => {
                bytes.push(2);
                put(bytes, *inode);
                bytes.extend(made_ns.to_le_bytes());
                bytes.extend(until_ns.to_le_bytes());
            }
            Binding::WritingDevice { state, changed_max_sectors } => {
                bytes.push(3);
                put_state(bytes, state);
                put(bytes, *changed_max_sectors);
            }
        }
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let kind = rest.split_off_first()?;
        Some(match kind {
            0 | 1 => {
                let mark = match kind {
                    0 => Mark::File {
                        inode: take(rest)?,
                        size_bytes: take(rest)?,
                        modified_ns: i128::from_le_bytes(take_array(rest)?),
                        changed_ns: i128::from_le_bytes(take_array(rest)?),
                    },
                    _ => Mark::Device(take_state(rest)?),
                };
                let is_bound = take_bool(rest)?;
                let boot = take_array(rest)?;
                Binding::Still { mark, boot: is_bound.then_some(boot) }
            }
            2 => Binding::WritingFile {
                inode: take(rest)?,
                made_ns: i128::from_le_bytes(take_array(rest)?),
                until_ns: i128::from_le_bytes(take_array(rest)?),
            },
            3 => Binding::WritingDevice {
                state: take_state(rest)?,
                changed_max_sectors: take(rest)?,
            },
            _ => return None,
        })
    }
}

fn put_state(bytes: &mut Vec<u8>, state: &DiskState) {
    bytes.extend(state.boot);
    for number in [state.sequence, state.start_sectors, state.size_sectors, state.changed_sectors] {
        put(bytes, number);
    }
    bytes.push(u8::from(state.backing.is_some()));
    for number in state.backing.unwrap_or_default() {
        bytes.extend(number.to_le_bytes());
    }
}

fn take_state(rest: &mut &[u8]) -> Option<DiskState> {
    let boot = take_array(rest)?;
    let [sequence, start_sectors, size_sectors, changed_sectors] =
        [take(rest)?, take(rest)?, take(rest)?, take(rest)?];
    let has_backing = take_bool(rest)?;
    let mut backing = [0; 4];
    for number in &mut backing {
        *number = i128::from_le_bytes(take_array(rest)?);
    }
    let backing = has_backing.then_some(backing);
    Some(DiskState { boot, sequence, start_sectors, size_sectors, changed_sectors, backing })
}

fn put(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend(number.to_le_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, text: &[u8]) {
    put(bytes, text.len() as u64);
    bytes.extend(text);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    take_array(rest).map(u64::from_le_bytes)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    rest.split_off(..N)?.try_into().ok()
}

fn take_bool(rest: &mut &[u8]) -> Option<bool> {
    match rest.split_off_first()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take(rest)?).ok()?;
    rest.split_off(..len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Record {
        fn to_bytes(&self) -> Vec<u8> {
            let Record { binding, complete, format, shape, digests } = self;
            bytes_of(binding, *complete, format, shape, digests.iter().map(Option::as_ref))
        }
    }

    fn state(seed: u8) -> DiskState {
        DiskState {
            boot: [seed; 16],
            sequence: 5,
            start_sectors: 2048,
            size_sectors: 1 << 30,
            changed_sectors: 77,
            backing: (seed > 100).then_some([1, -2, i128::MAX, i128::MIN]),
        }
    }

    fn bindings() -> [Binding; 5] {
        let file =
            Mark::File { inode: 9, size_bytes: 1 << 50, modified_ns: -5, changed_ns: 1 << 70 };
        [
            Binding::Still { mark: file.clone(), boot: None },
            Binding::Still { mark: file, boot: Some([7; 16]) },
            Binding::Still { mark: Mark::Device(state(3)), boot: None },
            Binding::WritingFile { inode: 1, made_ns: 2, until_ns: -3 },
            Binding::WritingDevice { state: state(200), changed_max_sectors: 4 },
        ]
    }

    fn record(binding: Binding, size_bytes: u64) -> Record {
        let shape = Shape::of(size_bytes);
        let digest = |region: u64| (region % 3 != 1).then_some([region as u8; 32]);
        let digests = (0..shape.regions()).map(digest).collect();
        Record { binding, complete: true, format: "raw".into(), shape, digests }
    }

    #[test]
    fn a_record_reads_back_as_it_was() {
        for size_bytes in [0, 1, 1 << 20, (9 << 20) + 1, 100 << 20] {
            for binding in bindings() {
                let record = record(binding, size_bytes);
                assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
            }
        }
    }

    #[test]
    fn the_largest_record_is_as_long_as_a_record_may_be() {
        let [.., binding] = bindings();
        let mut largest = record(binding, 1 << 62);
        largest.digests.fill(Some([1; 32]));
        let bytes = largest.to_bytes();
        assert!(bytes.len() as u64 <= LEN_MAX_BYTES, "{} bytes", bytes.len());
        assert!(Record::from_bytes(&bytes).is_some());
    }

    #[test]
    fn each_cut_of_a_record_and_each_changed_byte_makes_it_say_nothing() {
        let [first, ..] = bindings();
        let bytes = record(first, 5 << 20).to_bytes();
        for end in 0..bytes.len() {
            assert_eq!(Record::from_bytes(&bytes[..end]), None, "cut at {end}");
            let mut changed = bytes.clone();
            changed[end] ^= 1;
            assert_eq!(Record::from_bytes(&changed), None, "changed at {end}");
        }
    }

    proptest! {
        /// The check at the end is right, as a liar would make it.
        #[test]
        fn whatever_stands_in_a_record_it_is_read_without_a_panic(
            which in 0usize..5, at in 8usize..200, with in prop::collection::vec(any::<u8>(), 0..24),
        ) {
            let mut bytes = record(bindings()[which].clone(), 3 << 20).to_bytes();
            bytes.truncate(bytes.len() - 32);
            let at = at.min(bytes.len());
            let end = (at + with.len()).min(bytes.len());
            bytes.splice(at..end, with);
            bytes.extend(blake3::hash(&bytes));
            if let Some(found) = Record::from_bytes(&bytes) {
                prop_assert_eq!(found.digests.len() as u64, found.shape.regions());
                prop_assert_eq!(Record::from_bytes(&found.to_bytes()), Some(found));
            }
        }
    }
}
