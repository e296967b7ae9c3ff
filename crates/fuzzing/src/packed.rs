//! Any bytes as a packed file, and as what was kept of one.

use std::sync::Arc;

use formats::packed::{self, Compression, Opened, PackedMedium};
use image::{Medium, MemoryMedium, Result, Task};

use super::assert_is_about_damage;

/// Longer contents are begun, not read: a few bytes can claim, and unpack to, as much as one likes.
const CONTENT_MAX_BYTES: usize = 4 << 20;

/// `bytes` are no file of gzip, which is said with the place; or whatever way they are read, it gives the same.
pub fn gz(bytes: &[u8]) {
    packed(bytes, Compression::Gz);
}

/// `bytes` are no file of Zstandard, which is said with the place; or whatever way they are read, it gives the same.
pub fn zst(bytes: &[u8]) {
    packed(bytes, Compression::Zst);
}

/// `bytes` are no file of LZ4, which is said with the place; or whatever way they are read, it gives the same.
pub fn lz4(bytes: &[u8]) {
    packed(bytes, Compression::Lz4);
}

fn packed(bytes: &[u8], compression: Compression) {
    let file = medium("hostile", bytes);
    let unpacked = judged(unpack(&file, compression));
    let content = match judged(packed::open(&file, compression)) {
        None => None,
        Some(Opened::Indexed(packed)) => read(&packed),
        // What is longer is left out, since all of it would be kept.
        Some(Opened::Unindexed(_)) if unpacked == Some(None) => return,
        Some(Opened::Unindexed(file)) => index(file, compression),
    };
    if let Some(content) = content {
        assert!(unpacked == Some(Some(content)), "it reads otherwise from front to back");
    }
    if let Some(kept) =
        judged(packed::open_kept(&file, compression, Box::new(medium("hostile", bytes))))
    {
        read(&kept);
    }
}

/// The content from front to back; `None` if it is too long.
fn unpack(file: &MemoryMedium, compression: Compression) -> Result<Option<Vec<u8>>> {
    let mut unpack = packed::unpack(file, compression)?;
    let (mut content, mut filled) = (Vec::new(), 0);
    while filled <= CONTENT_MAX_BYTES {
        content.resize(filled + (100 << 10), 0xa5);
        let len = unpack.read(&mut content[filled..])?;
        filled += len;
        assert!(unpack.packed_position() <= file.len().expect("memory has a length"));
        if filled < content.len() {
            content.truncate(filled);
            return Ok(Some(content));
        }
    }
    Ok(None)
}

/// The content in pieces; `None` where it is damaged, or too long.
fn read<M: Medium>(packed: &PackedMedium<M>) -> Option<Vec<u8>> {
    let len = packed.len().expect("the length is known");
    if len > CONTENT_MAX_BYTES as u64 {
        return None;
    }
    let mut content = vec![0xa5; len as usize];
    for (number, piece) in content.chunks_mut(1000).enumerate() {
        judged(packed.read_at(piece, number as u64 * 1000))?;
    }
    judged(packed.check_rest())?;
    Some(content)
}

/// The content by an index that is made, and by the same index when it was kept.
fn index(file: &MemoryMedium, compression: Compression) -> Option<Vec<u8>> {
    let kept = Arc::new(MemoryMedium::new("kept", 0));
    let made = packed::index(file, compression, Box::new(Arc::clone(&kept)), &Task::silent());
    let content = read(&judged(made)?).expect("all of it was read");
    let again = packed::open_kept(file, compression, Box::new(kept)).expect("it was kept just now");
    assert!(read(&again).is_some_and(|again| again == content), "it reads otherwise again");
    Some(content)
}

fn judged<T>(result: Result<T>) -> Option<T> {
    result.map_err(|error| assert_is_about_damage(&error, "hostile")).ok()
}

fn medium(name: &str, bytes: &[u8]) -> MemoryMedium {
    let medium = MemoryMedium::new(name, 0);
    medium.write_at(bytes, 0).expect("memory takes it");
    medium
}
