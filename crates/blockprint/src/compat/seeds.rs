//! Seeds without an index, or with one that is wrong: they are cut while the program runs.

use std::path::Path;

use engine::chunking::{Algorithm, ChunkSizes};
use engine::location::{Format, Location};
use engine::ops::extract::SeedRequest;
use engine::ops::make::{self, MakeRequest};
use engine::{Result, Task, Threads};

use super::spool::Spool;

/// How the chunks of a seed have to be cut and named to be those of an index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutting {
    pub(super) sizes: ChunkSizes,
    pub(super) algorithm: Algorithm,
    pub(super) threads: Threads,
}

/// Cuts `file`. The seed can be used as long as its index is held.
pub(super) fn cut(file: &Path, cutting: Cutting, task: &Task) -> Result<(SeedRequest, Spool)> {
    let source = Location { format: Some(Format::Raw), path: file.to_owned() };
    let request = MakeRequest {
        sizes: cutting.sizes,
        algorithm: cutting.algorithm,
        threads: cutting.threads,
        ..MakeRequest::new(source)
    };
    let mut index = Spool::new()?;
    make::perform_into(make::plan(request, task)?, index.writer(), task)?;
    let seed = SeedRequest { index: index.path().to_owned(), file: file.to_owned() };
    Ok((seed, index))
}
