//! The digest of all bytes of an image, as casync prints it: one stream, so one thread.

use chunks::ChunkId;
use digest::{Algorithm, Hasher};
use image::{AlignedBuf, ExtentKind, Image, ImageExt, Phase, Result, Task};

use crate::location::Location;
use crate::registry;
use crate::stores::Stores;

/// Of which image a digest is wanted.
#[derive(Clone, Debug)]
pub struct DigestRequest {
    /// The image, or the index of one.
    pub image: Location,
    /// Where the chunks of an index come from.
    pub stores: Stores,
    /// The digest. Without it, that which names the chunks of an index, else casync's default.
    pub algorithm: Option<Algorithm>,
}

const PIECE_BYTES: u64 = 1 << 20;

/// Takes the digest of the whole image.
///
/// # Errors
///
/// Of opening and reading; `Damaged`, `NotFound` for a chunk that cannot be had.
pub fn perform(request: &DigestRequest, task: &Task) -> Result<ChunkId> {
    let source = registry::open_source_over(&request.image, &request.stores, task)?;
    let of_index = source.facts.index.as_ref().map(|index| index.algorithm);
    let algorithm = request.algorithm.or(of_index).unwrap_or_default();
    task.begin(Phase::Verify, source.facts.size_bytes);
    let found = of_blob(&*source.image, algorithm, task, &|bytes| {
        task.advance(bytes);
        Ok(())
    });
    source.tell_of_stores(task);
    found
}

/// The digest of all bytes of `image`; what is unspecified counts as zeroes, as it does in chunks. Tells `done` how many
/// bytes are behind; its error ends the work.
pub(crate) fn of_blob(
    image: &dyn Image,
    algorithm: Algorithm,
    task: &Task,
    done: &dyn Fn(u64) -> Result<()>,
) -> Result<ChunkId> {
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
            done(part)?;
        }
    }
    Ok(ChunkId(hasher.finish()))
}
