//! Syncs with another machine, over a real sshd.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use testkit::host::{LoopDevice, LoopOptions, Mount, Needs};

use crate::far::{Site, there};
use crate::support::{
    KIB, MIB, Part, allocated, assert_refused, assert_same, attach_two_partitions, make,
    make_mixed, make_noise, names, overwrite,
};

const PROTOCOLS: [&str; 2] = ["native", "diskrsync"];

/// An old state of `new`: some of it as it is, some another, some zero.
fn make_old(new: &Path, old: &Path, seed: u64) {
    fs::copy(new, old).unwrap();
    let len = fs::metadata(old).unwrap().len();
    let mut random = fastrand::Rng::with_seed(seed);
    let file = File::options().write(true).open(old).unwrap();
    for _ in 0..6 {
        let mut bytes = vec![0; random.usize(1..100_000)];
        if random.bool() {
            random.fill(&mut bytes);
        }
        file.write_all_at(&bytes, random.u64(0..len.max(1))).unwrap();
    }
    file.set_len(len).unwrap();
}

#[test]
fn files_are_pushed_and_pulled_by_either_protocol_to_old_and_new_targets() {
    let Some(site) = Site::new(&["blockprint", "diskrsync"]) else { return };
    let source = site.path("source");
    make_mixed(&source, 1, 3);
    for protocol in PROTOCOLS {
        for (name, is_push) in [("pushed", true), ("pulled", false)] {
            let name = format!("{name}-{protocol}");
            let target = site.path(&name);
            for is_new in [true, false] {
                if !is_new {
                    make_old(&source, &target, 2);
                }
                let options = ["--protocol", protocol, "--json"];
                let program = match is_push {
                    true => site.sync_with(&options, &source, site.there(&name)),
                    false => site.sync_with(&options, site.there("source"), &target),
                };
                let outcome = program.run().expect_ok();
                assert_same(&source, &target);
                let result = outcome.result();
                assert_eq!(result["way"], protocol, "{outcome}");
                assert_eq!(result["root"].is_string(), protocol == "native", "{outcome}");
                assert!(result["sent_bytes"].as_u64().unwrap() > 0, "{outcome}");
                assert_eq!(result["size_bytes"], 12 * MIB, "{outcome}");
                // Zeroes that an old target has as data already are equal, and stay.
                assert!(!is_new || allocated(&target) < 8 * MIB, "holes are gone");
            }
        }
    }
    assert_eq!(
        names(site.scratch.path()),
        [
            "bin",
            "pulled-diskrsync",
            "pulled-native",
            "pushed-diskrsync",
            "pushed-native",
            "source",
            "state"
        ]
        .iter()
        .filter(|name| **name != "state" || site.path("state").exists())
        .copied()
        .collect::<Vec<_>>()
    );
}

#[test]
fn thirty_random_pairs_come_out_equal() {
    let Some(site) = Site::new(&["blockprint", "diskrsync"]) else { return };
    let mut random = fastrand::Rng::with_seed(0x51de);
    for round in 0..30 {
        let (source, target) = (site.path("source"), site.path("target"));
        let parts = |random: &mut fastrand::Rng| -> Vec<Part> {
            (0..random.usize(0..12))
                .map(|_| {
                    let len = match random.bool() {
                        true => random.u64(1..600) * 4 * KIB,
                        false => random.u64(1..900_000),
                    };
                    match random.u8(0..4) {
                        0 => Part::Hole(len),
                        1 => Part::Zeroes(len),
                        _ => Part::Noise(len),
                    }
                })
                .collect()
        };
        make(&source, round, &parts(&mut random));
        match random.u8(0..4) {
            0 => make(&target, round + 100, &parts(&mut random)),
            1 => {
                make_old(&source, &target, round);
                let len = fs::metadata(&target).unwrap().len();
                let file = File::options().write(true).open(&target).unwrap();
                file.set_len(random.u64(0..=2 * len)).unwrap();
            }
            2 => make_old(&source, &target, round),
            _ => {}
        }
        let protocol = PROTOCOLS[random.usize(0..2)];
        let mut options = vec!["--protocol", protocol];
        if protocol == "native" && random.bool() {
            options.push("--no-compress-wire");
        }
        let program = match random.bool() {
            true => site.sync_with(&options, &source, site.there("target")),
            false => site.sync_with(&options, site.there("source"), &target),
        };
        program.run().expect_ok();
        assert_same(&source, &target);
        fs::remove_file(&target).unwrap();
        fs::remove_file(&source).unwrap();
    }
}

