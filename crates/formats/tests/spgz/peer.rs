//! A second reader, written from the description of the format alone, that also says whether a container is as long as
//! it should be.

use std::io::Write;
use std::process::{Command, Stdio};

/// What stands in a slot.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) marker: u8,
    /// Bytes behind the marker: the block, or a member and whatever follows it.
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn block_bytes(container: &[u8]) -> usize {
    assert_eq!(&container[..8], b"SPGZ0001");
    let count = u32::from_le_bytes(container[8..12].try_into().unwrap());
    count as usize * 4096 - 1
}

pub(crate) fn slots(container: &[u8]) -> Vec<Slot> {
    let slot = block_bytes(container) + 1;
    let behind = container.get(4096..).unwrap_or_default();
    behind.chunks(slot).map(|slot| Slot { marker: slot[0], payload: slot[1..].to_vec() }).collect()
}

/// The image in `container`, unpacked by another library.
pub(crate) fn image(container: &[u8]) -> Vec<u8> {
    let block_bytes = block_bytes(container);
    let complete = container.len().saturating_sub(4096) / (block_bytes + 1);
    let mut image = Vec::new();
    for (number, slot) in slots(container).into_iter().enumerate() {
        let mut bytes = match slot.marker {
            0 => slot.payload,
            1 => unpacked(&slot.payload, block_bytes).unwrap(),
            marker => panic!("marker {marker}"),
        };
        if number < complete {
            bytes.resize(block_bytes, 0);
        }
        image.extend(bytes);
    }
    image
}

/// What the member at the beginning of `payload` unpacks to.
fn unpacked(payload: &[u8], block_bytes: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; block_bytes];
    let len = libdeflater::Decompressor::new().gzip_decompress(payload, &mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

/// How long the member at the beginning of `payload` is: cut by a byte, it is none.
pub(crate) fn member_len(payload: &[u8], block_bytes: usize) -> usize {
    assert_eq!(payload[..4], [0x1f, 0x8b, 8, 0]);
    let (mut too_short, mut enough) = (0, payload.len());
    while too_short + 1 < enough {
        let middle = usize::midpoint(too_short, enough);
        match unpacked(&payload[..middle], block_bytes) {
            Some(_) => enough = middle,
            None => too_short = middle,
        }
    }
    enough
}

/// Checks that a container which we wrote is as it should be: chapter and verse of the description.
pub(crate) fn check_ours(container: &[u8], size_bytes: usize) {
    let block_bytes = block_bytes(container);
    assert!(container[12..4096.min(container.len())].iter().all(|&byte| byte == 0));
    let slots = slots(container);
    let (whole, rest) = (size_bytes / block_bytes, size_bytes % block_bytes);
    let border = 4096 + whole * (block_bytes + 1);
    if rest == 0 {
        assert_eq!(container.len(), border, "a whole last block fills its slot");
    } else {
        let last = &slots[whole];
        let used = match last.marker {
            0 => rest,
            _ => member_len(&last.payload, block_bytes),
        };
        assert_eq!(container.len(), border + 1 + used, "the container ends with the last block");
    }
    for (number, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.marker == 1) {
        let bytes = unpacked(&slot.payload, block_bytes).unwrap();
        // Behind the member stands nothing by now, so that its length is where the zeroes begin.
        let len = slot.payload.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        assert!(len.saturating_sub(4096) <= bytes.len() - 8195, "block {number} saves too little");
    }
}

/// What gzip makes of the bytes.
pub(crate) fn gunzip(member: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = gzip.stdin.take().unwrap();
    let member = member.to_vec();
    let feeder = std::thread::spawn(move || input.write_all(&member));
    let output = gzip.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

pub(crate) fn bytes_of(medium: &dyn image::Medium) -> Vec<u8> {
    let mut bytes = vec![0; medium.len().unwrap() as usize];
    medium.read_at(&mut bytes, 0).unwrap();
    bytes
}

pub(crate) fn medium_of(bytes: &[u8]) -> std::sync::Arc<image::MemoryMedium> {
    let medium = image::MemoryMedium::new("container", bytes.len() as u64);
    // Zeroes stay holes.
    for (number, page) in bytes.chunks(4096).enumerate() {
        if page.iter().any(|&byte| byte != 0) {
            image::Medium::write_at(&medium, page, number as u64 * 4096).unwrap();
        }
    }
    std::sync::Arc::new(medium)
}

/// A list of one range.
pub(crate) fn only(range: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
    std::iter::once(range).collect()
}
