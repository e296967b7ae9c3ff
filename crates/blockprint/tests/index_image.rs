//! Indexes and stores that casync made, read by `info`, `copy`, `compare` and `cat`.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::host::{Needs, Program, TempDir, require, run, skip, tool};

use crate::judges::{casync_make, items, place};
use crate::support::{
    KIB, MIB, Part, allocated, assert_refused, assert_same, blockprint, make, make_mixed,
    make_noise, names, overwrite,
};

/// An image, what casync made of it, and where its chunks are.
pub(crate) struct Made {
    pub(crate) scratch: TempDir,
    pub(crate) image: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) store: PathBuf,
}

impl Made {
    /// Of an image with data, zeroes and repeated parts; `None` where casync is missing.
    pub(crate) fn mixed(seed: u64, units: usize) -> Option<Self> {
        Self::of(|image| {
            make_mixed(image, seed, units);
            // The same once more, at an offset that fits no block.
            let bytes = fs::read(image).unwrap();
            let mut file = File::options().append(true).open(image).unwrap();
            file.write_all(&[7; 777]).unwrap();
            file.write_all(&bytes[..bytes.len() / 2]).unwrap();
        })
    }

    pub(crate) fn of(make: impl Fn(&Path)) -> Option<Self> {
        let scratch = require(&Needs::none().tools(&["casync"]))?;
        let image = scratch.join("disk.img");
        make(&image);
        let (index, store) = (scratch.join("disk.caibx"), scratch.join("store.castr"));
        casync_make(&index, &image, &store, &[]);
        Some(Made { scratch, image, index, store })
    }

    /// `blockprint COMMAND ARGUMENTS…`, and the store.
    pub(crate) fn with_store(&self, command: &str, arguments: &[&Path]) -> Program {
        self.without_store(command, arguments).arg("--store").arg(&self.store)
    }

    pub(crate) fn without_store(&self, command: &str, arguments: &[&Path]) -> Program {
        let program = blockprint(&self.scratch).current_dir(self.scratch.path());
        program.arg(command).args(arguments)
    }

    /// The file of the first chunk behind the middle of the image that is not zeroes and stands nowhere before.
    pub(crate) fn chunk_in_the_middle(&self) -> PathBuf {
        let middle = fs::metadata(&self.image).unwrap().len() / 2;
        let (data, items) = (self.data_chunks(), items(&self.index));
        let mut before = HashSet::new();
        for (end, id) in items {
            let file = place(&self.store, &id);
            if before.insert(id) && end > middle && data.contains(&file) {
                return file;
            }
        }
        panic!("all chunks behind the middle are zeroes, or stand before it")
    }

    /// The files of all chunks that are not zeroes.
    fn data_chunks(&self) -> HashSet<PathBuf> {
        let image = File::open(&self.image).unwrap();
        let mut start = 0;
        let mut files = HashSet::new();
        for (end, id) in items(&self.index) {
            let mut bytes = vec![0; (end - start) as usize];
            image.read_exact_at(&mut bytes, start).unwrap();
            if bytes.iter().any(|&byte| byte != 0) {
                files.insert(place(&self.store, &id));
            }
            start = end;
        }
        files
    }
}

/// Flips a bit in the middle of a file.
pub(crate) fn flip_a_bit(path: &Path) {
    let bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    overwrite(path, middle as u64, &[bytes[middle] ^ 4]);
}

