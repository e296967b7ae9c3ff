//! Where an image would be cut, and what its chunks would be named; nothing is written.

use chunks::chunker::{Cutting, Rule};
use chunks::index::Span;
use chunks::ingest::{self, NameOnly, Run};
use chunks::{Algorithm, ChunkSizes};
use image::layers::Slice;
use image::{Image, Phase, Result, Task};

use crate::Threads;
use crate::location::Location;
use crate::registry;

/// Which image is to be cut, and how.
#[derive(Clone, Debug)]
pub struct CutRequest {
    /// What is read.
    pub source: Location,
    /// Where the first chunk begins, in bytes.
    pub start: u64,
    /// How large the chunks are.
    pub sizes: ChunkSizes,
    /// Whose rule cuts.
    pub rule: Rule,
    /// What names the chunks.
    pub algorithm: Algorithm,
    /// How many threads.
    pub threads: Threads,
}

/// Calls `visit` with each chunk, in order; offsets are those in the image.
///
/// # Errors
///
/// Of reading; `Invalid` for a start behind the end, and for sizes that cannot be cut; that of `visit`.
pub fn cut(
    request: &CutRequest,
    task: &Task,
    visit: &mut (dyn FnMut(&Span) -> Result<()> + Send),
) -> Result<()> {
    let cutting = Cutting::new(request.sizes, request.rule)?;
    let image = registry::open_source(&request.source, task)?.image;
    let size_bytes = image.size();
    let image = Slice::new(image, request.start..size_bytes)?;
    task.begin(Phase::Chunk, image.size());
    let (mut number, mut offset) = (0, request.start);
    let write = |run: Run| {
        for _ in 0..run.count {
            visit(&Span { number, offset, len_bytes: run.len_bytes, id: run.id })?;
            number += 1;
            offset += run.len_bytes;
        }
        Ok(())
    };
    let threads = request.threads.count();
    ingest::ingest(&image, &cutting, request.algorithm, threads, task, &NameOnly, write)
}
