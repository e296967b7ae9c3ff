//! Digests of the files of a set: BLAKE3, as `b3sum` prints it.

use image::{Medium, Phase, Result, Task};

const PIECE_BYTES: u64 = 1 << 20;

/// The digest of `bytes` in hexadecimal digits.
pub(super) fn of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&digest::blake3::hash(bytes))
}

/// The digest of all of `medium`, in hexadecimal digits.
pub(super) fn of_medium(medium: &dyn Medium, task: &Task) -> Result<String> {
    let len_bytes = medium.len()?;
    task.begin(Phase::Hash, len_bytes);
    let mut hasher = digest::blake3::Hasher::new();
    let mut piece = vec![0; PIECE_BYTES as usize];
    let mut at = 0;
    while at < len_bytes {
        task.checkpoint()?;
        let part = (len_bytes - at).min(PIECE_BYTES);
        medium.read_at(&mut piece[..part as usize], at)?;
        hasher.update(&piece[..part as usize]);
        at += part;
        task.advance(part);
    }
    Ok(hexadecimal(&hasher.finish()))
}

/// Whether `text` is a digest as it is written here.
pub(super) fn is_digest(text: &str) -> bool {
    text.len() == 2 * digest::DIGEST_BYTES
        && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
