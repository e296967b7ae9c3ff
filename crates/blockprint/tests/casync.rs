//! The program under the name `casync`, beside the real one: the same output, indexes and chunks, without its traps.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use testkit::host::{
    LoopDevice, LoopOptions, Needs, Outcome, Program, TempDir, require, run, tool,
};

use crate::judges::{chunk_files, ids, items, place};
use crate::live::stopped_at;
use crate::peer::{Peer, input_of_store_vectors, vector};
use crate::support::{KIB, MIB, Part, assert_same, make, make_mixed, make_noise, names};

fn casync() -> Option<(TempDir, Peer)> {
    let scratch = require(&Needs::none().tools(&["casync"]))?;
    Some((scratch, Peer::new("casync")))
}

/// The real one, in the same folder.
fn real(peer: &Peer, arguments: &[&str]) -> Outcome {
    let mut program = Program::new("casync").args(arguments).current_dir(peer.scratch.path());
    program.command().env_remove("CASYNC_STORE");
    program.run()
}

/// Panics unless both end alike and print the same.
#[track_caller]
fn assert_alike(peer: &Peer, ours: &[&str], theirs: &[&str]) -> String {
    let ours = peer.call(ours).run().expect_ok();
    let theirs = real(peer, theirs).expect_ok();
    assert_eq!(ours.stdout, theirs.stdout, "{ours}\n{theirs}");
    ours.stdout
}

#[test]
fn make_prints_the_digest_and_writes_the_index_and_the_chunks_that_casync_does() {
    let Some((_scratch, peer)) = casync() else { return };
    let mut rng = fastrand::Rng::with_seed(0xCA57);
    for round in 0..16 {
        let noise = Part::Noise(rng.u64(0..900 * KIB));
        let hole = Part::Hole(rng.u64(0..600 * KIB));
        let parts = [noise, hole, Part::Zeroes(rng.u64(0..99)), Part::Noise(rng.u64(0..9 * KIB))];
        make(&peer.at("image"), round, &parts[..rng.usize(0..=parts.len())]);
        let avg = rng.u64(200..200_000);
        let sizes = match round % 4 {
            0 => "auto".to_string(),
            1 => format!("{avg}"),
            2 => format!("{}K", avg / 1024 + 1),
            _ => format!("{}:{avg}:{}B", rng.u64(1..=avg), avg * rng.u64(1..5)),
        };
        let sizes = format!("--chunk-size={sizes}");
        let digest = ["--digest=sha512-256", "--digest=sha256"][round as usize % 2];
        let submounts = ["--exclude-submounts=no", "--exclude-submounts=Y"][rng.usize(0..2)];
        let nodump = ["--exclude-nodump=t", "--exclude-nodump=off"][rng.usize(0..2)];
        let listed = ["--exclude-file=1", "--exclude-file=f"][rng.usize(0..2)];
        let options = [&*sizes, digest, submounts, nodump, listed];
        let line = |index, store| [&["make", store, index, "image"][..], &options].concat();
        let ours = line("ours.caibx", "--store=ours");
        assert_alike(&peer, &ours, &line("theirs.caibx", "--store=theirs"));
        let bytes = |name| fs::read(peer.at(name)).unwrap();
        assert!(bytes("ours.caibx") == bytes("theirs.caibx"), "round {round}: {options:?}");
        // Of an empty blob, casync makes no store.
        if fs::metadata(peer.at("image")).unwrap().len() > 0 {
            assert_eq!(chunk_files(&peer.at("ours")), chunk_files(&peer.at("theirs")));
        }
    }
}

#[test]
fn the_store_is_found_where_casync_finds_it() {
    let Some((_scratch, peer)) = casync() else { return };
    make_noise(&peer.at("image"), 1, 300 * KIB);
    fs::create_dir(peer.at("folder")).unwrap();
    peer.call(&["make", "folder/a.caibx", "image"]).run().expect_ok();
    assert!(peer.at("folder/default.castr").is_dir());
    peer.call(&["make", "b.caibx", "image"]).env("CASYNC_STORE", "named").run().expect_ok();
    assert_eq!(chunk_files(&peer.at("named")), chunk_files(&peer.at("folder/default.castr")));
    assert!(!peer.at("default.castr").exists());
    peer.says(&["extract", "folder/a.caibx", "out"], "");
    assert_same(&peer.at("image"), &peer.at("out"));
    peer.refuses(&["extract", "b.caibx", "none"], &["no store was named"]);
    peer.says(&["extract", "--store=named", "b.caibx", "none"], "");
    fs::remove_dir_all(peer.at("named")).unwrap();
    fs::create_dir(peer.at("named")).unwrap();
    let extra = "--extra-store=folder/default.castr";
    peer.says(&["extract", "--store=named", extra, "b.caibx", "again"], "");
    assert_same(&peer.at("image"), &peer.at("again"));
}

