//! Images of a partition with one byte that is another, or without their end: `verify` and `restore` say so, and where.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use testkit::host::{LoopDevice, Outcome, TempDir, require, run, tool};

use crate::backup::{attach, backed_up, needs};
use crate::support::{KIB, MIB, Part, blockprint, make};

/// 1,000 changes in all, and 52 truncations, shared by four compressions.
const CHANGES: usize = 250;
const TRUNCATIONS: usize = 13;
/// Each one is given to `verify`, and one of so many to `restore`, too.
const RESTORED: usize = 10;

/// An image that is damaged and mended, again and again.
struct Victim {
    scratch: TempDir,
    target: LoopDevice,
    path: PathBuf,
    file: File,
    good: Vec<u8>,
    damaged: usize,
}

impl Victim {
    /// The image of a small ext4, and a device that it could be restored to.
    fn make(compression: &str) -> Option<Self> {
        let scratch = require(&needs())?;
        let (content, partition) = (scratch.join("content"), scratch.join("partition"));
        fs::create_dir(&content).unwrap();
        make(&content.join("noise"), 3, &[Part::Noise(150 * KIB)]);
        fs::write(content.join("text"), "the same words again and again\n".repeat(9000)).unwrap();
        File::create(&partition).unwrap().set_len(8 * MIB).unwrap();
        run(tool("mkfs.ext4").args(["-q", "-d"]).arg(&content).arg(&partition));
        let source = attach(&partition);
        let path = backed_up(&scratch, source.path(), &["--compression", compression]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let space = scratch.join("space");
        File::create(&space).unwrap().set_len(8 * MIB).unwrap();
        let (target, good) = (attach(&space), fs::read(&path).unwrap());
        let victim = Victim { scratch, target, path, file, good, damaged: 0 };
        victim.verify().expect_ok();
        victim.restore().expect_ok();
        Some(victim)
    }

    fn verify(&self) -> Outcome {
        blockprint(&self.scratch).args(["verify", "--json"]).arg(&self.path).run()
    }

    fn restore(&self) -> Outcome {
        let restore = blockprint(&self.scratch).args(["restore", "--json", "--yes"]);
        restore.arg(&self.path).arg(self.target.path()).run()
    }

    #[track_caller]
    fn assert_found(&mut self, what: &str) {
        assert_names_a_place(&self.verify(), &format!("{what} and verified"));
        if self.damaged.is_multiple_of(RESTORED) {
            assert_names_a_place(&self.restore(), &format!("{what} and restored"));
        }
        self.damaged += 1;
    }

    /// Changes random bytes, one after the other.
    fn change(&mut self, rng: &mut fastrand::Rng) {
        for _ in 0..CHANGES {
            let at = rng.usize(0..self.good.len());
            let other = self.good[at] ^ rng.u8(1..);
            self.file.write_all_at(&[other], at as u64).unwrap();
            self.assert_found(&format!("byte {at} of {} was made {other:#x}", self.good.len()));
            self.file.write_all_at(&[self.good[at]], at as u64).unwrap();
        }
    }

    /// Cuts off its end: at random, and of some few bytes.
    fn truncate(&mut self, rng: &mut fastrand::Rng) {
        for number in 0..TRUNCATIONS {
            let cut = rng.usize(1..if number < 4 { 30 } else { self.good.len() });
            let len = self.good.len() - cut;
            self.file.set_len(len as u64).unwrap();
            self.assert_found(&format!("{len} bytes of {} were left", self.good.len()));
            self.file.write_all_at(&self.good[len..], len as u64).unwrap();
        }
    }
}

#[track_caller]
fn assert_names_a_place(outcome: &Outcome, what: &str) {
    assert_eq!(outcome.status.code(), Some(18), "{what}: {}{}", outcome.stdout, outcome.stderr);
    let errors = outcome.events("error");
    let [error] = &errors[..] else { panic!("{what}: {} errors", errors.len()) };
    assert!(error["location"]["offset"].is_u64(), "{what}: {error}");
}

fn damage_is_never_a_success(compression: &str, seed: u64) {
    let Some(mut victim) = Victim::make(compression) else { return };
    let mut rng = fastrand::Rng::with_seed(seed);
    victim.change(&mut rng);
    victim.truncate(&mut rng);
    // All that was found was the damage.
    victim.verify().expect_ok();
}

#[test]
fn damage_to_a_gz_image_is_found_with_its_place() {
    damage_is_never_a_success("gz", 1);
}

#[test]
fn damage_to_a_zst_image_is_found_with_its_place() {
    damage_is_never_a_success("zst", 2);
}

#[test]
fn damage_to_an_lz4_image_is_found_with_its_place() {
    damage_is_never_a_success("lz4", 3);
}

#[test]
fn damage_to_an_image_that_is_not_packed_is_found_with_its_place() {
    damage_is_never_a_success("uncompressed", 4);
}
