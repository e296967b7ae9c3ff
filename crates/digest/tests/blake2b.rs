//! BLAKE2b of every kernel against the crate `blake2`.

mod messages;

use blake2::Digest as _;
use blake2::digest::consts::{U1, U20, U32, U63, U64};
use digest::Kernel;
use digest::blake2b::{Hasher, Lanes, hash};
use messages::{Numbered, Pieces, bytes, cuts, lengths};

fn judge(bytes: &[u8]) -> [u8; 64] {
    blake2::Blake2b::<U64>::digest(bytes).into()
}

/// Pushes all messages and compares each digest with that of the judge; each must come back once.
fn check(kernel: Kernel, messages: &[Pieces<'_>]) {
    let mut lanes = Lanes::with_kernel(kernel);
    let mut seen = vec![false; messages.len()];
    let mut done = |Numbered((number, pieces)): Numbered<'_>, digest: [u8; 64]| {
        let whole = pieces.concat();
        assert_eq!(digest, judge(&whole), "{kernel:?} {}", whole.len());
        assert!(!seen[number], "message {number} came twice");
        seen[number] = true;
    };
    for message in messages.iter().cloned().enumerate() {
        lanes.push(Numbered(message), &mut done);
    }
    lanes.finish(&mut done);
    assert!(lanes.is_empty());
    assert!(seen.iter().all(|seen| *seen), "a message was lost");
}

#[test]
fn the_known_answer_of_rfc_7693_comes_out() {
    let hex = hash::<64>(b"abc").map(|byte| format!("{byte:02x}")).concat();
    assert!(hex.starts_with("ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"));
}

#[test]
fn digests_of_other_lengths_are_those_of_blake2() {
    let source = bytes(300);
    for len in [0, 1, 127, 128, 129, 256, 300] {
        let bytes = &source[..len];
        assert_eq!(hash::<1>(bytes)[..], blake2::Blake2b::<U1>::digest(bytes)[..]);
        assert_eq!(hash::<20>(bytes)[..], blake2::Blake2b::<U20>::digest(bytes)[..]);
        assert_eq!(hash::<32>(bytes)[..], blake2::Blake2b::<U32>::digest(bytes)[..]);
        assert_eq!(hash::<63>(bytes)[..], blake2::Blake2b::<U63>::digest(bytes)[..]);
        for kernel in Kernel::available() {
            let mut lanes = Lanes::<&[u8], 32>::with_kernel(kernel);
            let mut done = |message: &[u8], digest: [u8; 32]| {
                assert_eq!(digest[..], blake2::Blake2b::<U32>::digest(message)[..]);
            };
            for number in 0..11 {
                lanes.push(&bytes[len.min(number)..], &mut done);
            }
            lanes.finish(&mut done);
        }
    }
}

#[test]
fn every_length_up_to_1024_gives_the_digest_of_blake2() {
    let source = bytes(2048);
    for kernel in Kernel::available() {
        // Each begins elsewhere, so that most are not aligned.
        let messages: Vec<_> = (0..=1024).map(|len| vec![&source[1024 - len..][..len]]).collect();
        check(kernel, &messages);
        for message in messages {
            let mut hasher = Hasher::with_kernel(kernel);
            hasher.update(message[0]);
            assert_eq!(hasher.finish(), judge(message[0]), "{}", message[0].len());
        }
    }
}

#[test]
fn lanes_of_unequal_random_lengths_give_the_digests_of_blake2() {
    let source = bytes(300 << 10);
    for kernel in Kernel::available() {
        for count in (0..20).chain([50]) {
            let messages: Vec<_> = lengths(count, if count < 50 { 2000 } else { source.len() })
                .into_iter()
                .map(|len| vec![&source[fastrand::usize(0..=source.len() - len)..][..len]])
                .collect();
            check(kernel, &messages);
        }
    }
}

#[test]
fn the_cuts_of_a_message_do_not_matter() {
    let source = bytes(20_000);
    for kernel in Kernel::available() {
        let messages: Vec<_> = lengths(150, source.len())
            .into_iter()
            .enumerate()
            .map(|(number, len)| cuts(&source[..len], [3, 20, 150, 1000, 9000][number % 5]))
            .collect();
        check(kernel, &messages);
        for pieces in messages {
            let mut hasher = Hasher::with_kernel(kernel);
            for piece in &pieces {
                hasher.update(piece);
            }
            assert_eq!(hasher.finish(), judge(&pieces.concat()));
        }
    }
}