#[test]
fn what_casync_made_is_read_byte_for_byte() {
    for digest in ["sha512-256", "sha256"] {
        let Some(made) = Made::of(|image| {
            make(
                image,
                200,
                &[
                    Part::Noise(3 * MIB + 5),
                    Part::Hole(5 * MIB),
                    Part::Zeroes(MIB),
                    Part::Noise(70 * KIB),
                ],
            );
        }) else {
            return;
        };
        fs::remove_file(&made.index).unwrap();
        fs::remove_dir_all(&made.store).unwrap();
        let option = format!("--digest={digest}");
        casync_make(&made.index, &made.image, &made.store, &[&option]);
        let count = items(&made.index).len();
        let distinct: HashSet<String> = items(&made.index).into_iter().map(|item| item.1).collect();
        let size = fs::metadata(&made.image).unwrap().len();

        let facts =
            made.with_store("info", &[&made.index]).arg("--json").run().expect_ok().result();
        assert_eq!(facts["format"], "index");
        assert_eq!(facts["size_bytes"], size);
        assert_eq!(facts["index"]["chunks"], count);
        assert_eq!(facts["index"]["distinct_chunks"], distinct.len());
        assert_eq!(facts["index"]["digest"], digest);
        assert_eq!(facts["index"]["chunk_sizes"]["avg_bytes"], 64 * KIB);
        assert_eq!(facts["index"]["stores"], json!([made.store.to_str().unwrap()]));
        assert!(facts["extents"]["zero"]["bytes"].as_u64().unwrap() > 5 * MIB, "{facts}");

        let copied = made.scratch.join("copied.img");
        made.with_store("copy", &[&made.index, &copied]).arg("--verify").run().expect_ok();
        assert_same(&made.image, &copied);
        assert!(allocated(&copied) < size - 5 * MIB, "the hole was written");
        made.with_store("compare", &[&made.index, &made.image]).run().expect_ok();
        overwrite(&copied, 4 * MIB, b"x");
        let told = made.with_store("compare", &[&copied, &made.index]).arg("--json").run();
        assert_eq!(told.expect_exit(1).result()["first_difference"], 4 * MIB);
    }
}

#[test]
fn repeated_and_mixed_content_comes_out_as_it_was() {
    let Some(made) = Made::mixed(201, 4) else { return };
    let copied = made.scratch.join("copied.img");
    made.with_store("copy", &[&made.index, &copied]).run().expect_ok();
    assert_same(&made.image, &copied);
    for threads in ["1", "2", "7"] {
        let compared = made.with_store("compare", &[&made.index, &made.image]);
        compared.args(["--threads", threads]).run().expect_ok();
    }
    // The same chunks, uncompressed, as desync keeps them where it is told so.
    let plain = made.scratch.join("plain.castr");
    for file in made.data_chunks() {
        let id = file.file_stem().unwrap().to_str().unwrap();
        fs::create_dir_all(plain.join(&id[..4])).unwrap();
        let bytes = tool("zstd").args(["-dc"]).arg(&file).output();
        let Ok(bytes) = bytes else { return skip("zstd is missing") };
        fs::write(plain.join(&id[..4]).join(id), bytes.stdout).unwrap();
    }
    let compared = made.without_store("compare", &[&made.index, &made.image]);
    compared.arg("-s").arg(&plain).run().expect_ok();
}

#[test]
fn an_index_without_a_store_tells_what_it_names_and_nothing_more() {
    let Some(made) = Made::mixed(202, 1) else { return };
    let said = made.without_store("info", &[&made.index]).run().expect_ok();
    assert!(said.stdout.contains("none found"), "{said}");
    let facts = made.without_store("info", &[&made.index]).arg("--json").run().expect_ok().result();
    assert_eq!(facts["index"]["stores"], json!([]));
    let out = made.scratch.join("out");
    for command in ["copy", "cat"] {
        let outcome = made.without_store(command, &[&made.index, &out]).run();
        assert_refused(outcome, 10, &["no store was named", "default.castr"]);
    }
    let outcome = made.without_store("compare", &[&made.image, &made.index]).run();
    assert_refused(outcome, 10, &["no store was named"]);
    assert!(!out.exists());
    let outcome = made.with_store("info", &[&made.index]).arg("-s").arg("/nowhere").run();
    assert_refused(outcome, 10, &["/nowhere"]);
}

#[test]
fn the_store_is_looked_for_where_casync_looks() {
    let Some(made) = Made::mixed(203, 1) else { return };
    let compare = || made.without_store("compare", &[&made.index, &made.image]);
    compare().env("CASYNC_STORE", &made.store).run().expect_ok();
    let beside = made.scratch.join("default.castr");
    fs::rename(&made.store, &beside).unwrap();
    compare().run().expect_ok();
    compare().current_dir(Path::new("/")).run().expect_ok();
    // In the current folder, where the index is elsewhere.
    let here = made.scratch.join("here");
    fs::create_dir(&here).unwrap();
    fs::rename(&beside, here.join("default.castr")).unwrap();
    compare().run().expect_exit(10);
    compare().current_dir(&here).run().expect_ok();
}