#[test]
fn an_index_on_standard_output_is_nothing_but_the_index() {
    let Some((_scratch, peer)) = casync() else { return };
    make_mixed(&peer.at("image"), 2, 1);
    let to_file = |arguments: &[&str], name: &str| {
        let shell = Program::new("sh").current_dir(peer.scratch.path());
        let line = format!("bin/casync --store=s {} > {name}", arguments.join(" "));
        shell.args(["-c", &line]).run().expect_ok();
    };
    to_file(&["make", "-", "image"], "ours");
    real(&peer, &["make", "--store=s", "theirs.caibx", "image"]).expect_ok();
    assert_same(&peer.at("ours"), &peer.at("theirs.caibx"));
    to_file(&["make", "from-stdin.caibx", "-", "<", "image"], "digest");
    assert_same(&peer.at("from-stdin.caibx"), &peer.at("theirs.caibx"));
    let digest = fs::read_to_string(peer.at("digest")).unwrap();
    assert_eq!(digest, real(&peer, &["digest", "image"]).stdout);
    to_file(&["extract", "ours"], "blob");
    assert_same(&peer.at("blob"), &peer.at("image"));
    to_file(&["extract", "-", "blob-2", "<", "ours"], "nothing");
    assert_same(&peer.at("blob-2"), &peer.at("image"));
}

#[test]
fn digests_are_those_of_casync_and_of_sha256sum() {
    let Some((_scratch, peer)) = casync() else { return };
    make_mixed(&peer.at("image"), 3, 1);
    let sum = run(tool("sha256sum").arg(peer.at("image")));
    let sum = sum.split(' ').next().unwrap().to_string() + "\n";
    let line = ["digest", "--digest=sha256", "image"];
    assert_eq!(assert_alike(&peer, &line, &line), sum);
    assert_alike(&peer, &["digest", "image"], &["digest", "image"]);
    for digest in ["--digest=sha256", "--digest=default"] {
        // casync gives SHA-512/256 of every index, whatever is asked for; ours what make gave.
        let made = peer.call(&["make", "--store=s", digest, "a.caibx", "image"]).run().expect_ok();
        let line = ["digest", "--store=s", "a.caibx"];
        peer.says(&line, &made.stdout);
        peer.says(&[&line[..], &["--digest=sha256"]].concat(), &sum);
        let sha512 = [&line[..], &["--digest=sha512-256"]].concat();
        assert_alike(&peer, &sha512, &line);
    }
    let stdin = peer.call_with(&["digest", "--digest=sha256", "-"], &peer.at("image")).run();
    assert_eq!(stdin.expect_ok().stdout, sum);
    peer.refuses(&["digest"], &["folder"]);
    peer.refuses(&["digest", "bin"], &["bin is a folder"]);
    peer.refuses(&["digest", "x.catar"], &["x.catar", "archives"]);
}

#[test]
fn an_existing_file_becomes_exactly_the_blob_also_where_casync_fails() {
    let Some((_scratch, peer)) = casync() else { return };
    make_noise(&peer.at("image"), 4, 900 * KIB);
    real(&peer, &["make", "--store=s", "a.caibx", "image"]).expect_ok();
    let image = fs::read(peer.at("image")).unwrap();
    let longer = [&image[300 << 10..], &image, b"tail"].concat();
    let shorter = image[..500 << 10].to_vec();
    for old in [longer, shorter, Vec::new(), vec![0; 2 << 20]] {
        for options in [&[][..], &["--reflink=no"], &["--seed-output=no", "--punch-holes=yes"]] {
            fs::write(peer.at("out"), &old).unwrap();
            fs::set_permissions(peer.at("out"), Permissions::from_mode(0o604)).unwrap();
            peer.says(&[&["extract", "--store=s", "a.caibx", "out"], options].concat(), "");
            assert!(fs::read(peer.at("out")).unwrap() == image);
            let mode = fs::metadata(peer.at("out")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o604);
        }
    }
    peer.refuses(&["extract", "--store=s", "a.caibx", "bin"], &["bin", "folder"]);
    peer.refuses(
        &["extract", "--store=s", "--punch-holes=no", "a.caibx", "o"],
        &["--punch-holes=no"],
    );
    assert!(!peer.at("o").exists());
}

