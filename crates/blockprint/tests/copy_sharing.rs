//! `blockprint copy` within a filesystem that can share blocks: data is not written twice, zeroes still become holes.

use std::fs;

use testkit::host::{Filesystem, Needs, require};

use crate::support::{
    KIB, MIB, Part, allocated, assert_refused, assert_same, copy, make, make_mixed, names,
    overwrite,
};

#[test]
fn within_xfs_and_btrfs_data_is_shared_and_zeroes_become_holes() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs", "btrfs"])) else { return };
    for outer in [Filesystem::xfs(512 * MIB), Filesystem::btrfs(512 * MIB)] {
        let [source, target, written] =
            ["source", "target", "written"].map(|name| outer.path().join(name));
        // The odd end is no multiple of a block.
        let parts = [
            Part::Noise(4 * MIB),
            Part::Zeroes(4 * MIB),
            Part::Hole(4 * MIB),
            Part::Noise(4 * MIB + 77),
        ];
        make(&source, 30, &parts);
        let result = copy(&scratch, &source, &target).arg("--json").run().expect_ok().result();
        assert_same(&source, &target);
        assert_eq!(result["written_bytes"], 0, "{result}");
        assert_eq!(result["shared_bytes"], 8 * MIB + 77, "{result}");
        assert!(allocated(&target) < 9 * MIB, "zeroes stayed: {} bytes", allocated(&target));
        // They share blocks, not fate.
        overwrite(&source, MIB, b"changed");
        assert_eq!(&fs::read(&target).unwrap()[8 * MIB as usize..][..4], [0; 4]);
        let before = fs::read(&target).unwrap();
        overwrite(&source, 2 * MIB, b"changed again");
        assert!(before == fs::read(&target).unwrap(), "the copy changed with its source");

        let never = copy(&scratch, &source, &written).args(["--reflink", "never", "--json"]).run();
        let result = never.expect_ok().result();
        assert_eq!(result["shared_bytes"], 0, "{result}");
        assert_eq!(result["written_bytes"], 8 * MIB + 77, "{result}");
        assert_same(&source, &written);
    }
}

#[test]
fn an_old_file_in_place_is_covered_by_shared_blocks_and_holes() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    let outer = Filesystem::xfs(512 * MIB);
    let [source, target] = ["source", "target"].map(|name| outer.path().join(name));
    make_mixed(&source, 31, 2);
    make(&target, 32, &[Part::Noise(12 * MIB + 5)]);
    let call = copy(&scratch, &source, &target).args(["--force", "--in-place", "--verify"]);
    call.run().expect_ok();
    assert_same(&source, &target);
}

#[test]
fn where_blocks_have_to_be_shared_and_cannot_be_nothing_is_made() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let outer = Filesystem::ext4(64 * MIB);
    let [source, target] = ["source", "target"].map(|name| outer.path().join(name));
    make(&source, 33, &[Part::Noise(64 * KIB)]);
    let always = copy(&scratch, &source, &target).args(["--reflink", "always"]).run();
    assert_refused(always, 16, &["cannot share blocks", "XFS"]);
    assert_eq!(names(outer.path()), ["source"], "something was left");
    // Between two filesystems blocks are never shared.
    let elsewhere = scratch.join("target");
    let across = copy(&scratch, &source, &elsewhere).args(["--reflink", "always"]).run();
    across.expect_exit(16);
}
