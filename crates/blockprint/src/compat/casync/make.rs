//! `make` and `digest`: from a blob to its index, and to one digest of all of it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use engine::Result;
use engine::chunking::Excluded;
use engine::location::{Format, Location};
use engine::ops::digest::{self, DigestRequest};
use engine::ops::make::{self, MakeRequest};
use engine::stores::Stores;

use super::args::{Cli, What, exactly};
use super::{ending, index_of_blob, input, is_stream, refuse_remote, store_of, stores_of};
use crate::compat::output::show;
use crate::compat::refusal::{nonsense, refuse};
use crate::debug;
use crate::render::Face;

pub(super) fn make(cli: &Cli, what: Option<What>, words: Vec<OsString>, face: &Face) -> Result<()> {
    let [output, source] = exactly(words, "OUT.caibx FILE")?;
    refuse_remote(&output)?;
    let output = PathBuf::from(output);
    check_output(&output, what)?;
    let to_stream = is_stream(&output);
    let default = Excluded::default();
    let source = Location { format: Some(Format::Raw), path: input(source)? };
    let request = MakeRequest {
        store: Some(store_of(cli, &output)),
        index: Some(output).filter(|_| !to_stream),
        force: true,
        excluded: Excluded {
            nodump: cli.exclude_nodump.unwrap_or(default.nodump),
            submounts: cli.exclude_submounts.unwrap_or(default.submounts),
            listed: cli.exclude_file.unwrap_or(default.listed),
        },
        sizes: cli.chunk_size.unwrap_or_default(),
        algorithm: cli.digest.unwrap_or_default(),
        blob_digest: !to_stream,
        steps: debug::steps(),
        ..MakeRequest::new(source)
    };
    let report = face.run(|task| {
        let plan = make::plan(request, task)?;
        match to_stream {
            true => make::perform_into(plan, &mut io::stdout(), task),
            false => make::perform(plan, task),
        }
    })?;
    // Behind an index on standard output it would make the index unreadable.
    if let Some(digest) = report.blob_digest {
        show(&digest.hex())?;
    }
    Ok(())
}

fn check_output(output: &Path, what: Option<What>) -> Result<()> {
    let name = output.display();
    match (what, ending(output)) {
        (Some(What::Blob), _) => {
            Err(nonsense("make writes an index, and --what=blob says that it is none"))
        }
        (None, Some("caidx" | "catar")) => {
            Err(refuse(format!("cannot make {name}: archives of folders are not supported")))
        }
        (None, None) if !is_stream(output) => Err(nonsense(format!(
            "{name} does not end in .caibx (--what=blob-index makes the index of a blob all the same)"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn digest(
    cli: &Cli,
    what: Option<What>,
    words: Vec<OsString>,
    face: &Face,
) -> Result<()> {
    if words.is_empty() {
        return Err(refuse("digest without a name is that of a folder, which is not supported"));
    }
    let [name] = exactly(words, "FILE or INDEX")?;
    let path = Path::new(&name);
    let is_index = match (what, ending(path)) {
        (Some(what), _) => what == What::BlobIndex,
        (None, Some("caibx")) => true,
        (None, Some(_)) => {
            let sentence = format!("cannot read {}: archives are not supported", path.display());
            return Err(refuse(sentence));
        }
        (None, None) => false,
    };
    let index;
    let request = if is_index {
        let stores = stores_of(cli, path);
        index = index_of_blob(name, Some(What::BlobIndex))?;
        let image = Location { format: Some(Format::Index), path: index.path().to_owned() };
        DigestRequest { image, stores, algorithm: cli.digest }
    } else {
        let image = Location { format: Some(Format::Raw), path: input(name)? };
        DigestRequest { image, stores: Stores::default(), algorithm: cli.digest }
    };
    let digest = face.run(|task| digest::perform(&request, task))?;
    show(&digest.hex())
}