#[test]
fn a_file_or_a_device_is_a_seed_without_an_index_of_its_own() {
    let Some((_scratch, peer)) = casync() else { return };
    make_mixed(&peer.at("old"), 5, 2);
    let mut new = fs::read(peer.at("old")).unwrap();
    new.splice(1000..1000, b"shifted".iter().copied());
    new.resize(8 << 20, 9);
    fs::write(peer.at("new"), &new).unwrap();
    peer.call(&["make", "--store=all", "--chunk-size=32K", "new.caibx", "new"]).run().expect_ok();
    peer.call(&["make", "--store=had", "--chunk-size=32K", "old.caibx", "old"]).run().expect_ok();
    // A store that has only what the seed has not.
    for id in ids(&peer.at("old.caibx")) {
        let _ = fs::remove_file(place(&peer.at("all"), &id));
    }
    let line = ["extract", "--store=all", "new.caibx", "out"];
    peer.refuses(&line, &["chunk"]);
    peer.call(&[&line[..], &["--seed=old"]].concat()).run().expect_ok();
    assert_same(&peer.at("out"), &peer.at("new"));
    if Needs::root().missing().is_empty() {
        let device = LoopDevice::attach(&peer.at("old"), &LoopOptions::default());
        let seed = format!("--seed={}", device.path().display());
        peer.call(&["extract", "--store=all", "new.caibx", "out-2", &seed]).run().expect_ok();
        assert_same(&peer.at("out-2"), &peer.at("new"));
    }
    // As with casync, a seed that is not there is no error.
    let outcome = peer.call(&["extract", "--store=had", "old.caibx", "out-3", "--seed=none"]).run();
    outcome.expect_ok().expect_error("the seed none is left out");
    peer.refuses(&[&line[..], &["--seed=bin"]].concat(), &["the seed bin is a folder"]);
}

#[test]
fn a_device_is_written_where_it_stands() {
    let Some(_scratch) = require(&Needs::root().tools(&["casync"])) else { return };
    let peer = Peer::new("casync");
    make_mixed(&peer.at("image"), 6, 1);
    make_noise(&peer.at("disk"), 7, 5 * MIB);
    let device = LoopDevice::attach(&peer.at("disk"), &LoopOptions::default());
    let path = device.path().display().to_string();
    peer.call(&["make", "--store=s", "a.caibx", "image"]).run().expect_ok();
    peer.says(&["extract", "--store=s", "a.caibx", &path], "");
    run(tool("cmp").arg("--bytes=4194304").arg(peer.at("image")).arg(device.path()));
    let stdin = peer.call_with(&["digest", "-"], device.path()).run().expect_ok();
    assert_eq!(stdin.stdout, real(&peer, &["digest", &path]).stdout);
    let line = ["make", "--store=s", "disk.caibx", &path];
    assert_alike(&peer, &line, &["digest", &path]);
    real(&peer, &["make", "--store=s", "theirs.caibx", &path]).expect_ok();
    assert_same(&peer.at("disk.caibx"), &peer.at("theirs.caibx"));
}

/// Two indexes over one store, and a copy of the store for the real one.
fn two_in_a_store(peer: &Peer) {
    make(&peer.at("a"), 8, &[Part::Noise(600 * KIB), Part::Zeroes(MIB), Part::Noise(100 * KIB)]);
    make(&peer.at("b"), 9, &[Part::Noise(500 * KIB), Part::Zeroes(MIB)]);
    for name in ["a", "b"] {
        let index = format!("{name}.caibx");
        peer.call(&["make", "--store=ours", &index, name]).run().expect_ok();
    }
    run(tool("cp").arg("-a").arg(peer.at("ours")).arg(peer.at("theirs")));
    fs::remove_dir_all(peer.at("theirs/.blockprint")).unwrap();
}

