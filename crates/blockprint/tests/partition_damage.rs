//! Images of a partition with one byte that is another, or without their end: `verify` and `restore` say so, and where.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use testkit::host::{LoopDevice, Outcome, TempDir, require, run, tool};

use crate::backup::{attach, backed_up, needs, stream_of_partclone};
use crate::support::{KIB, MIB, Part, blockprint, make, overwrite};

/// 1,000 changes in all, and 52 truncations, shared by four compressions.
const CHANGES: usize = 250;
const TRUNCATIONS: usize = 13;
/// So many bytes at both ends are changed one by one: there stands what says how the others are to be understood.
const EDGE_BYTES: usize = 40;
/// Each one is given to `verify`, and one of so many to `restore`, too.
const RESTORED: usize = 10;
/// Changes of an image by stock partclone and of one of raw bytes, for each way to pack it.
const FEWER_CHANGES: usize = 80;

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
        let source = attach(&small_ext4(&scratch));
        let path = backed_up(&scratch, source.path(), &["--compression", compression]);
        Some(Victim::of(scratch, path))
    }

    /// The image of a partition that holds nothing that anybody knows.
    fn make_raw(compression: &str) -> Option<Self> {
        let (scratch, bytes) = (require(&needs())?, [Part::Noise(MIB), Part::Zeroes(2 * MIB)]);
        let partition = scratch.join("partition");
        make(&partition, 4, &bytes);
        let source = attach(&partition);
        let path = backed_up(&scratch, source.path(), &["--compression", compression]);
        Some(Victim::of(scratch, path))
    }

    /// The stream of stock partclone, packed by a stock program.
    fn make_stock(compression: &str, program: &str) -> Option<Self> {
        let scratch = require(&needs().tools(&["pigz"]))?;
        let source = attach(&small_ext4(&scratch));
        let stream = scratch.join("stream");
        stream_of_partclone(source.path(), &stream);
        let path = scratch.join(format!("stock-2026-03-04T0506.apt.ext4.{compression}"));
        let script = format!("{program} <\"$0\" >\"$1\"");
        run(tool("sh").args(["-c", &script]).arg(stream).arg(&path));
        Some(Victim::of(scratch, path))
    }

    fn of(scratch: TempDir, path: PathBuf) -> Self {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let space = scratch.join("space");
        File::create(&space).unwrap().set_len(8 * MIB).unwrap();
        let (target, good) = (attach(&space), fs::read(&path).unwrap());
        let victim = Victim { scratch, target, path, file, good, damaged: 0 };
        victim.verify().expect_ok();
        victim.restore().expect_ok();
        victim
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

    /// Makes one byte another while `judge` looks.
    fn change(&mut self, at: usize, by: u8, judge: impl FnOnce(&mut Self, &str)) {
        let other = self.good[at] ^ by;
        self.file.write_all_at(&[other], at as u64).unwrap();
        let what = format!("byte {at} of {} was made {other:#x}", self.good.len());
        judge(self, &what);
        self.file.write_all_at(&[self.good[at]], at as u64).unwrap();
    }

    /// The places of `count` random bytes and of those at both ends.
    fn places(&self, count: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
        let len = self.good.len();
        let random = (0..count).map(|_| rng.usize(0..len)).collect::<Vec<_>>();
        random.into_iter().chain(0..EDGE_BYTES).chain(len - EDGE_BYTES..len).collect()
    }

    /// Cuts off its end: at random, and of some few bytes.
    fn truncate(&mut self, count: usize, rng: &mut fastrand::Rng) {
        for number in 0..count {
            let cut = rng.usize(1..if number < 4 { 30 } else { self.good.len() });
            let len = self.good.len() - cut;
            self.file.set_len(len as u64).unwrap();
            self.assert_found(&format!("{len} bytes of {} were left", self.good.len()));
            self.file.write_all_at(&self.good[len..], len as u64).unwrap();
        }
    }

    /// What the device holds after a restore, if it held the same noise before each.
    #[track_caller]
    fn restored(&self, what: &str) -> Vec<u8> {
        let mut noise = vec![0; 8 << 20];
        fastrand::Rng::with_seed(9).fill(&mut noise);
        overwrite(self.target.path(), 0, &noise);
        let outcome = self.restore();
        assert!(outcome.status.success(), "{what}: {outcome}");
        fs::read(self.target.path()).unwrap()
    }
}