#[test]
fn devices_are_read_and_written_there_and_a_larger_one_keeps_its_rest() {
    let needs = Needs::root().tools(&["losetup"]);
    let Some(site) = Site::with(&["blockprint", "diskrsync"], &needs) else { return };
    let (small, large) = (site.path("small"), site.path("large"));
    make_mixed(&small, 3, 2);
    for protocol in PROTOCOLS {
        make_noise(&large, 4, 9 * MIB);
        let rest = fs::read(&large).unwrap().split_off(8 * MIB as usize);
        let from = LoopDevice::attach(&small, &LoopOptions::default());
        let to = LoopDevice::attach(&large, &LoopOptions::default());
        let options = ["--protocol", protocol];
        site.sync_with(&options, from.path(), there(to.path())).run().expect_ok();
        drop(to);
        let bytes = fs::read(&large).unwrap();
        assert!(bytes[..8 * MIB as usize] == fs::read(&small).unwrap(), "{protocol}");
        assert!(bytes[8 * MIB as usize..] == rest, "{protocol}");
        // And back, into a file.
        let target = site.path(protocol);
        site.sync_with(&options, there(from.path()), &target).run().expect_ok();
        assert_same(&small, &target);
    }
}

#[test]
fn a_device_there_that_is_too_small_or_mounted_is_refused_before_a_write() {
    let needs = Needs::root().filesystems(&["ext4"]).tools(&["losetup", "sfdisk"]);
    let Some(site) = Site::with(&["blockprint"], &needs) else { return };
    let (source, disk) = (site.path("source"), site.path("disk"));
    make_noise(&source, 5, 30 * MIB);
    let device = attach_two_partitions(&disk);
    let before = fs::read(&disk).unwrap();
    let refused = site.sync(&source, there(device.path())).run();
    assert_refused(refused, 14, &["too small"]);
    assert!(fs::read(&disk).unwrap() == before);
    let mount = Mount::new(&device.partition(2), "");
    let refused = site.sync(&source, there(&device.partition(2))).run();
    assert_refused(refused, 13, &["mounted"]);
    drop(mount);
}

#[test]
fn a_container_there_is_made_updated_and_read() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let source = site.path("source");
    make_mixed(&source, 6, 2);
    let push = ["--format", "spgz", "--block-size", "64K"];
    site.sync_with(&push, &source, site.there("disk.spgz")).run().expect_ok();
    assert!(fs::read(site.path("disk.spgz")).unwrap().starts_with(b"SPGZ0001"));
    overwrite(&source, 5 * MIB, &[7; 100_000]);
    let outcome = site.sync_with(&["--json"], &source, site.there("disk.spgz")).run().expect_ok();
    assert!(outcome.result()["data_bytes"].as_u64().unwrap() < MIB, "{outcome}");
    site.sync(site.there("disk.spgz"), site.path("back")).run().expect_ok();
    assert_same(&source, &site.path("back"));
}

#[test]
fn a_target_there_grows_and_shrinks_and_stays_sparse() {
    let Some(site) = Site::new(&["blockprint", "diskrsync"]) else { return };
    let (source, target) = (site.path("source"), site.path("target"));
    for protocol in PROTOCOLS {
        for len in [3 * MIB + 5, 64 * MIB, 1, 0, 2 * MIB] {
            let noise = len.min(MIB);
            make(&source, len, &[Part::Noise(noise), Part::Hole(len - noise)]);
            let options = ["--protocol", protocol];
            site.sync_with(&options, &source, site.there("target")).run().expect_ok();
            assert_same(&source, &target);
            assert_eq!(fs::metadata(&target).unwrap().len(), len);
            assert!(allocated(&target) <= 2 * MIB, "{protocol}, {len}");
        }
    }
}

