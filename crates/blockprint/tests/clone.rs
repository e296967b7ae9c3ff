//! `blockprint clone` under load: what was acknowledged before the freeze is in the clone, and the clone is clean.

use std::fs;
use std::path::PathBuf;

use testkit::host::{self, Filesystem};

use crate::live::{self, Live, Outer, announce, frozen_ms, judge, stopped_at};
use crate::support::{MIB, assert_same};

/// So many clones of one image that is written to all the time.
const CLONES: usize = 50;

#[test]
fn each_of_fifty_clones_under_load_on_xfs_is_clean_and_complete() {
    fifty_clones(Outer::Xfs);
}

#[test]
fn each_of_fifty_clones_under_load_on_btrfs_is_clean_and_complete() {
    fifty_clones(Outer::Btrfs);
}

/// Every second one is stopped just before it freezes: then it is known exactly what must be in the clone.
fn fifty_clones(outer: Outer) {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(outer);
    let target = live.beside("clone.img");
    let mut windows_ms = Vec::new();
    for number in 0..CLONES {
        let (outcome, at_least) = if number % 2 == 0 {
            let at_least = live.writer.acknowledged();
            let outcome = live.clone_to(&target).run().expect_ok();
            windows_ms.push(frozen_ms(&outcome));
            (outcome, at_least)
        } else {
            let running = stopped_at(live.clone_to(&target), "flushed");
            assert!(live.writer.goes_on(live::THAWED_WITHIN), "it is frozen too early");
            let at_least = live.writer.acknowledged();
            running.signal("CONT");
            (running.wait().expect_ok(), at_least)
        };
        assert_eq!(outcome.events("warning"), [] as [serde_json::Value; 0]);
        let at_most = live.writer.acknowledged() + 1;
        let last = judge(&target, at_least);
        assert!(last <= at_most, "record {last} of {at_most} was never written");
        fs::remove_file(&target).unwrap();
        live.assert_nothing_but(&[]);
    }
    windows_ms.sort_by(f64::total_cmp);
    announce(&format!(
        "freeze of an ext4 with a syncing writer, image on {outer:?}: median {:.1} ms, maximum {:.1} ms of {}",
        windows_ms[windows_ms.len() / 2],
        windows_ms[windows_ms.len() - 1],
        windows_ms.len(),
    ));
    live.writer.stop().unwrap();
}

#[test]
fn a_clone_of_an_idle_image_is_equal_and_freezes_nothing() {
    let Some(_scratch) = live::scratch() else { return };
    for outer in Outer::BOTH {
        let outer = outer.make();
        let (image, target) = (outer.path().join("idle.img"), outer.path().join("clone.img"));
        host::make_image("ext4", &image, 64 * MIB);
        let outcome = live::clone(&[&image], &target).run().expect_ok();
        let result = outcome.result();
        assert!(result["frozen_ms"].is_null(), "{outcome}");
        assert_eq!(result["clones"][0]["method"], "reflink", "{outcome}");
        assert_same(&image, &target);
    }
}

#[test]
fn what_only_the_loop_device_holds_in_memory_is_in_the_clone_of_an_idle_image() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Xfs.make();
    let (image, target) = (outer.path().join("idle.img"), outer.path().join("clone.img"));
    fs::write(&image, vec![0; MIB as usize]).unwrap();
    let device = host::LoopDevice::attach(&image, &host::LoopOptions::default());
    fs::write(device.path(), vec![7; 4096]).unwrap();
    live::clone(&[&image], &target).run().expect_ok();
    assert_eq!(fs::read(&target).unwrap()[..4096], [7; 4096]);
}

#[test]
fn filesystems_of_other_kinds_inside_are_frozen_too() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Filesystem::xfs(1024 * MIB);
    for kind in ["xfs", "btrfs"] {
        let image = outer.path().join(format!("{kind}.img"));
        let target: PathBuf = outer.path().join(format!("{kind}-clone.img"));
        host::make_image(kind, &image, 320 * MIB);
        let inner = Filesystem::mount(&image);
        let writer = host::Writer::start(inner.path(), &host::Load::default());
        for round in 0..3 {
            let at_least = writer.acknowledged();
            let outcome = live::clone(&[&image], &target).arg("--force").run().expect_ok();
            assert!(frozen_ms(&outcome) > 0.0);
            assert!(writer.goes_on(live::THAWED_WITHIN), "{kind} stays frozen");
            if round == 0 {
                continue;
            }
            match kind {
                "xfs" => host::fsck::xfs(&target),
                _ => host::fsck::btrfs(&target),
            }
            // Two filesystems of one identity cannot be mounted side by side: XFS takes an option, Btrfs a new one.
            let options = match kind {
                "xfs" => "nouuid",
                _ => {
                    host::run(host::tool("btrfstune").args(["-m", "-f"]).arg(&target));
                    ""
                }
            };
            let mounted = Filesystem::mount_with(&target, &host::LoopOptions::default(), options);
            let last = host::read_records(mounted.path()).unwrap();
            assert!(last >= at_least, "{kind}: {last} of {at_least}");
        }
    }
}