/// Lines in a fixed order: a folder is read in none.
fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn gc_says_and_does_what_casync_says_and_does() {
    let Some((_scratch, peer)) = casync() else { return };
    two_in_a_store(&peer);
    let all = chunk_files(&peer.at("ours"));
    for options in [
        &["-n", "b.caibx"][..],
        &["-n", "-v", "b.caibx"],
        &["--dry-run", "--verbose", "a.caibx", "a.caibx", "b.caibx"],
        &["a.caibx", "b.caibx"],
        &["-v", "b.caibx"],
        &["-v", "b.caibx"],
        &["b.caibx"],
    ] {
        let ours = peer.call(&[&["gc", "--store=ours"], options].concat()).run().expect_ok();
        let theirs = real(&peer, &[&["gc", "--store=theirs"], options].concat()).expect_ok();
        assert_eq!(sorted(&ours.stdout), sorted(&theirs.stdout), "{ours}\n{theirs}");
        let (ours, theirs) = (chunk_files(&peer.at("ours")), chunk_files(&peer.at("theirs")));
        assert_eq!(ours, theirs);
        assert_eq!(ours == all, options[0] == "-n" || options.len() > 2 || options[0] == "a.caibx");
    }
    assert_eq!(chunk_files(&peer.at("ours")).len(), ids(&peer.at("b.caibx")).len());
}

#[test]
fn gc_takes_nothing_without_an_index_that_can_be_read() {
    let Some((_scratch, peer)) = casync() else { return };
    two_in_a_store(&peer);
    let all = chunk_files(&peer.at("ours"));
    fs::write(peer.at("bad.caibx"), &fs::read(peer.at("a.caibx")).unwrap()[..200]).unwrap();
    peer.refuses(&["gc", "--store=ours"], &["index"]);
    peer.refuses(&["gc", "--store=ours", "none.caibx"], &["none.caibx"]);
    peer.refuses(&["gc", "--store=ours", "a.caibx", "bad.caibx"], &["bad.caibx"]);
    peer.refuses(&["gc", "--store=ours", "bin"], &["bin is a folder"]);
    peer.refuses(&["gc", "a.caibx"], &["no store was named"]);
    assert_eq!(chunk_files(&peer.at("ours")), all);
}

#[test]
fn what_cannot_be_printed_is_an_error() {
    let peer = Peer::new("casync");
    make_noise(&peer.at("image"), 14, 300 * KIB);
    peer.call(&["make", "--store=s", "a.caibx", "image"]).run().expect_ok();
    for line in [
        "make --store=s - image",
        "make --store=s b.caibx image",
        "digest image",
        "list a.caibx",
        "extract --store=s a.caibx",
        "gc -n --store=s a.caibx",
    ] {
        let shell = Program::new("sh").current_dir(peer.scratch.path());
        let outcome = shell.args(["-c", &format!("bin/casync {line} > /dev/full")]).run();
        outcome.expect_exit(1).expect_error("casync: cannot write");
    }
}

#[test]
fn list_shows_the_chunks_of_an_index() {
    let Some((_scratch, peer)) = casync() else { return };
    make_mixed(&peer.at("image"), 10, 1);
    real(&peer, &["make", "--store=s", "a.caibx", "image"]).expect_ok();
    let mut begin = 0;
    let mut expected = String::new();
    for (end, id) in items(&peer.at("a.caibx")) {
        expected += &format!("{begin}\t{}\t{id}\n", end - begin);
        begin = end;
    }
    peer.says(&["list", "a.caibx"], &expected);
    peer.refuses(&["list", "bin"], &["bin is a folder"]);
    peer.refuses(&["list", "x.catar"], &["archives"]);
}

#[test]
fn chunks_in_every_compression_of_casync_are_read() {
    let peer = Peer::new("casync");
    let input = input_of_store_vectors();
    for (index, store) in [
        ("tiny.caibx", "casync-zstd.castr"),
        ("tiny.caibx", "casync-xz.castr"),
        ("tiny.caibx", "casync-gzip.castr"),
        ("tiny.caibx", "desync-zstd.castr"),
        ("tiny.caibx", "desync-plain.castr"),
        ("tiny-sha256.caibx", "casync-zstd-sha256.castr"),
    ] {
        let index = vector("store").join(index).display().to_string();
        let store = format!("--store={}", vector("store").join(store).display());
        let _ = fs::remove_file(peer.at("out"));
        peer.says(&["extract", &store, &index, "out"], "");
        assert!(fs::read(peer.at("out")).unwrap() == input, "{store}");
    }
}