#[test]
fn paths_arrive_as_they_are_whatever_a_shell_could_make_of_them() {
    let Some(site) = Site::new(&["blockprint", "diskrsync"]) else { return };
    let source = site.path("source");
    make_noise(&source, 7, 70_000);
    let mut nasty: Vec<OsString> = [
        "two  words",
        "it's",
        "\"quoted\"",
        "$HOME and $(touch pwned) `touch pwned`",
        "line\nbreak",
        "-leading",
        "a;touch pwned",
        "back\\slash",
        "*",
    ]
    .map(OsString::from)
    .to_vec();
    nasty.push(OsString::from_vec(b"not \xff utf-8".to_vec()));
    for name in &nasty {
        for protocol in PROTOCOLS {
            let folder = site.path("folder");
            fs::create_dir(&folder).unwrap();
            let file = folder.join(name);
            let options = ["--protocol", protocol];
            site.sync_with(&options, &source, there(&file)).run().expect_ok();
            assert_same(&source, &file);
            let back = site.path("back");
            site.sync_with(&options, there(&file), &back).run().expect_ok();
            assert_same(&source, &back);
            fs::remove_file(back).unwrap();
            fs::remove_file(file).unwrap();
            fs::remove_dir(folder).unwrap_or_else(|cause| panic!("{name:?}: {cause}"));
        }
    }
}

#[test]
fn a_relative_path_begins_at_the_home_and_cannot_be_an_option() {
    let Some(site) = Site::new(&["blockprint", "diskrsync"]) else { return };
    let source = site.path("source");
    make_noise(&source, 8, 70_000);
    // The home folder is the user's own here: nothing is written to it.
    for path in ["-no-such-file", "--help", "no such file"] {
        let mut place = OsString::from("far:");
        place.push(path);
        let refused = site.sync(&place, site.path("target")).run();
        assert_refused(refused, 10, &["cannot open", path]);
        let options = ["--protocol", "diskrsync"];
        let refused = site.sync_with(&options, &place, site.path("target")).run();
        assert_refused(refused, 20, &["far failed (exit status 1)", path]);
    }
    assert!(!site.path("target").exists());
}

#[test]
fn a_folder_there_gets_the_name_of_the_source() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let source = site.path("disk.img");
    make_noise(&source, 9, 70_000);
    fs::create_dir(site.path("folder")).unwrap();
    site.sync(&source, site.there("folder/")).run().expect_ok();
    assert_same(&source, &site.path("folder/disk.img"));
    fs::create_dir(site.path("here")).unwrap();
    site.sync(site.there("disk.img"), site.path("here")).run().expect_ok();
    assert_same(&source, &site.path("here/disk.img"));
}

#[test]
fn two_remote_ends_sync_through_this_machine() {
    let Some(site) = Site::new(&["blockprint", "diskrsync"]) else { return };
    let (source, target) = (site.path("source"), site.path("target"));
    make_mixed(&source, 10, 2);
    for protocol in PROTOCOLS {
        make_old(&source, &target, 11);
        let options = ["--protocol", protocol, "--json"];
        let program = site.sync_with(&options, site.there("source"), site.there("target"));
        let outcome = program.run().expect_ok();
        assert_same(&source, &target);
        let result = outcome.result();
        assert!(result["received_bytes"].as_u64().unwrap() > 100, "{outcome}");
        if protocol == "native" {
            assert_eq!(result["size_bytes"], 8 * MIB, "{outcome}");
            assert!(result["root"].is_string(), "{outcome}");
        }
    }
    let missing = site.sync(site.there("nothing"), site.there("target")).run();
    assert_refused(missing, 10, &["far says:", "nothing"]);
    let refused = site.sync(site.there("source"), site.there("nowhere/target")).run();
    assert_refused(refused, 10, &["far says:", "nowhere"]);
}

#[test]
fn what_is_missing_there_is_named() {
    let Some(site) = Site::new(&[]) else { return };
    let source = site.path("source");
    make_noise(&source, 12, 70_000);
    for (protocol, sentence) in [
        ("auto", "neither blockprint nor diskrsync on far"),
        ("native", "no blockprint on far"),
        ("diskrsync", "no diskrsync on far"),
    ] {
        let options = ["--protocol", protocol];
        let program = site.sync_with(&options, &source, site.there("target"));
        assert_refused(program.run(), 10, &[sentence]);
    }
    assert!(!site.path("target").exists());
}

#[test]
fn an_old_diskrsync_is_fallen_back_on_and_that_is_said() {
    let Some(site) = Site::new(&["diskrsync"]) else { return };
    let (source, target) = (site.path("source"), site.path("target"));
    make_mixed(&source, 13, 1);
    let outcome = site.sync(&source, site.there("target")).run().expect_ok();
    assert_same(&source, &target);
    outcome.expect_error("far has no blockprint: its diskrsync is spoken with");
    // What it cannot do is not dropped in silence.
    let options = ["--atomic"];
    let refused = site.sync_with(&options, &source, site.there("target")).run();
    assert_refused(refused, 10, &["no blockprint on far"]);
    for option in ["--dry-run", "--keep-digests", "--atomic"] {
        let options = ["--protocol", "diskrsync", option];
        let refused = site.sync_with(&options, &source, site.there("target")).run();
        assert_refused(refused, 16, &[option, "diskrsync's protocol"]);
    }
}

