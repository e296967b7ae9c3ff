//! SHA-512/256 and SHA-256 of every kernel against the crate `sha2`.

mod messages;

use digest::{Algorithm, Hasher, Kernel, Lanes};
use messages::{Pieces, bytes, cuts, lengths};
use sha2::Digest as _;

fn judge(algorithm: Algorithm, bytes: &[u8]) -> [u8; 32] {
    match algorithm {
        Algorithm::Sha512_256 => sha2::Sha512_256::digest(bytes).into(),
        Algorithm::Sha256 => sha2::Sha256::digest(bytes).into(),
    }
}

fn each(test: impl Fn(Algorithm, Kernel)) {
    for algorithm in [Algorithm::Sha512_256, Algorithm::Sha256] {
        for kernel in Kernel::available() {
            test(algorithm, kernel);
        }
    }
}

/// Pushes all messages and compares each digest with that of the judge; each must come back once.
fn check(algorithm: Algorithm, kernel: Kernel, messages: &[Pieces<'_>]) {
    let mut lanes = Lanes::with_kernel(algorithm, kernel);
    let mut seen = vec![false; messages.len()];
    let mut done = |message: (usize, Pieces<'_>), digest| {
        let (number, pieces) = message;
        let whole = pieces.concat();
        assert_eq!(digest, judge(algorithm, &whole), "{kernel:?} {algorithm:?} {}", whole.len());
        assert!(!seen[number], "message {number} came twice");
        seen[number] = true;
    };
    for message in messages.iter().cloned().enumerate() {
        lanes.push(messages::Numbered(message), &mut |message, digest| done(message.0, digest));
    }
    lanes.finish(&mut |message, digest| done(message.0, digest));
    assert!(lanes.is_empty());
    assert!(seen.iter().all(|seen| *seen), "a message was lost");
}

#[test]
fn the_known_answers_come_out() {
    let empty = "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a";
    let zeroes = "1c8109946feed9f9e9fe4b5144d90f05a50fb3275e848cb72f4b9546d8c533f2";
    let hex = |digest: [u8; 32]| digest.map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(hex(Algorithm::Sha512_256.digest(&[])), empty);
    assert_eq!(hex(Algorithm::Sha512_256.digest(&[0; 262_144])), zeroes);
    each(|algorithm, kernel| {
        if algorithm == Algorithm::Sha512_256 {
            let mut lanes = Lanes::with_kernel(algorithm, kernel);
            let mut done = |message: Vec<u8>, digest| {
                assert_eq!(hex(digest), if message.is_empty() { empty } else { zeroes });
            };
            for _ in 0..9 {
                lanes.push(vec![], &mut done);
                lanes.push(vec![0; 262_144], &mut done);
            }
            lanes.finish(&mut done);
        }
    });
}

#[test]
fn every_length_up_to_1024_gives_the_digest_of_sha2_in_lanes() {
    let source = bytes(1024 + 1024);
    each(|algorithm, kernel| {
        // Each begins elsewhere, so that most are not aligned.
        let messages: Vec<_> = (0..=1024).map(|len| vec![&source[1024 - len..][..len]]).collect();
        check(algorithm, kernel, &messages);
    });
}

#[test]
fn every_length_up_to_1024_gives_the_digest_of_sha2_alone() {
    let source = bytes(1024);
    each(|algorithm, kernel| {
        for len in 0..=1024 {
            let mut hasher = Hasher::with_kernel(algorithm, kernel);
            hasher.update(&source[1024 - len..]);
            assert_eq!(hasher.finish(), judge(algorithm, &source[1024 - len..]), "{len}");
        }
    });
}

#[test]
fn lanes_of_unequal_random_lengths_give_the_digests_of_sha2() {
    let source = bytes(300 << 10);
    each(|algorithm, kernel| {
        let messages: Vec<_> = lengths(40, source.len())
            .into_iter()
            .map(|len| vec![&source[fastrand::usize(0..=source.len() - len)..][..len]])
            .collect();
        check(algorithm, kernel, &messages);
    });
}

#[test]
fn any_number_of_messages_is_finished() {
    let source = bytes(2000);
    each(|algorithm, kernel| {
        for count in 0..=37 {
            let messages: Vec<_> =
                lengths(count, source.len()).into_iter().map(|len| vec![&source[..len]]).collect();
            check(algorithm, kernel, &messages);
        }
    });
}

#[test]
fn the_cuts_of_a_message_do_not_matter() {
    let source = bytes(20_000);
    each(|algorithm, kernel| {
        let messages: Vec<_> = lengths(150, source.len())
            .into_iter()
            .enumerate()
            .map(|(number, len)| cuts(&source[..len], [3, 20, 150, 1000, 9000][number % 5]))
            .collect();
        check(algorithm, kernel, &messages);
        for pieces in messages {
            let mut hasher = Hasher::with_kernel(algorithm, kernel);
            for piece in &pieces {
                hasher.update(piece);
            }
            assert_eq!(hasher.finish(), judge(algorithm, &pieces.concat()));
        }
    });
}

#[test]
fn lanes_can_be_used_again_after_they_were_finished() {
    let source = bytes(5000);
    each(|algorithm, kernel| {
        let mut lanes = Lanes::with_kernel(algorithm, kernel);
        let mut count = 0;
        let mut done = |message: &[u8], digest| {
            assert_eq!(digest, judge(algorithm, message));
            count += 1;
        };
        for round in 0..5 {
            for number in 0..round * 7 {
                lanes.push(&source[number..number * 100 + round], &mut done);
            }
            lanes.finish(&mut done);
            assert_eq!(lanes.len(), 0);
        }
        assert_eq!(count, 7 + 14 + 21 + 28);
    });
}

#[test]
fn a_message_that_changes_is_refused() {
    struct Fickle(std::cell::Cell<usize>);
    impl digest::Message for Fickle {
        fn piece(&self, number: usize) -> Option<&[u8]> {
            self.0.set(self.0.get() + 1);
            (number == 0).then_some(if self.0.get() < 3 { &[1; 1000] } else { &[1; 10] })
        }
    }
    each(|algorithm, kernel| {
        let outcome = std::panic::catch_unwind(|| {
            let mut lanes = Lanes::with_kernel(algorithm, kernel);
            lanes.push(Fickle(Default::default()), &mut |_, _| ());
            lanes.finish(&mut |_, _| ());
        });
        assert!(outcome.is_err());
    });
}

#[test]
fn a_kernel_that_the_processor_lacks_is_refused() {
    let available = Kernel::available();
    for kernel in [Kernel::Portable, Kernel::Avx2, Kernel::Avx512] {
        for algorithm in [Algorithm::Sha512_256, Algorithm::Sha256] {
            let lanes =
                std::panic::catch_unwind(|| Lanes::<Vec<u8>>::with_kernel(algorithm, kernel));
            assert_eq!(lanes.is_ok(), available.contains(&kernel), "{kernel:?}");
        }
    }
}