#[test]
fn a_flipped_bit_ends_a_copy_with_the_name_of_the_chunk_and_leaves_nothing() {
    let Some(made) = Made::mixed(204, 2) else { return };
    let chunk = made.chunk_in_the_middle();
    flip_a_bit(&chunk);
    let before = names(made.scratch.path());
    let out = made.scratch.join("out.img");
    let outcome = made.with_store("copy", &[&made.index, &out]).run();
    assert!(outcome.stderr.contains("nothing was left behind"), "{outcome}");
    assert_refused(outcome, 18, &[chunk.to_str().unwrap()]);
    assert_eq!(names(made.scratch.path()), before);
    let outcome = made.with_store("compare", &[&made.index, &made.image]).run();
    assert_refused(outcome, 18, &[chunk.to_str().unwrap()]);
    // What cannot be read of a disk may become zeroes; what is known to be wrong may not.
    let zero = ["--on-read-error", "zero"];
    made.with_store("copy", &[&made.index, &out]).args(zero).run().expect_exit(18);
    // Empty, as after a power cut, or gone.
    File::options().write(true).open(&chunk).unwrap().set_len(0).unwrap();
    made.with_store("copy", &[&made.index, &out]).run().expect_exit(18);
    fs::remove_file(&chunk).unwrap();
    let id = chunk.file_stem().unwrap().to_str().unwrap();
    let outcome = made.with_store("copy", &[&made.index, &out]).run();
    assert_refused(outcome, 10, &[id, made.store.to_str().unwrap()]);
}

#[test]
fn a_second_store_mends_what_is_bad_in_the_first() {
    let Some(made) = Made::mixed(205, 2) else { return };
    let second = made.scratch.join("second.castr");
    run(tool("cp").arg("-a").arg(&made.store).arg(&second));
    let chunk = made.chunk_in_the_middle();
    flip_a_bit(&chunk);
    let out = made.scratch.join("out.img");
    let outcome =
        made.with_store("copy", &[&made.index, &out]).arg("-s").arg(&second).run().expect_ok();
    let warnings: Vec<&str> =
        outcome.stderr.lines().filter(|line| line.starts_with("warning:")).collect();
    assert_eq!(warnings.len(), 1, "{outcome}");
    assert!(warnings[0].contains(chunk.to_str().unwrap()), "{outcome}");
    assert_same(&made.image, &out);
    // desync's way to say that the two are one.
    let group = format!("{}|{}", made.store.display(), second.display());
    let grouped = made.without_store("compare", &[&made.index, &made.image]);
    grouped.arg("-s").arg(group).run().expect_ok();
}

#[test]
fn a_cache_is_filled_and_used_and_mended() {
    let Some(made) = Made::mixed(206, 2) else { return };
    let cache = made.scratch.join("cache");
    let compare = |with_store: bool| {
        let program = match with_store {
            true => made.with_store("compare", &[&made.index, &made.image]),
            false => made.without_store("compare", &[&made.index, &made.image]),
        };
        program.arg("-c").arg(&cache).run()
    };
    assert_eq!(compare(true).expect_ok().stderr, "");
    for file in made.data_chunks() {
        let kept = cache.join(file.strip_prefix(&made.store).unwrap());
        assert_eq!(fs::read(&kept).unwrap(), fs::read(&file).unwrap());
    }
    let away = made.scratch.join("away");
    fs::rename(&made.store, &away).unwrap();
    compare(false).expect_ok();
    let chunk = made.chunk_in_the_middle();
    let kept = cache.join(chunk.strip_prefix(&made.store).unwrap());
    flip_a_bit(&kept);
    assert_refused(compare(false), 18, &[kept.to_str().unwrap()]);
    fs::rename(&away, &made.store).unwrap();
    let outcome = compare(true).expect_ok();
    assert!(outcome.stderr.contains(kept.to_str().unwrap()), "{outcome}");
    assert_eq!(fs::read(&kept).unwrap(), fs::read(&chunk).unwrap(), "it was not replaced");
    assert_eq!(compare(true).expect_ok().stderr, "");
}

#[test]
fn a_cache_that_cannot_be_written_stops_nothing() {
    let Some(made) = Made::mixed(207, 1) else { return };
    let cache = made.scratch.join("cache");
    fs::create_dir(&cache).unwrap();
    // A file where each folder of chunks should be.
    for (_, id) in items(&made.index) {
        fs::write(cache.join(&id[..4]), "").unwrap();
    }
    let out = made.scratch.join("out.img");
    let outcome = made.with_store("copy", &[&made.index, &out]).arg("-c").arg(&cache).run();
    assert!(outcome.stderr.contains("cache"), "{outcome}");
    outcome.expect_ok();
    assert_same(&made.image, &out);
}

