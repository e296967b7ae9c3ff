//! Each kernel against the literal definition.

use super::*;

const DIVISORS: [u32; 14] =
    [1, 2, 3, 48, 192, 768, 3075, 49_535, 61_440, 65_536, 99_777, 1 << 20, 5_721_670, 134_217_728];

/// Behind 43 zeros, these give the hash `u32::MAX`.
const LARGEST: [u8; 5] = [1, 37, 91, 187, 62];

/// The hash of each position from the 48th on, with a ring of 48 bytes.
fn literal_hashes(bytes: &[u8]) -> Vec<u32> {
    let Some(mut ring) = bytes.first_chunk::<WINDOW_BYTES>().copied() else { return Vec::new() };
    let mut hash = window_hash(&ring);
    let mut hashes = vec![hash];
    for (at, &entering) in bytes[WINDOW_BYTES..].iter().enumerate() {
        let leaving = std::mem::replace(&mut ring[at % WINDOW_BYTES], entering);
        hash = hash.rotate_left(1)
            ^ TABLE[usize::from(leaving)].rotate_left(48 % 32)
            ^ TABLE[usize::from(entering)];
        hashes.push(hash);
    }
    hashes
}

fn literal_candidates(divisor: u32, hashes: &[u32]) -> Vec<u32> {
    let is_candidate = |at: &usize| hashes[*at] % divisor == divisor - 1;
    (0..hashes.len()).filter(is_candidate).map(|at| (at + WINDOW_BYTES) as u32).collect()
}

/// Every kernel that this processor has finds what the definition says.
#[track_caller]
fn all_kernels_agree(bytes: &[u8], divisors: &[u32]) {
    let hashes = literal_hashes(bytes);
    for &divisor in divisors {
        let expected = literal_candidates(divisor, &hashes);
        for kernel in Kernel::available() {
            let mut found = Vec::new();
            Candidates::with_kernel(divisor, kernel).find(bytes, &mut found);
            let (name, len) = (kernel.name(), bytes.len());
            assert!(found == expected, "{name}, divisor {divisor}, {len} bytes");
        }
    }
}

