//! Chunks that lie uncompressed in a folder: their blocks can be shared with the target, where it begins at a block.
//!
//! Chunks that are cut by content hardly ever do; those of one size that is a multiple of the block always do.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use chunks::index::Span;
use image::{Error, Result};

use crate::reflink::is_unsupported;
use crate::stores::{StoreLocation, Stores, default_store};

/// The folders among the stores.
#[derive(Debug, Default)]
pub(super) struct PlainChunks {
    folders: Vec<PathBuf>,
    cannot_share: AtomicBool,
}

impl PlainChunks {
    /// Those of `stores`, or of the default store of the index.
    pub(super) fn of(stores: &Stores, index: &Path) -> Self {
        let default = match stores.sources.is_empty() {
            true => default_store(index),
            false => None,
        };
        let mut folders = Vec::new();
        for location in stores.cache.iter().chain(&stores.sources).chain(&default) {
            add(location, &mut folders);
        }
        PlainChunks { folders, cannot_share: AtomicBool::new(false) }
    }

    /// Shares whole blocks of `block_bytes` of a chunk with `target`, where it belongs. `bytes` are the chunk, known to
    /// be right. Returns how many bytes from its beginning on are shared.
    pub(super) fn share(
        &self,
        span: &Span,
        bytes: &[u8],
        target: &File,
        block_bytes: u64,
    ) -> Result<u64> {
        let whole = span.len_bytes - span.len_bytes % block_bytes;
        let fits = span.offset.is_multiple_of(block_bytes) && whole > 0;
        if !fits || self.cannot_share.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let hex = span.id.hex();
        for folder in &self.folders {
            let Ok(file) = File::open(folder.join(&hex[..4]).join(&hex)) else { continue };
            // The chunk may have come from another place: only what is the same here is shared.
            if !holds(&file, bytes) {
                continue;
            }
            match sys::clone_range_to(&file, 0..whole, target, span.offset) {
                Ok(()) => return Ok(whole),
                Err(cause) if is_unsupported(&cause) => {
                    self.cannot_share.store(true, Ordering::Relaxed);
                    return Ok(0);
                }
                Err(cause) => {
                    return Err(Error::io("cannot share blocks with the target", cause));
                }
            }
        }
        Ok(0)
    }
}

fn add(location: &StoreLocation, folders: &mut Vec<PathBuf>) {
    match location {
        StoreLocation::Folder(path) => folders.push(path.clone()),
        StoreLocation::Group(members) => members.iter().for_each(|member| add(member, folders)),
        StoreLocation::Remote { .. } => {}
    }
}

fn holds(mut file: &File, bytes: &[u8]) -> bool {
    let mut found = vec![0; 64 << 10];
    for part in bytes.chunks(found.len()) {
        let found = &mut found[..part.len()];
        if file.read_exact(found).is_err() || found != part {
            return false;
        }
    }
    matches!(file.read(&mut found), Ok(0))
}