#[test]
fn stores_elsewhere_are_refused_by_their_name() {
    let Some(made) = Made::mixed(208, 1) else { return };
    for (store, kind) in [
        ("ssh://host/srv/store", "ssh"),
        ("user@host:/srv/store", "ssh"),
        ("http://host/store", "HTTP"),
        ("https://host/store", "HTTP"),
        ("s3+https://host/bucket", "S3"),
        ("s3://bucket", "S3"),
        ("sftp://host/store", "SFTP"),
        ("gs://bucket", "Google storage"),
        ("oci+https://host/name", "OCI"),
    ] {
        let out = made.scratch.join("out");
        let expected = format!("{store}: {kind} stores are not supported in this version");
        for option in ["--store", "--cache"] {
            let outcome = made.with_store("copy", &[&made.index, &out]).args([option, store]).run();
            assert_refused(outcome, 16, &[&expected]);
        }
        assert!(!out.exists());
    }
}

#[test]
fn an_index_is_known_by_what_it_is_and_a_disk_is_never_taken_for_one() {
    let Some(made) = Made::mixed(209, 1) else { return };
    let format = |path: &Path| {
        let facts = made.without_store("info", &[path]).arg("--json").run().expect_ok().result();
        (facts["format"].as_str().unwrap().to_string(), facts["looks_like"].clone())
    };
    let other = made.scratch.join("other");
    fs::copy(&made.index, &other).unwrap();
    let len = fs::metadata(&other).unwrap().len();
    assert!(len % 512 != 0, "choose another seed");
    assert_eq!(format(&other), ("index".into(), json!(null)));
    // The name alone makes nothing an index.
    let named = made.scratch.join("noise.caibx");
    make_noise(&named, 1, 10_000);
    assert_eq!(format(&named), ("raw".into(), json!(null)));
    let outcome = made.with_store("info", &[Path::new("index:noise.caibx")]).run();
    assert_refused(outcome, 18, &["noise.caibx"]);
    assert_eq!(format(Path::new("raw:other")), ("raw".into(), json!(null)));
    // Whoever writes to a disk may make it begin like an index.
    let disk = made.scratch.join("guest.img");
    fs::copy(&made.index, &disk).unwrap();
    File::options().write(true).open(&disk).unwrap().set_len(len.next_multiple_of(512)).unwrap();
    assert_eq!(format(&disk), ("raw".into(), json!("casync index")));
    // What is cut off or changed is no index any more.
    let cut = made.scratch.join("cut.caibx");
    fs::copy(&made.index, &cut).unwrap();
    File::options().write(true).open(&cut).unwrap().set_len(len - 40).unwrap();
    let outcome = made.with_store("compare", &[&cut, &made.image]).run();
    assert_refused(outcome, 18, &["cut.caibx", "tail"]);
    overwrite(&other, 16, &[0xff; 8]);
    let outcome = made.with_store("compare", &[&other, &made.image]).run();
    assert_refused(outcome, 16, &["feature flags"]);
}

#[test]
fn the_index_of_an_empty_blob_is_an_empty_image() {
    let Some(made) = Made::of(|image| make(image, 0, &[])) else { return };
    let out = made.scratch.join("out");
    // casync made no store for it either.
    assert!(!made.store.exists());
    made.without_store("copy", &[&made.index, &out]).run().expect_ok();
    assert_eq!(fs::metadata(&out).unwrap().len(), 0);
}

#[test]
fn a_damaged_chunk_found_only_by_its_digest_is_never_written() {
    let Some(made) = Made::mixed(210, 1) else { return };
    // A good frame, of another chunk.
    let chunks: Vec<PathBuf> = made.data_chunks().into_iter().collect();
    fs::copy(&chunks[0], &chunks[1]).unwrap();
    let out = made.scratch.join("out.img");
    let outcome = made.with_store("copy", &[&made.index, &out]).run();
    assert_refused(outcome, 18, &[chunks[1].to_str().unwrap()]);
    assert!(!out.exists());
}