fn random_bytes(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

/// Data of different kinds: noise, runs, repeated patterns, text, islands in zeros.
fn some_bytes(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    match random.u32(0..6) {
        0 => vec![random.u8(..); len],
        1 => {
            let period = random.usize(1..200);
            let pattern = random_bytes(random, period);
            pattern.into_iter().cycle().take(len).collect()
        }
        2 => (0..).flat_map(|line| format!("{line:08}\n").into_bytes()).take(len).collect(),
        3 => {
            let mut bytes = vec![0; len];
            for _ in 0..len / 500 {
                bytes[random.usize(0..len)] = random.u8(..);
            }
            bytes
        }
        _ => random_bytes(random, len),
    }
}

#[test]
fn known_windows_have_the_known_hashes() {
    assert_eq!(window_hash(&[0; 48]), 0x9e48_9e48);
    assert_eq!(window_hash(&[0xff; 48]), 0xfdc4_023b);
    assert_eq!(window_hash(&std::array::from_fn(|at| at as u8)), 0x6b67_dec6);
    assert_eq!(window_hash(&std::array::from_fn(|at| at as u8 + 1)), 0xa3fc_25f1);
}

#[test]
fn rolling_on_gives_the_hash_of_the_window() {
    let bytes = random_bytes(&mut fastrand::Rng::with_seed(1), 2000);
    let windows = bytes.windows(WINDOW_BYTES).map(|window| window.first_chunk().expect("48 bytes"));
    assert_eq!(literal_hashes(&bytes), windows.map(window_hash).collect::<Vec<_>>());
}

#[test]
fn every_kernel_finds_the_candidates_of_the_definition_in_every_kind_of_data() {
    let random = &mut fastrand::Rng::with_seed(2);
    let len = 40_000;
    all_kernels_agree(&random_bytes(random, len), &DIVISORS);
    all_kernels_agree(&vec![0; len], &DIVISORS);
    all_kernels_agree(&vec![0xff; len], &DIVISORS);
    for _ in 0..20 {
        all_kernels_agree(&some_bytes(random, len), &DIVISORS);
    }
}

#[test]
fn every_kernel_finds_the_candidates_of_short_inputs() {
    let random = &mut fastrand::Rng::with_seed(3);
    let bytes = random_bytes(random, 300);
    for len in 0..=bytes.len() {
        all_kernels_agree(&bytes[..len], &[1, 2, 3, 48, 49_535]);
    }
}

#[test]
fn every_kernel_finds_the_candidates_of_lengths_around_its_strides() {
    let random = &mut fastrand::Rng::with_seed(4);
    let bytes = random_bytes(random, 3 * 4096 + 200);
    for stride in [64, 128, 256, 512, 1024, 2048, 4096, 8192, 12_288] {
        for len in stride - 2..=stride + 66 {
            all_kernels_agree(&bytes[..len], &[1, 192]);
        }
    }
}

#[test]
fn every_kernel_finds_the_candidates_at_every_alignment() {
    let random = &mut fastrand::Rng::with_seed(5);
    let bytes = random_bytes(random, 9000);
    for skipped in 0..=64 {
        all_kernels_agree(&bytes[skipped..], &[1, 2, 192, 768]);
    }
}

#[test]
fn every_kernel_finds_the_candidates_of_random_lengths_and_divisors() {
    let random = &mut fastrand::Rng::with_seed(6);
    for round in 0..60 {
        let longest = if round % 10 == 0 { 2 << 20 } else { 50_000 };
        let len = random.usize(0..=longest);
        let bytes = some_bytes(random, len);
        let skipped = random.usize(0..=len.min(64));
        let any = random.u32(1..) >> random.u32(0..32);
        all_kernels_agree(&bytes[skipped..], &[any.max(1), random.u32(1..=200), 49_535, 61_440]);
    }
}

#[test]
fn the_largest_hash_is_a_candidate_for_powers_of_two_only_wherever_it_lies() {
    let mut window = [0; WINDOW_BYTES];
    window[43..].copy_from_slice(&LARGEST);
    assert_eq!(window_hash(&window), u32::MAX);
    for at in 4000..4300 {
        let mut bytes = vec![0; 9000];
        bytes[at..at + WINDOW_BYTES].copy_from_slice(&window);
        all_kernels_agree(&bytes, &[3, 49_535, 61_440, 65_536, 1 << 31, u32::MAX]);
    }
}

#[test]
fn candidates_are_added_to_those_that_are_there() {
    for kernel in Kernel::available() {
        let mut found = vec![7];
        Candidates::with_kernel(1, kernel).find(&[0; 50], &mut found);
        assert_eq!(found, [7, 48, 49, 50]);
    }
}

#[test]
fn a_run_of_one_byte_has_candidates_everywhere_or_nowhere() {
    for byte in 0..=255 {
        let run = [byte; 200];
        let everywhere = window_hash(run.first_chunk().expect("long enough"));
        for divisor in [1, 2, 3, 5, 48, 49_535, everywhere.wrapping_add(1).max(1)] {
            let candidates = Candidates::new(divisor);
            let mut found = Vec::new();
            candidates.find(&run, &mut found);
            let expected = if candidates.constant_passes(byte) { 200 - 47 } else { 0 };
            assert_eq!(found.len(), expected, "{byte}, divisor {divisor}");
        }
        assert!(Candidates::new(everywhere.wrapping_add(1).max(1)).constant_passes(byte));
        assert!(!Candidates::new(49_535).constant_passes(byte));
    }
}

#[test]
fn every_kernel_gives_the_cuts_that_casync_makes() {
    let bytes = splitmix64(1, 4096);
    let (min, max, divisor) = (64, 1024, 192);
    for kernel in Kernel::available() {
        let mut candidates = Vec::new();
        Candidates::with_kernel(divisor, kernel).find(&bytes, &mut candidates);
        let mut lengths = Vec::new();
        let mut start = 0;
        while start < bytes.len() {
            let longest = bytes.len().min(start + max);
            let is_end = |end: &usize| (start + min..=longest).contains(end);
            let end = candidates.iter().map(|end| *end as usize).find(is_end).unwrap_or(longest);
            lengths.push(end - start);
            start = end;
        }
        let known = [
            200, 364, 106, 141, 213, 82, 172, 228, 147, 157, 383, 203, 103, 83, 529, 84, 368, 363,
            170,
        ];
        assert_eq!(lengths, known, "{}", kernel.name());
    }
}

#[test]
#[should_panic(expected = "a divisor of zero")]
fn a_divisor_of_zero_is_refused() {
    Candidates::new(0);
}

fn splitmix64(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    });
    words.flat_map(u64::to_le_bytes).take(len).collect()
}
