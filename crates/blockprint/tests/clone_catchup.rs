//! A clone that is brought up to date while frozen is, byte for byte, the clone that one FICLONE would have made.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testkit::host::{self, Filesystem, TempDir, run, tool, try_run};

use crate::live::{self, Live, Outer, announce, judge, reflink, stopped_at};
use crate::support::{MIB, assert_same};

/// How much of the image is cut into pieces.
const BALLAST_BYTES: usize = 12 << 20;

#[test]
fn a_clone_caught_up_on_xfs_equals_one_made_in_the_frozen_moment() {
    let Some(_scratch) = live::scratch() else { return };
    compare_with_witnesses(&Live::on(Outer::Xfs.make(), make_fragmented), 6);
}

#[test]
fn a_clone_caught_up_on_btrfs_equals_one_made_in_the_frozen_moment() {
    let Some(_scratch) = live::scratch() else { return };
    compare_with_witnesses(&Live::on(Outer::Btrfs.make(), make_fragmented), 6);
}

#[test]
fn a_clone_caught_up_on_compressed_btrfs_equals_one_made_in_the_frozen_moment() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Btrfs.make();
    run(tool("mount").args(["-o", "remount,compress-force=zstd"]).arg(outer.path()));
    let compressed = |image: &Path| {
        make_fragmented(image);
        let map = run(tool("filefrag").arg("-v").arg(image));
        assert!(map.contains("encoded"), "nothing is compressed:\n{map}");
    };
    compare_with_witnesses(&Live::on(outer, compressed), 4);
}

#[test]
fn a_clone_caught_up_on_btrfs_without_copy_on_write_equals_one_made_in_the_frozen_moment() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Btrfs.make();
    // The usual setting for disk images: inherited by each new file in the folder.
    run(tool("chattr").arg("+C").arg(outer.path()));
    compare_with_witnesses(&Live::on(outer, make_fragmented), 4);
}

/// Makes an ext4 image in more than a thousand extents: of a file in it that is never trimmed away, each second
/// block is shared no longer, and lies elsewhere.
#[track_caller]
pub(crate) fn make_fragmented(image: &Path) {
    // Not made in place: on Btrfs a file that has had preallocated space is never compressed again.
    let elsewhere = TempDir::new("fragmented");
    let plain = elsewhere.join("plain.img");
    host::make_image("ext4", &plain, 64 * MIB);
    let inner = Filesystem::mount(&plain);
    let mut ballast = b"something that compresses well, unlike noise. ".repeat(BALLAST_BYTES / 46);
    for block in ballast.chunks_exact_mut(4096) {
        fastrand::fill(&mut block[..512]);
    }
    fs::write(inner.path().join("ballast"), ballast).unwrap();
    drop(inner);
    run(tool("cp").args(["--sparse=always", "--reflink=never"]).arg(&plain).arg(image));
    let shared = image.with_extension("shared");
    reflink(image, &shared);
    // On XFS; elsewhere there is no such thing.
    let _ = try_run(tool("xfs_io").args(["-c", "cowextsize 4096"]).arg(image));
    let file = OpenOptions::new().read(true).write(true).open(image).unwrap();
    let mut block = vec![0; 4096];
    for offset in (0..64 * MIB).step_by(8192) {
        file.read_exact_at(&mut block, offset).unwrap();
        if block.iter().any(|&byte| byte != 0) {
            file.write_all_at(&block, offset).unwrap();
        }
    }
    file.sync_all().unwrap();
    fs::remove_file(shared).unwrap();
}

/// Clones again and again, with a look at the source in each frozen moment.
fn compare_with_witnesses(live: &Live, rounds: usize) {
    let (target, witness) = (live.beside("clone.img"), live.beside("witness.img"));
    let stop = AtomicBool::new(false);
    let mut frozen_bytes = Vec::new();
    thread::scope(|scope| {
        let _stop = OnDrop(&stop);
        scope.spawn(|| rummage(live.inner.path(), &stop));
        for round in 0..rounds {
            if round % 3 == 2 {
                grow(&live.image);
            }
            let program = live.clone_to(&target).arg("--freeze-timeout=60s");
            let running = stopped_at(program, "cloned");
            let at_least = live.writer.acknowledged();
            reflink(&live.image, &witness);
            assert!(!live.writer.goes_on(Duration::from_millis(30)), "it is not frozen");
            running.signal("CONT");
            let outcome = running.wait().expect_ok();
            live.assert_writable("after a clone that was caught up");
            let clone = &outcome.result()["clones"][0];
            assert_eq!(clone["method"], "reflink-catchup", "{outcome}");
            frozen_bytes.push(clone["frozen_bytes"].as_u64().unwrap());
            assert_same(&target, &witness);
            assert_eq!(clone["size_bytes"], fs::metadata(&witness).unwrap().len());
            judge(&target, at_least);
            fs::remove_file(&target).unwrap();
            fs::remove_file(&witness).unwrap();
            live.assert_nothing_but(&[]);
        }
    });
    announce(&format!(
        "brought while frozen, in bytes, image on {}: {frozen_bytes:?}",
        live.outer.path().display()
    ));
}

#[test]
fn an_image_that_grows_or_shrinks_during_the_clone_is_cloned_as_it_is_when_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    for outer in Outer::BOTH {
        // The filesystem ends before the image does, so that the image can get shorter.
        let live = Live::on(outer.make(), |image| {
            make_fragmented(image);
            File::options().write(true).open(image).unwrap().set_len(80 * MIB).unwrap();
        });
        let target = live.beside("clone.img");
        for (step, len) in
            [("opened", 71 * MIB + 512), ("precloned", 90 * MIB), ("flushed", 65 * MIB)]
        {
            let program = live.clone_to(&target).arg("--force");
            let running = program.env("BLOCKPRINT_DEBUG_STOP_AT", step).spawn();
            crate::support::until_stopped(&running);
            File::options().write(true).open(&live.image).unwrap().set_len(len).unwrap();
            running.signal("CONT");
            let outcome = running.wait().expect_ok();
            assert_eq!(outcome.result()["clones"][0]["size_bytes"], len, "{outcome}");
            assert_eq!(fs::metadata(&target).unwrap().len(), len, "{outcome}");
            live.assert_writable("after a clone of an image that was resized");
            judge(&target, 1);
        }
    }
}

/// Makes a file longer, with a hole, some data and again a hole behind what was there.
fn grow(image: &Path) {
    let file = OpenOptions::new().write(true).open(image).unwrap();
    let len = file.metadata().unwrap().len();
    file.write_all_at(&[9; 5000], len + 1_000_000).unwrap();
    file.set_len(len + 3 * MIB).unwrap();
}

/// Writes, removes and trims files inside, so that the image gets new blocks and holes all the time.
fn rummage(folder: &Path, stop: &AtomicBool) {
    let mut random = fastrand::Rng::new();
    while !stop.load(Ordering::Relaxed) {
        let path = folder.join(format!("file-{}", random.u32(..8)));
        match random.u32(..10) {
            0..6 => {
                let mut bytes = vec![0; random.usize(..600_000)];
                random.fill(&mut bytes);
                let written = File::create(&path).and_then(|file| {
                    file.write_all_at(&bytes, random.u64(..2_000_000))?;
                    if random.bool() { file.sync_all() } else { Ok(()) }
                });
                written.unwrap();
            }
            6..9 => drop(fs::remove_file(&path)),
            _ => drop(run(tool("fstrim").arg(folder))),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Ends the threads of a scope, also when the test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
