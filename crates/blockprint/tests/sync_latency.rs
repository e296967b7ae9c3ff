//! A slow line between two machines: how many round trips a sync takes, and how much goes over the wire.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use testkit::host::{Needs, SshStandIn, TempDir, require, run, tool};

use crate::far::{programs_in, result};
use crate::judges::quick_folder;
use crate::support::{MIB, assert_same, blockprint};

const BLOCK_BYTES: u64 = 128 << 10;

/// Makes an image of `size_bytes`, every other MiB of it data that can be compressed somewhat, the rest holes.
fn make_image(path: &Path, size_bytes: u64) {
    let file = File::create(path).unwrap();
    let mut random = fastrand::Rng::with_seed(31);
    for at in (0..size_bytes).step_by(2 * MIB as usize) {
        file.write_all_at(&words(&mut random, MIB as usize), at).unwrap();
    }
    file.set_len(size_bytes).unwrap();
}

/// Something like text: random syllables.
fn words(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        let number = random.u64(..);
        bytes.extend(number.to_le_bytes().map(|byte| b"etaoin shrdlu,cm"[usize::from(byte & 15)]));
    }
    bytes.truncate(len);
    bytes
}

/// Changes one in a hundred of the blocks, and gives what stands there now.
fn change(path: &Path, size_bytes: u64) -> Vec<u8> {
    let file = File::options().write(true).open(path).unwrap();
    let mut random = fastrand::Rng::with_seed(32);
    let blocks = size_bytes / BLOCK_BYTES;
    let mut changed = std::collections::BTreeSet::new();
    while changed.len() < (blocks / 100) as usize {
        changed.insert(random.u64(0..blocks));
    }
    let mut all = Vec::new();
    for block in changed {
        let bytes = words(&mut random, BLOCK_BYTES as usize);
        file.write_all_at(&bytes, block * BLOCK_BYTES).unwrap();
        all.extend(bytes);
    }
    all
}

/// What zstd's own program makes of it at its lowest level, each MiB by itself.
fn packed_by_zstd(scratch: &TempDir, bytes: &[u8]) -> u64 {
    let (plain, packed) = (scratch.join("plain"), scratch.join("packed"));
    let mut sum = 0;
    for piece in bytes.chunks(MIB as usize) {
        fs::write(&plain, piece).unwrap();
        run(tool("zstd").args(["-1", "-q", "-f", "-o"]).arg(&packed).arg(&plain));
        sum += fs::metadata(&packed).unwrap().len();
    }
    sum
}

#[test]
fn one_percent_of_a_gibibyte_takes_a_dozen_round_trips_and_little_more_than_what_changed() {
    const DELAY: Duration = Duration::from_millis(50);
    const ROUND_TRIPS_MAX: u32 = 12;
    let Some(small) = require(&Needs::none().tools(&["zstd", "mkfifo"])) else { return };
    let scratch = quick_folder("latency");
    let in_memory = !scratch.path().starts_with("/tmp");
    let size_bytes = if in_memory { 1 << 30 } else { 256 * MIB };
    let bin = programs_in(&small, &["blockprint"]);
    let (source, old, target) =
        (scratch.join("source"), scratch.join("old"), scratch.join("target"));
    make_image(&source, size_bytes);
    run(tool("cp").arg("--sparse=always").arg(&source).arg(&old));
    let changed = change(&source, size_bytes);

    let sync = |delay: Duration| {
        run(tool("cp").arg("--sparse=always").arg(&old).arg(&target));
        let stand_in = SshStandIn::delayed(delay);
        let place = format!("far:{}", target.display());
        let program = blockprint(&small).env("PATH", stand_in.search_path(&[&bin]));
        let program = program.args(["sync", "--json"]).arg(&source).arg(place);
        let outcome = program.run();
        let elapsed = outcome.elapsed;
        let result = result(outcome);
        assert_same(&source, &target);
        assert_eq!(result["way"], "native");
        let (there, back) = stand_in.carried_bytes();
        assert_eq!(result["sent_bytes"], there);
        assert_eq!(result["received_bytes"], back);
        (elapsed, there + back)
    };
    // The quickest of some each: other tests run at the same time.
    const ROUNDS: std::ops::Range<u32> = 2..5;
    // What starting a few processes may differ by.
    let slack = Duration::from_secs(1);
    let round_trip = 2 * DELAY;
    let (mut quick, mut slow, mut wire_bytes) = (Duration::MAX, Duration::MAX, 0);
    for round in 0..ROUNDS.end {
        quick = quick.min(sync(Duration::ZERO).0);
        let (elapsed, bytes) = sync(DELAY);
        (slow, wire_bytes) = (slow.min(elapsed), wire_bytes.max(bytes));
        if round >= ROUNDS.start && slow <= quick + ROUND_TRIPS_MAX * round_trip {
            break;
        }
    }
    let late = slow.saturating_sub(quick);
    let packed = packed_by_zstd(&small, &changed);
    let wire_bytes_max = packed * 11 / 10 + 64 * (size_bytes / MIB);
    eprintln!(
        "{} MiB, {} blocks of 128 KiB changed, {} ms each direction: {:.2} s, without delay {:.2} s: \
         {:.1} round trips ({ROUND_TRIPS_MAX} allowed); {wire_bytes} bytes on the wire ({wire_bytes_max} allowed, \
         {packed} what changed after zstd -1)",
        size_bytes / MIB,
        changed.len() as u64 / BLOCK_BYTES,
        DELAY.as_millis(),
        slow.as_secs_f64(),
        quick.as_secs_f64(),
        late.as_secs_f64() / round_trip.as_secs_f64(),
    );
    assert!(wire_bytes <= wire_bytes_max, "{wire_bytes} > {wire_bytes_max}");
    assert!(late <= ROUND_TRIPS_MAX * round_trip + slack, "{late:?}");
}