/// A file of 8 MiB with an ext4, some of which can be compressed.
#[track_caller]
fn small_ext4(scratch: &TempDir) -> PathBuf {
    let (content, partition) = (scratch.join("content"), scratch.join("partition"));
    fs::create_dir(&content).unwrap();
    make(&content.join("noise"), 3, &[Part::Noise(150 * KIB)]);
    fs::write(content.join("text"), "the same words again and again\n".repeat(9000)).unwrap();
    File::create(&partition).unwrap().set_len(8 * MIB).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-d"]).arg(&content).arg(&partition));
    partition
}

#[track_caller]
fn assert_names_a_place(outcome: &Outcome, what: &str) {
    // A version that nobody knows may be one of later times.
    let is_named = matches!(outcome.status.code(), Some(18 | 16));
    assert!(is_named, "{what}: {outcome}");
    let errors = outcome.events("error");
    let [error] = &errors[..] else { panic!("{what}: {} errors", errors.len()) };
    assert!(error["location"]["offset"].is_u64(), "{what}: {error}");
}

fn damage_is_never_a_success(compression: &str, seed: u64) {
    let Some(mut victim) = Victim::make(compression) else { return };
    let mut rng = fastrand::Rng::with_seed(seed);
    for at in victim.places(CHANGES, &mut rng) {
        victim.change(at, rng.u8(1..), Victim::assert_found);
    }
    victim.truncate(TRUNCATIONS, &mut rng);
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

/// What no checksum of a format covers, such as the time in the header of gzip, changes nothing that is restored.
fn damage_to_a_stock_image_changes_nothing_unseen(compression: &str, program: &str) {
    let Some(mut victim) = Victim::make_stock(compression, program) else { return };
    let mut rng = fastrand::Rng::with_seed(5);
    let whole = victim.restored("nothing was changed");
    for at in victim.places(FEWER_CHANGES, &mut rng) {
        victim.change(at, rng.u8(1..), |victim, what| match victim.verify() {
            outcome if outcome.status.success() => {
                assert!(victim.restored(what) == whole, "{what}: it is restored as another");
            }
            outcome => assert_names_a_place(&outcome, what),
        });
    }
    victim.truncate(TRUNCATIONS, &mut rng);
    victim.verify().expect_ok();
}

#[test]
fn damage_to_what_partclone_and_pigz_made_is_found_or_does_no_harm() {
    damage_to_a_stock_image_changes_nothing_unseen("gz", "pigz -c");
}

#[test]
fn damage_to_what_partclone_and_zstd_made_is_found_or_does_no_harm() {
    damage_to_a_stock_image_changes_nothing_unseen("zst", "zstd -q -T0");
}

#[test]
fn damage_to_what_partclone_and_lz4_made_is_found_or_does_no_harm() {
    damage_to_a_stock_image_changes_nothing_unseen("lz4", "lz4 -q");
}

#[test]
fn damage_to_what_partclone_alone_made_is_found_or_does_no_harm() {
    damage_to_a_stock_image_changes_nothing_unseen("uncompressed", "cat");
}

#[test]
fn damage_to_a_compressed_image_of_raw_bytes_is_found_with_its_place() {
    for compression in ["gz", "zst", "lz4"] {
        let Some(mut victim) = Victim::make_raw(compression) else { return };
        let mut rng = fastrand::Rng::with_seed(7);
        for at in victim.places(FEWER_CHANGES, &mut rng) {
            victim.change(at, rng.u8(1..), Victim::assert_found);
        }
        victim.truncate(TRUNCATIONS, &mut rng);
        victim.verify().expect_ok();
    }
}

#[test]
fn of_raw_bytes_that_are_not_compressed_it_is_said_that_nothing_can_be_checked() {
    let Some(mut victim) = Victim::make_raw("uncompressed") else { return };
    victim.change(MIB as usize / 2, 1, |victim, _| {
        let outcome = victim.verify().expect_ok();
        let warnings = outcome.events("warning");
        let [warning] = &warnings[..] else { panic!("{outcome}") };
        assert!(warning["message"].as_str().unwrap().contains("has no checksums"), "{warning}");
    });
}
