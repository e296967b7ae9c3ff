//! The digest of a whole blob, as casync prints it: one stream, so one thread.

use digest::{Algorithm, Hasher};
use image::{AlignedBuf, ExtentKind, Image, ImageExt, Result, Task};

use chunks::ChunkId;

const PIECE_BYTES: u64 = 1 << 20;

/// The digest of all bytes of `image`; what is unspecified counts as zeroes, as it does in chunks.
pub(crate) fn of_blob(image: &dyn Image, algorithm: Algorithm, task: &Task) -> Result<ChunkId> {
    let mut hasher = Hasher::new(algorithm);
    let mut buf = AlignedBuf::new(PIECE_BYTES as usize);
    let zeroes = vec![0; PIECE_BYTES as usize];
    for extent in image.extents(0..image.size()) {
        let extent = extent?;
        let mut offset = extent.offset;
        while offset < extent.end() {
            task.checkpoint()?;
            let part = (extent.end() - offset).min(PIECE_BYTES - offset % PIECE_BYTES);
            if extent.kind == ExtentKind::Data {
                let bytes = &mut buf[..part as usize];
                image.read_at(bytes, offset)?;
                hasher.update(bytes);
            } else {
                hasher.update(&zeroes[..part as usize]);
            }
            offset += part;
        }
    }
    Ok(ChunkId(hasher.finish()))
}
