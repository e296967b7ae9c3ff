//! The program under the name `desync`: that tool's options and output over its recorded indexes and stores.

use std::fs;
use std::path::Path;

use testkit::host::{LoopDevice, LoopOptions, Needs, require, run, tool};

use crate::judges::{chunk_files, ids, items, place};
use crate::peer::{Peer, input_of_store_vectors, vector};
use crate::support::{KIB, MIB, Part, assert_same, make, make_mixed, make_noise, names, overwrite};

/// `store` and `d.caibx` of `image`, which has data, zeroes and holes in it.
fn prepared(seed: u64) -> Peer {
    let peer = Peer::new("desync");
    make_mixed(&peer.at("image"), seed, 1);
    fs::create_dir(peer.at("store")).unwrap();
    peer.says(&["make", "-s", "store", "d.caibx", "image"], "");
    peer
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn blobs_of_desyncs_own_indexes_and_stores_are_extracted() {
    let peer = Peer::new("desync");
    let input = input_of_store_vectors();
    for (index, store) in [
        ("tiny-desync.caibx", "desync-zstd.castr"),
        ("tiny-desync.caibx", "desync-plain.castr"),
        ("tiny.caibx", "casync-zstd.castr"),
        ("tiny-sha256.caibx", "casync-zstd-sha256.castr"),
    ] {
        let index = text(&vector("store").join(index));
        let store = text(&vector("store").join(store));
        peer.says(&["extract", "-s", &store, &index, "out"], "");
        assert!(fs::read(peer.at("out")).unwrap() == input, "{store}");
        peer.says(&["verify-index", &index, "out"], "");
        peer.says(&["cat", "-s", &store, &index, "cat"], "");
        assert_same(&peer.at("cat"), &peer.at("out"));
        peer.says(&["verify", "-s", &store], "");
    }
}

#[test]
fn every_recorded_index_of_desync_is_read() {
    let peer = Peer::new("desync");
    let recorded = names(&vector("index/desync"));
    assert!(recorded.len() >= 8, "{recorded:?}");
    for name in recorded {
        let index = vector("index/desync").join(&name);
        let items = items(&index);
        let ids: String = items.iter().map(|(_, id)| format!("{id}\n")).collect();
        peer.says(&["list-chunks", &text(&index)], &ids);
        let told = peer.call(&["info", &text(&index)]).run().expect_ok().stdout;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let size = items.last().map_or(0, |(end, _)| *end);
        assert_eq!((&told["total"], &told["size"]), (&items.len().into(), &size.into()), "{name}");
    }
    // desync 0.9.6 panics at it.
    fs::create_dir(peer.at("store")).unwrap();
    let empty = text(&vector("index/desync/d01-empty.caibx"));
    peer.says(&["extract", "-s", "store", &empty, "out"], "");
    assert_eq!(fs::metadata(peer.at("out")).unwrap().len(), 0);
}

#[test]
fn a_new_index_is_desyncs_but_for_the_flag_word_which_is_casyncs() {
    let peer = Peer::new("desync");
    fs::write(peer.at("input"), input_of_store_vectors()).unwrap();
    fs::create_dir(peer.at("store")).unwrap();
    let line = ["make", "--chunk-size", "1:4:16", "-s", "store", "-n", "3", "a.caibx", "input"];
    let stats = "{\n  \"chunks-accepted\": 24,\n  \"chunks-produced\": 24\n}\n";
    let outcome = peer.call(&line).arg("--print-stats").run().expect_ok();
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", stats));
    let (made, desync) = (
        fs::read(peer.at("a.caibx")).unwrap(),
        fs::read(vector("store/tiny-desync.caibx")).unwrap(),
    );
    assert!(made[..16] == desync[..16] && made[24..] == desync[24..]);
    assert!(made == fs::read(vector("store/tiny.caibx")).unwrap());
    assert_eq!(chunk_files(&peer.at("store")), chunk_files(&vector("store/desync-zstd.castr")));
    let sha256 = ["--digest", "sha256", "make", "-m", "1:4:16", "b.caibx", "input"];
    peer.says(&sha256, "");
    assert_same(&peer.at("b.caibx"), &vector("store/tiny-sha256.caibx"));
}

#[test]
fn indexes_go_through_standard_input_and_output() {
    let peer = prepared(20);
    let shell = |line: &str| {
        let shell = testkit::host::Program::new("sh").current_dir(peer.scratch.path());
        shell.args(["-c", line]).run().expect_ok()
    };
    shell("bin/desync make - image | cmp - d.caibx");
    shell("cat d.caibx | bin/desync extract -s store - out && cmp out image");
    shell("cat d.caibx | bin/desync verify-index - image");
    shell(
        "bin/desync list-chunks - < d.caibx > piped && bin/desync list-chunks d.caibx | cmp - piped",
    );
    shell("bin/desync cat -s store d.caibx | cmp - image");
    shell("bin/desync cat -s store d.caibx /dev/stdout | cat > whole && cmp whole image");
    shell("bin/desync cat -s store -o 700000 -l 12345 d.caibx > part");
    let image = fs::read(peer.at("image")).unwrap();
    assert!(fs::read(peer.at("part")).unwrap() == image[700_000..712_345]);
    peer.says(&["cat", "-s", "store", "-o", "4000000", "d.caibx", "part"], "");
    assert!(fs::read(peer.at("part")).unwrap() == image[4_000_000..]);
}

#[test]
fn chunks_are_listed_as_desync_lists_them() {
    let peer = prepared(21);
    let items = items(&peer.at("d.caibx"));
    let ids: String = items.iter().map(|(_, id)| format!("{id}\n")).collect();
    peer.says(&["list-chunks", "d.caibx"], &ids);
    let mut begin = 0;
    let lines = items.iter().map(|(end, id)| {
        let line = format!("{begin}\t{}\t{id}\n", end - begin);
        begin = *end;
        line
    });
    let lines: Vec<String> = lines.collect();
    peer.says(&["chunk", "image"], &lines.concat());
    let start = items[4].0.to_string();
    peer.says(&["chunk", "-S", &start, "image"], &lines[5..].concat());
    peer.refuses(&["chunk", "-S", "5000000", "image"], &["5000000"]);
}

#[test]
fn info_has_desyncs_keys_and_tells_stores_seeds_and_caches_apart() {
    let peer = prepared(22);
    fs::create_dir(peer.at("cache")).unwrap();
    fs::create_dir(peer.at("empty")).unwrap();
    make(&peer.at("half"), 22, &[Part::Noise(700 * KIB)]);
    peer.says(&["make", "-s", "cache", "half.caibx", "half"], "");
    let json = |more: &[&str]| -> serde_json::Value {
        let outcome = peer.call(&[&["info", "d.caibx"], more].concat()).run().expect_ok();
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let (all, half) = (ids(&peer.at("d.caibx")), ids(&peer.at("half.caibx")));
    let shared = all.intersection(&half).count();
    assert!(shared > 3);
    let mut found = json(&["-s", "store", "-s", "empty", "-c", "cache"]);
    let object = found.as_object_mut().unwrap();
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    let mut expected = [
        "total",
        "unique",
        "in-store",
        "in-seed",
        "in-cache",
        "not-in-seed-nor-cache",
        "size",
        "dedup-size-not-in-seed",
        "dedup-size-not-in-seed-nor-cache",
        "dedup-size-not-in-seed-nor-cache-compressed",
        "chunk-size-min",
        "chunk-size-avg",
        "chunk-size-max",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(found["total"], items(&peer.at("d.caibx")).len());
    assert_eq!((&found["unique"], &found["in-store"]), (&all.len().into(), &all.len().into()));
    assert_eq!((&found["in-cache"], &found["in-seed"]), (&shared.into(), &0.into()));
    assert_eq!(found["not-in-seed-nor-cache"], all.len() - shared);
    assert_eq!((&found["size"], &found["chunk-size-avg"]), (&(4 * MIB).into(), &65536.into()));
    let seeded = json(&["-s", "empty", "--seed", "half.caibx"]);
    assert_eq!((&seeded["in-store"], &seeded["in-seed"]), (&0.into(), &shared.into()));
    assert_eq!(seeded["dedup-size-not-in-seed"], found["dedup-size-not-in-seed-nor-cache"]);
    let plain = peer.call(&["info", "--format", "plain", "d.caibx"]).run().expect_ok().stdout;
    assert!(plain.contains(&format!("Blob size: {}\n", 4 * MIB)), "{plain}");
    assert_eq!(names(&peer.at("cache")).len(), half.len() + 1, "asking changed the cache");
    peer.refuses(&["info", "-c", "none", "d.caibx"], &["none"]);
}

#[test]
fn a_damaged_chunk_is_named_with_the_hash_that_it_has_and_removed_by_repair() {
    let peer = prepared(23);
    let ids: Vec<String> = ids(&peer.at("d.caibx")).into_iter().collect();
    peer.says(&["verify", "-s", "store"], "");
    // Another good chunk under this name.
    let (bad, other) = (place(&peer.at("store"), &ids[0]), place(&peer.at("store"), &ids[1]));
    fs::remove_file(&bad).unwrap();
    fs::copy(&other, &bad).unwrap();
    let line = format!("chunk id {} does not match its hash {}", ids[0], ids[1]);
    let outcome = peer.call(&["verify", "-s", "store", "-n", "2"]).run().expect_exit(1);
    assert_eq!((&*outcome.stdout, outcome.stderr), ("", format!("{line}\n")));
    fs::remove_file(&other).unwrap();
    fs::write(&other, "no frame").unwrap();
    let outcome = peer.call(&["verify", "-s", "store", "-r"]).run().expect_ok();
    let zeroes = format!("chunk id {} does not match its hash {}", ids[1], "0".repeat(64));
    assert_eq!(outcome.stderr, format!("{line}: removed\n{zeroes}: removed\n"));
    assert!(!bad.exists() && !other.exists());
    peer.says(&["verify", "--store", "store"], "");
    peer.says(&["chop", "-s", "store", "d.caibx", "image"], "");
    assert!(bad.exists() && other.exists());
    peer.refuses(&["verify", "-s", "none"], &["none"]);
}

#[test]
fn chop_keeps_what_the_index_names_and_nothing_that_is_something_else() {
    let peer = prepared(24);
    for store in ["chopped", "wrong", "part"] {
        fs::create_dir(peer.at(store)).unwrap();
    }
    peer.says(&["chop", "-s", "chopped", "d.caibx", "image"], "");
    assert_eq!(chunk_files(&peer.at("chopped")), chunk_files(&peer.at("store")));
    peer.says(&["verify", "-s", "chopped"], "");
    fs::copy(peer.at("image"), peer.at("changed")).unwrap();
    overwrite(&peer.at("changed"), 200_000, b"changed");
    let found = items(&peer.at("d.caibx")).into_iter().find(|(end, _)| *end > 200_000).unwrap();
    peer.refuses(&["chop", "-s", "wrong", "d.caibx", "changed"], &["changed", &found.1]);
    assert!(!place(&peer.at("wrong"), &found.1).exists());
    peer.says(&["verify", "-s", "wrong"], "");
    make_noise(&peer.at("short"), 1, KIB);
    peer.refuses(&["chop", "-s", "wrong", "d.caibx", "short"], &["short has 1024 bytes"]);
    // All but one, which a text file names; then nothing, as an index names all.
    fs::write(peer.at("ids"), format!("\n  {}  \n", found.1.to_uppercase())).unwrap();
    peer.says(&["chop", "-s", "part", "--ignore", "d.caibx", "d.caibx", "image"], "");
    assert_eq!(chunk_files(&peer.at("part")), [] as [&str; 0]);
    peer.says(&["chop", "-s", "part", "--ignore-chunks", "ids", "d.caibx", "image"], "");
    assert!(!place(&peer.at("part"), &found.1).exists());
    assert_eq!(chunk_files(&peer.at("part")).len() + 1, chunk_files(&peer.at("store")).len());
    fs::write(peer.at("ids"), "beef").unwrap();
    let line = ["chop", "-s", "part", "--ignore-chunks", "ids", "d.caibx", "image"];
    peer.refuses(&line, &["ids", "beef"]);
}

#[test]
fn cache_fills_a_store_and_prune_empties_it() {
    let peer = prepared(25);
    make(&peer.at("other"), 99, &[Part::Noise(600 * KIB)]);
    fs::create_dir(peer.at("more")).unwrap();
    fs::create_dir(peer.at("target")).unwrap();
    peer.says(&["make", "-s", "more", "o.caibx", "other"], "");
    let both = ["-s", "store", "-s", "more", "-c", "target", "d.caibx", "o.caibx"];
    peer.says(&[&["cache"], &both[..], &["--ignore", "o.caibx"]].concat(), "");
    assert_eq!(chunk_files(&peer.at("target")), chunk_files(&peer.at("store")));
    peer.says(&[&["cache"], &both[..]].concat(), "");
    let all = [chunk_files(&peer.at("store")), chunk_files(&peer.at("more"))].concat();
    assert_eq!(chunk_files(&peer.at("target")).len(), all.len());
    peer.refuses(&["cache", "-s", "more", "-c", "target", "none.caibx"], &["none.caibx"]);
    peer.refuses(&["cache", "-s", "more", "-c", "nowhere", "d.caibx"], &["nowhere"]);

    let null = Path::new("/dev/null");
    let unasked = peer.call_with(&["prune", "-s", "target", "d.caibx"], null).run();
    unasked.expect_exit(1).expect_error("--yes");
    assert_eq!(chunk_files(&peer.at("target")).len(), all.len());
    peer.says(&["prune", "-y", "-s", "target", "d.caibx", "o.caibx"], "");
    assert_eq!(chunk_files(&peer.at("target")).len(), all.len());
    peer.says(&["prune", "--yes", "--store", "target", "d.caibx"], "");
    assert_eq!(chunk_files(&peer.at("target")), chunk_files(&peer.at("store")));
    peer.refuses(&["prune", "-y", "-s", "target", "none.caibx"], &["none.caibx"]);
    peer.refuses(&["prune", "-y", "-s", "target"], &["INDEX"]);
}

#[test]
fn prune_asks_on_a_terminal_and_takes_only_a_yes() {
    let Some(_scratch) = require(&Needs::none().tools(&["script"])) else { return };
    let peer = prepared(32);
    make(&peer.at("other"), 99, &[Part::Noise(300 * KIB)]);
    peer.says(&["make", "-s", "store", "o.caibx", "other"], "");
    let all = chunk_files(&peer.at("store"));
    let answer = |answer: &str| {
        let line = format!(
            "(sleep 1; echo {answer}) | script -qec 'bin/desync prune -s store d.caibx' /dev/null"
        );
        testkit::host::Program::new("sh").current_dir(peer.scratch.path()).args(["-c", &line]).run()
    };
    for no in ["n", "''", "maybe"] {
        let asked = answer(no).expect_exit(1);
        assert!(asked.stdout.contains("[y/N]"), "{asked}");
        assert_eq!(chunk_files(&peer.at("store")), all);
    }
    answer("y").expect_ok();
    assert_eq!(chunk_files(&peer.at("store")).len(), ids(&peer.at("d.caibx")).len());
}

#[test]
fn extract_replaces_files_and_tells_where_the_chunks_came_from() {
    let peer = prepared(26);
    let total = items(&peer.at("d.caibx")).len();
    fs::write(peer.at("out"), vec![7; 9 << 20]).unwrap();
    let stats = |more: &[&str]| -> serde_json::Value {
        let line = ["extract", "-s", "store", "--print-stats", "d.caibx", "out"];
        let outcome = peer.call(&[&line, more].concat()).run().expect_ok();
        assert_same(&peer.at("out"), &peer.at("image"));
        serde_json::from_str(&outcome.stdout).unwrap()
    };
    let fresh = stats(&[]);
    let mut keys: Vec<&str> = fresh.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "blocksize",
        "bytes-cloned-from-seeds",
        "bytes-copied-from-seeds",
        "bytes-total",
        "chunks-from-seeds",
        "chunks-from-store",
        "chunks-in-place",
        "chunks-total",
        "seeds",
    ];
    assert_eq!(keys, expected);
    assert_eq!((&fresh["chunks-total"], &fresh["bytes-total"]), (&total.into(), &(4 * MIB).into()));
    assert_eq!(fresh["chunks-in-place"], 0);
    let sum = |of: &serde_json::Value| {
        ["chunks-from-seeds", "chunks-from-store", "chunks-in-place"]
            .iter()
            .map(|key| of[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(sum(&fresh), total as u64);
    overwrite(&peer.at("out"), 100_000, b"wrong");
    let again = stats(&["-k"]);
    assert_eq!(again["chunks-from-store"], 1, "{again}");
    let seeded = stats(&["--seed", "d.caibx:image", "-n", "1"]);
    assert_eq!((&seeded["chunks-from-store"], &seeded["seeds"]), (&0.into(), &1.into()));
    fs::create_dir(peer.at("seeds")).unwrap();
    fs::copy(peer.at("image"), peer.at("seeds/image")).unwrap();
    fs::copy(peer.at("d.caibx"), peer.at("seeds/image.caibx")).unwrap();
    let seeded = stats(&["--seed-dir", "seeds"]);
    assert_eq!((&seeded["chunks-from-store"], &seeded["seeds"]), (&0.into(), &1.into()));
    assert_eq!(names(&peer.at("seeds")), ["image", "image.caibx"]);
}

#[test]
fn a_seed_that_is_not_what_its_index_says_is_skipped_or_cut_anew() {
    let peer = prepared(27);
    let image = fs::read(peer.at("image")).unwrap();
    fs::write(peer.at("old"), [b"shifted", &image[..]].concat()).unwrap();
    fs::copy(peer.at("d.caibx"), peer.at("old.caibx")).unwrap();
    let from_store = |more: &[&str]| {
        let _ = fs::remove_file(peer.at("out"));
        let line =
            ["extract", "-s", "store", "--print-stats", "--seed", "old.caibx", "d.caibx", "out"];
        let outcome = peer.call(&[&line, more].concat()).run().expect_ok();
        assert_same(&peer.at("out"), &peer.at("image"));
        let stats: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        stats["chunks-from-store"].as_u64().unwrap()
    };
    let skipped = from_store(&["--skip-invalid-seeds"]);
    assert_eq!(from_store(&[]), skipped);
    let anew = from_store(&["--regenerate-invalid-seeds"]);
    assert!(anew < 4 && skipped > 20, "{anew} {skipped}");
    let both = ["--skip-invalid-seeds", "--regenerate-invalid-seeds"];
    let line = ["extract", "-s", "store", "d.caibx", "out"];
    peer.refuses(&[&line[..], &both[..]].concat(), &["invalid-seeds"]);
}

#[test]
fn a_device_is_written_only_in_place() {
    let Some(_scratch) = require(&Needs::root()) else { return };
    let peer = prepared(28);
    make_noise(&peer.at("disk"), 7, 5 * MIB);
    let device = LoopDevice::attach(&peer.at("disk"), &LoopOptions::default());
    let path = text(device.path());
    peer.refuses(&["extract", "-s", "store", "d.caibx", &path], &[&path, "--in-place"]);
    peer.refuses(&["cat", "-s", "store", "d.caibx", &path], &[&path]);
    peer.says(&["extract", "-k", "-s", "store", "d.caibx", &path], "");
    run(tool("cmp").arg("--bytes=4194304").arg(peer.at("image")).arg(device.path()));
    peer.says(&["verify-index", "d.caibx", &path], "");
}

#[test]
fn a_damaged_chunk_in_the_cache_is_fetched_again_and_verify_index_sees_a_wrong_byte() {
    let peer = prepared(29);
    fs::create_dir(peer.at("cache")).unwrap();
    let line = ["extract", "-s", "store", "-c", "cache", "d.caibx", "out"];
    peer.says(&line, "");
    let id = items(&peer.at("d.caibx")).remove(2).1;
    let cached = place(&peer.at("cache"), &id);
    fs::remove_file(&cached).unwrap();
    fs::write(&cached, "damaged").unwrap();
    peer.call(&line).run().expect_ok();
    peer.says(&["verify", "-s", "cache"], "");
    overwrite(&peer.at("out"), 100_000, b"wrong");
    peer.refuses(&["verify-index", "d.caibx", "out"], &["out", "1 of"]);
    fs::write(peer.at("out"), "short").unwrap();
    peer.refuses(&["verify-index", "d.caibx", "out"], &["out has 5 bytes"]);
}

#[test]
fn the_configuration_is_followed_or_refused_by_name() {
    let peer = prepared(30);
    fs::create_dir_all(peer.at(".config/desync")).unwrap();
    for store in ["plain", "plain-cache"] {
        fs::create_dir(peer.at(store)).unwrap();
    }
    let config = peer.at(".config/desync/config.json");
    let options = "{\"store-options\": {\"plain*\": {\"uncompressed\": true}, \"secret\": {\"encryption\": true},
                    \"loose/\": {\"skip-verify\": true}}, \"s3-credentials\": {}}";
    fs::write(&config, options).unwrap();
    peer.says(&["make", "-s", "plain", "p.caibx", "image"], "");
    let line = ["extract", "-s", "store", "-c", "plain-cache", "d.caibx", "out"];
    peer.says(&line, "");
    for store in ["plain", "plain-cache"] {
        let files = chunk_files(&peer.at(store));
        assert!(!files.is_empty() && files.iter().all(|name| !name.contains('.')), "{files:?}");
    }
    fs::create_dir(peer.at("secret")).unwrap();
    peer.refuses(&["make", "-s", "secret", "s.caibx", "image"], &["encryption", "secret"]);
    peer.refuses(&["cat", "-s", "store|secret", "d.caibx"], &["encryption", "secret"]);
    fs::rename(peer.at("plain"), peer.at("loose")).unwrap();
    let loose = peer.call(&["extract", "-s", "loose", "p.caibx", "out"]).run().expect_ok();
    loose.expect_error("skip-verify");
    fs::write(peer.at("other.json"), "{\"store-options\": {\"loose\": {\"new\": 1}}}").unwrap();
    let other = ["--config", "other.json", "extract", "-s", "loose", "p.caibx", "out"];
    peer.refuses(&other, &["new", "loose"]);
    peer.refuses(&["--config", "none.json", "list-chunks", "p.caibx"], &["none.json"]);
    // A key without the option that would use it is not looked at.
    let plain = peer.call(&["list-chunks", "p.caibx"]).env("DESYNC_ENCRYPTION_KEY", "00").run();
    plain.expect_ok();
}

#[test]
fn what_is_not_done_is_refused_by_name_and_leaves_nothing() {
    let peer = prepared(31);
    let before = names(peer.scratch.path());
    for command in [
        "tar",
        "untar",
        "mtree",
        "mount-index",
        "chunk-server",
        "index-server",
        "pull",
        "config",
        "manpage",
        "inspect-chunks",
        "completion",
        "unheard",
    ] {
        peer.refuses(&[command, "a", "b"], &[command]);
    }
    for (arguments, part) in [
        (&["make", "-s", "none", "a.caibx", "image"][..], "none"),
        (&["make", "-s", "http://host/store", "a.caibx", "image"], "HTTP"),
        (&["make", "-s", "s3+https://host/bucket", "a.caibx", "image"], "S3"),
        (&["make", "sftp://host/a.caibx", "image"], "SFTP"),
        (&["make", "-m", "64", "a.caibx", "image"], "64"),
        (&["make", "-m", "64:16:256", "a.caibx", "image"], "64:16:256"),
        (&["make", "-e", "5", "a.caibx", "image"], "-e"),
        (&["make", "--ca-cert=x", "a.caibx", "image"], "--ca-cert"),
        (&["make", "-n", "0", "a.caibx", "image"], "--concurrency"),
        (&["make", "a.caibx"], "<FILE>"),
        (&["extract", "d.caibx", "out"], "--store"),
        (&["extract", "-s", "ssh://host/store", "d.caibx", "out"], "ssh"),
        (&["extract", "-s", "store", "http://host/d.caibx", "out"], "HTTP"),
        (&["extract", "-s", "store", "-r=false", "d.caibx", "out"], "--cache-repair"),
        (&["extract", "-s", "store", "--skip-verify", "d.caibx", "out"], "--skip-verify"),
        (&["extract", "-s", "store", "d.caibx", "-"], "standard output"),
        (&["extract", "-s", "store", "d.caibx", "store"], "folder"),
        (&["extract", "-s", "store", "--seed", "none.caibx", "d.caibx", "out"], "none"),
        (&["info", "--chunks-info", "x", "d.caibx"], "--chunks-info"),
        (&["--digest", "md5", "make", "a.caibx", "image"], "md5"),
        (&[], "command"),
    ] {
        peer.refuses(arguments, &[part]);
    }
    assert_eq!(names(peer.scratch.path()), before);
    let help = peer.call(&["--help"]).run().expect_ok().stdout;
    assert!(help.contains("verify-index"), "{help}");
}
