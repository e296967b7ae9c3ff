//! A seed without an index: it is cut as the wanted blob was, while the program runs.

use std::io::BufWriter;
use std::path::Path;

use chunks::chunker::{Cutting, Rule};
use chunks::index::{Flags, Header, Index, IndexWriter};
use chunks::ingest::{NameOnly, Run, ingest};
use image::{Error, Image, Phase, Result, Task};
use sys::{FileMedium, UnnamedFile};

use crate::Threads;

/// An index of `image` with the sizes and the digest of `wanted`. It lies in a file without a name among the temporary
/// ones, so that it takes no memory, and is gone when it is dropped or the program ends.
///
/// # Errors
///
/// `Full`, `Denied` for the temporary file; those of the image.
pub(super) fn index_of(
    image: &dyn Image,
    name: &Path,
    wanted: &Index,
    threads: Threads,
    task: &Task,
) -> Result<Index> {
    let shown = name.display();
    task.note(format!("the seed {shown} has no index: it is cut now"));
    let spool = UnnamedFile::create_for(&std::env::temp_dir().join("blockprint-seed.caibx"))?;
    let failed = |cause| Error::io(format!("cannot note how the seed {shown} is cut"), cause);
    let header = Header::new(wanted.algorithm(), wanted.sizes());
    let mut writer = IndexWriter::new(BufWriter::new(spool.file()), &header).map_err(failed)?;
    let cutting = Cutting::new(wanted.sizes(), Rule::Casync)?;
    task.begin(Phase::Chunk, image.size());
    let write = |run: Run| writer.push_run(&run.id, run.len_bytes, run.count).map_err(failed);
    ingest(image, &cutting, wanted.algorithm(), threads.count(), task, &NameOnly, write)?;
    drop(writer.finish().map_err(failed)?);
    let file = spool.file().try_clone().map_err(failed)?;
    Index::open(FileMedium::from_file(file, name)?, Flags::Known)
}