#[test]
fn a_host_that_is_not_reached_is_told_by_what_ssh_said() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let source = site.path("source");
    make_noise(&source, 14, 70_000);
    let flags = format!("{} -p 1", site.sshd.flags().join(" "));
    let program = crate::support::blockprint(&site.scratch).args(["sync", "--ssh-flags", &flags]);
    let refused = program.arg(&source).arg(site.there("target")).run();
    assert_refused(refused, 20, &["ssh did not reach far", "refused"]);
}

#[test]
fn a_login_script_that_talks_is_shown() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let source = site.path("source");
    make_noise(&source, 15, 70_000);
    let noisy = site.path("bin/noisy");
    fs::write(&noisy, "#!/bin/sh\necho 'Welcome to far!'\nexec blockprint \"$@\"\n").unwrap();
    fs::set_permissions(&noisy, fs::Permissions::from_mode(0o755)).unwrap();
    let options = ["--remote-command", "noisy"];
    let refused = site.sync_with(&options, &source, site.there("target")).run();
    assert_refused(refused, 20, &["\"Welcome to far!\"", "standard output"]);
    // The words are words there, too.
    let options = ["--remote-command", "env A=1 blockprint"];
    site.sync_with(&options, &source, site.there("target")).run().expect_ok();
    assert_same(&source, &site.path("target"));
}

#[test]
fn a_dry_run_counts_and_changes_nothing_there() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let (source, target) = (site.path("source"), site.path("target"));
    make_mixed(&source, 16, 2);
    make_old(&source, &target, 17);
    let (before, metadata) = (fs::read(&target).unwrap(), fs::metadata(&target).unwrap());
    let dry = ["--dry-run", "--json"];
    let outcome = site.sync_with(&dry, &source, site.there("target")).run().expect_ok();
    assert!(fs::read(&target).unwrap() == before);
    assert_eq!(fs::metadata(&target).unwrap().modified().unwrap(), metadata.modified().unwrap());
    let would = outcome.result();
    let outcome = site.sync_with(&["--json"], &source, site.there("target")).run().expect_ok();
    let did = outcome.result();
    assert!(did["data_bytes"].as_u64().unwrap() > 0, "{outcome}");
    for name in ["data_bytes", "zeroed_bytes", "compared_bytes"] {
        assert_eq!(would[name], did[name], "{name}");
    }
    // A target that is not there yet is not made.
    let outcome = site.sync_with(&dry, &source, site.there("new")).run().expect_ok();
    assert_eq!(names(site.scratch.path()).iter().filter(|name| name.contains("new")).count(), 0);
    assert!(outcome.result()["data_bytes"].as_u64().unwrap() > 4 * MIB, "{outcome}");
}

#[test]
fn an_atomic_target_there_is_replaced_and_leaves_nothing_behind() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    fs::create_dir(site.path("folder")).unwrap();
    let (source, target) = (site.path("source"), site.path("folder/target"));
    make_mixed(&source, 18, 2);
    make_old(&source, &target, 19);
    let hold = File::open(&target).unwrap();
    let before = fs::read(&target).unwrap();
    site.sync_with(&["--atomic"], &source, site.there("folder/target")).run().expect_ok();
    assert_same(&source, &target);
    let mut old = vec![0; before.len()];
    hold.read_exact_at(&mut old, 0).unwrap();
    assert!(old == before, "the old file was written to");
    assert_eq!(names(&site.path("folder")), ["target"]);
}

#[test]
fn digests_that_are_kept_at_both_ends_are_used_the_next_time() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let (source, target) = (site.path("source"), site.path("target"));
    make_noise(&source, 20, 16 * MIB);
    let options = ["--keep-digests", "--json"];
    site.sync_with(&options, &source, site.there("target")).run().expect_ok();
    // A file that was written a moment ago may be written again within one tick of its clock.
    std::thread::sleep(Duration::from_millis(100));
    let outcome = site.sync_with(&options, &source, site.there("target")).run().expect_ok();
    assert_eq!(outcome.result()["known_bytes"], 16 * MIB, "{outcome}");
    overwrite(&source, 3 * MIB, b"changed");
    site.sync_with(&options, &source, site.there("target")).run().expect_ok();
    assert_same(&source, &target);
}

