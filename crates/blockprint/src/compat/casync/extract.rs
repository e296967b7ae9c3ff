//! `extract`: from an index to its blob.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::location::{Format, Location};
use engine::ops::cat::{self, CatRequest};
use engine::ops::extract::{self, ExtractRequest, SeedRequest};
use engine::stores::Stores;
use engine::{Lenience, Reflink, Result, Task, Threads};

use super::args::{Cli, What, exactly};
use super::{index_of_blob, is_stream, refuse_remote, stores_of};
use crate::compat::refusal::{nonsense, refuse};
use crate::debug;
use crate::render::Face;

pub(super) fn extract(
    cli: &Cli,
    what: Option<What>,
    mut words: Vec<OsString>,
    face: &Face,
) -> Result<()> {
    if words.len() == 1 {
        words.push("-".into());
    }
    let [index, output] = exactly(words, "IN.caibx OUT")?;
    let stores = stores_of(cli, Path::new(&index));
    let index = index_of_blob(index, what)?;
    let output = PathBuf::from(output);
    if is_stream(&output) {
        return to_stream(cli, index.path(), stores, face);
    }
    refuse_remote(output.as_os_str())?;
    if output.is_dir() {
        return Err(nonsense(format!("cannot write {}: it is a folder", output.display())));
    }
    let request = ExtractRequest {
        index: index.path().to_owned(),
        target: Location { format: Some(Format::Raw), path: output },
        stores,
        force: true,
        // What stands there is written where it stands, as that tool does.
        in_place: true,
        seeds: Vec::new(),
        seed_folders: Vec::new(),
        reflink: if cli.reflink == Some(false) { Reflink::Never } else { Reflink::Auto },
        verify: false,
        lenience: Lenience::Strict,
        limit_bytes_per_s: None,
        threads: Threads::Automatic,
        steps: debug::steps(),
    };
    face.run(|task| {
        let request = ExtractRequest { seeds: seeds_of(&cli.seed, task)?, ..request };
        extract::perform(extract::plan(request, task)?, task)
    })?;
    Ok(())
}

/// The seeds that are there; each is cut while the program runs.
fn seeds_of(names: &[OsString], task: &Task) -> Result<Vec<SeedRequest>> {
    let mut found = Vec::new();
    for seed in names.iter().map(Path::new) {
        let name = seed.display();
        match fs::metadata(seed) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(refuse(format!("the seed {name} is a folder, which is not supported")));
            }
            Ok(_) => found.push(SeedRequest { index: None, file: seed.to_owned() }),
            // That tool goes on without it, too.
            Err(cause) => task.warn(format!("the seed {name} is left out: {cause}")),
        }
    }
    Ok(found)
}

fn to_stream(cli: &Cli, index: &Path, stores: Stores, face: &Face) -> Result<()> {
    if !cli.seed.is_empty() {
        return Err(refuse("--seed is not supported for standard output: name a file"));
    }
    let request = CatRequest {
        image: Location { format: Some(Format::Index), path: index.to_owned() },
        stores,
        offset: 0,
        len_bytes: None,
        output: None,
        force: false,
        skip_damaged: false,
        limit_bytes_per_s: None,
        threads: Threads::Automatic,
    };
    face.run(|task| cat::perform(cat::plan(request, task)?, &mut io::stdout().lock(), task))?;
    Ok(())
}