#[test]
fn interrupted_it_ends_with_1_and_leaves_the_old_index() {
    let peer = Peer::new("casync");
    make_mixed(&peer.at("image"), 13, 1);
    fs::write(peer.at("a.caibx"), "old").unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let running = stopped_at(peer.call(&["make", "a.caibx", "image"]), "created");
        running.signal(signal);
        running.signal("CONT");
        let outcome = running.wait().expect_exit(1);
        assert_eq!(outcome.stdout, "", "{outcome}");
        assert_eq!(fs::read(peer.at("a.caibx")).unwrap(), b"old");
    }
    peer.call(&["make", "a.caibx", "image"]).run().expect_ok();
    assert_eq!(ids(&peer.at("a.caibx")).len(), chunk_files(&peer.at("default.castr")).len());
}

#[test]
fn what_is_not_done_is_refused_by_name_and_leaves_nothing() {
    let peer = Peer::new("casync");
    make_noise(&peer.at("image"), 11, KIB);
    let before = names(peer.scratch.path());
    for verb in ["mtree", "stat", "mount", "mkdev", "pull", "push", "udev", "tar"] {
        peer.refuses(&[verb, "a", "b"], &[verb]);
    }
    for (arguments, part) in [
        (&["make", "a.catar", "image"][..], "a.catar"),
        (&["make", "a.caidx", "image"], "a.caidx"),
        (&["make", "a.caibx", "bin"], "bin is a folder"),
        (&["make", "a", "image"], ".caibx"),
        (&["make", "a.caibx"], "OUT.caibx FILE"),
        (&["make", "--what=archive", "a", "image"], "--what=archive"),
        (&["make", "--with=xattrs", "a.caibx", "image"], "--with"),
        (&["make", "--compression=xz", "a.caibx", "image"], "--compression=xz"),
        (&["make", "--compression=gzip", "a.caibx", "image"], "--compression=gzip"),
        (&["make", "--compression=lz4", "a.caibx", "image"], "lz4"),
        (&["make", "--digest=md5", "a.caibx", "image"], "md5"),
        (&["make", "--chunk-size=64k", "a.caibx", "image"], "64k"),
        (&["make", "--exclude-nodump=maybe", "a.caibx", "image"], "maybe"),
        (&["make", "--dry-run", "a.caibx", "image"], "--dry-run"),
        (&["make", "--unheard", "a.caibx", "image"], "--unheard"),
        (&["make", "--store=http://host/s", "a.caibx", "image"], "HTTP"),
        (&["make", "--store=host:s", "a.caibx", "image"], "ssh"),
        (&["make", "host:a.caibx", "image"], "ssh"),
        (&["extract", "http://host/a.caibx", "o"], "HTTP"),
        (&["extract", "a.caidx", "o"], "archives"),
        (&["--log-level=loud", "digest", "image"], "loud"),
        (&[], "verb"),
    ] {
        peer.refuses(arguments, &[part]);
    }
    assert_eq!(names(peer.scratch.path()), before);
    let version = peer.call(&["--version"]).run().expect_ok().stdout;
    assert!(version.starts_with("casync 2"), "{version}");
    let help = peer.call(&["--help"]).run().expect_ok().stdout;
    assert!(help.contains("extract IN.caibx"), "{help}");
}

#[test]
fn an_index_with_an_odd_name_is_made_by_what_and_read_by_casync() {
    let Some((_scratch, peer)) = casync() else { return };
    make_noise(&peer.at("image"), 12, 200 * KIB);
    peer.call(&["--what=blob-index", "make", "--store=s", "odd-name", "image"]).run().expect_ok();
    let theirs = ["extract", "--what=blob-index", "--store=s", "odd-name", "out"];
    real(&peer, &theirs).expect_ok();
    assert_same(&peer.at("out"), &peer.at("image"));
}