#[test]
fn a_limit_makes_it_slower() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let source = site.path("source");
    make_noise(&source, 21, 2 * MIB);
    let options = ["--limit", "1M", "--json"];
    let outcome = site.sync_with(&options, &source, site.there("target")).run().expect_ok();
    assert_same(&source, &site.path("target"));
    assert!(outcome.elapsed >= Duration::from_millis(1500), "{:?}", outcome.elapsed);
}

#[test]
fn a_host_that_ssh_would_take_for_an_option_is_refused() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let source = site.path("source");
    make_noise(&source, 22, 70_000);
    let flag = site.path("pwned");
    let host = format!("-oProxyCommand=touch {}:target", flag.display());
    // A slash before the colon would make it a path.
    let host = host.replace('/', "%");
    for place in [host.as_str(), ":target", "@:target"] {
        let refused = site.sync(&source, place).run();
        assert_refused(refused, 17, &["host"]);
    }
    assert!(!flag.exists());
}

#[test]
fn nobody_is_left_there_when_we_are_killed() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let (source, target) = (site.path("source"), site.path("target"));
    make_noise(&source, 23, 8 * MIB);
    let running = site.sync_with(&["--limit", "1M"], &source, site.there("target")).spawn();
    let partial = crate::support::partial_of(&target);
    crate::support::until("the far end writes", || partial.exists());
    assert!(!site.sshd.sessions().is_empty());
    running.signal("KILL");
    drop(running);
    crate::support::until("the far end ends", || site.sshd.sessions().is_empty());
    assert!(!target.exists());
    site.sync(&source, site.there("target")).run().expect_ok();
    assert_same(&source, &target);
    assert!(!partial.exists());
}

#[test]
fn an_interrupted_sync_ends_both_ends_orderly() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    let (source, target) = (site.path("source"), site.path("target"));
    make_noise(&source, 24, 8 * MIB);
    let running = site.sync_with(&["--limit", "1M"], &source, site.there("target")).spawn();
    let partial = crate::support::partial_of(&target);
    crate::support::until("the far end writes", || partial.exists());
    running.signal("INT");
    let outcome = running.wait_at_most(Duration::from_secs(20));
    assert_refused(outcome, 130, &["interrupted"]);
    crate::support::until("the far end ends", || site.sshd.sessions().is_empty());
    assert!(!target.exists());
}

#[test]
fn the_host_is_called_once_and_the_line_is_quoted() {
    let Some(site) = Site::new(&["blockprint"]) else { return };
    // What ssh itself would be given: the flags, two dashes, the host, one line.
    let bin = site.path("fake");
    fs::create_dir(&bin).unwrap();
    let log = site.path("log");
    let script = format!(
        "#!/bin/sh\nfor word in \"$@\"; do printf '<%s>' \"$word\"; done >>'{}'\nexit 255\n",
        log.display()
    );
    fs::write(bin.join("ssh"), script).unwrap();
    fs::set_permissions(bin.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    let source = site.path("source");
    make_noise(&source, 25, 70_000);
    let mut path = bin.into_os_string();
    path.push(":/usr/bin:/bin");
    let call = |options: &[&str], target: &str| {
        let program = crate::support::blockprint(&site.scratch).env("PATH", &path).arg("sync");
        program.args(options).arg(&source).arg(target).run().expect_exit(20);
        let said = fs::read_to_string(&log).unwrap();
        fs::remove_file(&log).unwrap();
        said
    };
    assert_eq!(
        call(&["--protocol", "native", "--ssh-flags", "-p 22"], "me@host:a b"),
        "<-p><22><--><me@host><blockprint sync --serve target -- 'a b'>"
    );
    assert_eq!(
        call(&["--protocol", "diskrsync"], "host:/a b"),
        "<--><host><diskrsync --target  --no-compress '/a b'>"
    );
    assert_eq!(
        call(&[], "host:a b"),
        "<--><host><sh -c 'if command -v blockprint >/dev/null 2>&1; then exec blockprint sync --serve target -- \
         '\\''a b'\\'' ; else exec diskrsync --target  --no-compress '\\''a b'\\'' ; fi'>"
    );
}
