//! Peers that lie, images that fail or change, and connections that end.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use fastrand::Rng;
use image::layers::{Fault, Faulty};
use image::{Error, ErrorKind, Extent, Image, Medium, Result, Task};
use sync::diskrsync::How;

use super::pairs::both;
use super::support::{
    Cut, HeldTarget, content, held, how, image_of_rule, json, recorded, replay_source,
    replay_target, vector,
};

const LOCAL_BYTES: usize = 1000;

fn local() -> Vec<u8> {
    let mut bytes = vec![0; LOCAL_BYTES];
    Rng::with_seed(9).fill(&mut bytes);
    bytes
}

fn header(size: i64) -> Vec<u8> {
    [&b"BSNC0002"[..], &size.to_le_bytes()].concat()
}

/// What our target says to a source that sends `bytes` and ends, and the common part of what it holds then.
#[track_caller]
fn target_says(bytes: &[u8]) -> (Error, Vec<u8>) {
    let mut target = HeldTarget::new(held(&local()));
    let error = replay_target(&mut target, bytes, Cut::Whole, 1).0.expect_err("it was a lie");
    assert!(!target.is_finished, "finished, though {error:?}");
    assert!(error.location().is_some(), "{error:?}");
    let mut kept = vec![0; LOCAL_BYTES];
    target.image.read_at(&mut kept, 0).unwrap();
    assert!(target.image.size() < 2000, "{} bytes were left behind", target.image.size());
    (error, kept)
}

#[track_caller]
fn check(bytes: &[u8], kind: ErrorKind, sentence: &str) {
    let (error, kept) = target_says(bytes);
    assert_eq!(error.to_string(), sentence);
    assert_eq!(error.kind(), kind, "{sentence}");
    assert!(kept == local(), "{sentence}: something was written");
}

fn hole(len: i64) -> Vec<u8> {
    [&[0][..], &len.to_le_bytes()].concat()
}

/// A source of 1500 bytes that finds the first 1000 equal, and goes on with `tail`.
fn growing(tail: &[u8]) -> Vec<u8> {
    [&header(1500)[..], &[2], tail].concat()
}

#[test]
fn a_source_that_is_none_is_refused_before_anything_is_begun() {
    use ErrorKind::{Damaged, Io, Unsupported};
    let old_magic = [&b"BSNC0001"[..], &[0; 8]].concat();
    let rows: [(&[u8], ErrorKind, &str); 5] = [
        (
            &old_magic,
            Unsupported,
            "the source speaks the protocol BSNC0001 of 2016, which is another one: diskrsync 1.1.0 or newer is needed there",
        ),
        (
            b"bash: diskrsync: not found\n",
            Damaged,
            "the source does not speak diskrsync's protocol: it began with \"bash: di\", not with \"BSNC0002\"",
        ),
        (b"", Io, "the source ended the connection within its header, after 0 of 16 bytes"),
        (b"BSNC00", Io, "the source ended the connection within its header, after 6 of 16 bytes"),
        (&header(-1), Damaged, "the source said that its image has -1 bytes, less than none"),
    ];
    for (bytes, kind, sentence) in rows {
        check(bytes, kind, sentence);
        let mut target = HeldTarget::new(held(&local()));
        replay_target(&mut target, bytes, Cut::Whole, 1).0.unwrap_err();
        assert_eq!(target.begun, None, "{sentence}");
    }
}

#[test]
fn a_source_that_does_not_send_what_it_announced_is_found_out() {
    use ErrorKind::{Damaged, Io};
    for reply in [1, 4, 7, 255] {
        let bytes = [&header(1000)[..], &[reply]].concat();
        let sentence = format!(
            "the source sent reply {reply} for the leaf at 0..1000; 0, 2 or 3 are possible"
        );
        check(&bytes, Damaged, &sentence);
    }
    let half = [&header(1000)[..], &[3], &[0xAA; 500]].concat();
    let sentence =
        "the source ended the connection after 500 bytes of the data of the leaf at 0..1000";
    check(&half, Io, sentence);

    let rows: [(Vec<u8>, ErrorKind, &str); 11] = [
        (
            growing(&[]),
            Io,
            "ended the connection at offset 1000 of the 1500 bytes that it had announced",
        ),
        (
            growing(&[&[1][..], &[5; 100]].concat()),
            Io,
            "ended the connection after 100 bytes of the block at 1000..1500",
        ),
        (
            growing(&[&[1][..], &[5; 5000]].concat()),
            Damaged,
            "sent more than the 1500 bytes that it had announced",
        ),
        (
            growing(&[hole(-900), vec![1], vec![5; 50]].concat()),
            Damaged,
            "sent a run of -900 zeroes at offset 1000; 1 to 500 are possible",
        ),
        (
            growing(&hole(7)),
            Io,
            "ended the connection at offset 1007 of the 1500 bytes that it had announced",
        ),
        (
            growing(&hole(1 << 40)),
            Damaged,
            "sent a run of 1099511627776 zeroes at offset 1000; 1 to 500 are possible",
        ),
        (
            growing(&hole(0)),
            Damaged,
            "sent a run of 0 zeroes at offset 1000; 1 to 500 are possible",
        ),
        (growing(&[2]), Damaged, "sent record 2 at offset 1000; 0 or 1 are possible"),
        (growing(&[3]), Damaged, "sent record 3 at offset 1000; 0 or 1 are possible"),
        (
            growing(&[0, 1, 2, 3]),
            Io,
            "ended the connection after 3 of the 8 bytes that say how long the zeroes at 1000 are",
        ),
        (
            growing(&[hole(500), vec![2]].concat()),
            Damaged,
            "sent more than the 1500 bytes that it had announced",
        ),
    ];
    for (bytes, kind, sentence) in rows {
        check(&bytes, kind, &format!("the source {sentence}"));
    }
}

#[test]
fn the_largest_size_there_can_be_is_no_reason_to_take_memory() {
    let mut bytes = header(i64::MAX);
    bytes.push(2);
    let (error, _) = target_says(&bytes);
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    let (result, sent) =
        replay_source(&held(&local()), &[header(i64::MAX), vec![7; 64]].concat(), Cut::Whole, 1);
    assert_eq!(result.unwrap().compared_bytes, 1000);
    assert_eq!(sent.len(), 16 + 1 + 1000);
}

#[test]
fn a_target_that_lies_is_found_out() {
    let says = |bytes: &[u8]| {
        let (result, _) = replay_source(&held(&local()), bytes, Cut::Whole, 1);
        let error = result.expect_err("it was a lie");
        (error.kind(), error.to_string())
    };
    let sentence = "the target said that its image has -5 bytes, less than none";
    assert_eq!(says(&header(-5)), (ErrorKind::Damaged, sentence.into()));
    let sentence = "the target ended the connection after 0 digests and 63 of the 64 bytes of that of the leaf at 0..1000";
    let bytes = [header(1000), vec![1; 63]].concat();
    assert_eq!(says(&bytes), (ErrorKind::Io, sentence.into()));
}

#[test]
fn bytes_behind_the_end_are_ignored_where_nothing_is_due() {
    let mut target = HeldTarget::new(held(&local()));
    let bytes = [&header(1000)[..], &[2], b"goodbye"].concat();
    replay_target(&mut target, &bytes, Cut::Whole, 1).0.unwrap();
    assert!(target.is_finished);
    let bytes = [header(0), vec![1; 64]].concat();
    replay_source(&held(&[]), &bytes, Cut::Whole, 1).0.unwrap();
}

#[test]
fn what_came_of_a_tail_that_ends_early_is_kept() {
    let source: Vec<u8> = (0..700_000_u32).map(|at| (at / 5) as u8).collect();
    let (_, stream) = replay_source(&held(&source), &header(0), Cut::Whole, 1);
    for (came, kept) in [(16, 0), (16 + 1 + 131_071, 0), (600_000, 4 * 131_072)] {
        let mut target = HeldTarget::new(held(&[]));
        replay_target(&mut target, &stream[..came], Cut::Odd, 2).0.unwrap_err();
        assert!(content(&target.image) == source[..kept], "{came}");
    }
    // The write that fails is not the last one.
    let source = vec![3; 9 << 20];
    let fault = Fault::Unwritable(5 << 20..(5 << 20) + 1);
    let mut target = HeldTarget::new(Faulty::new(held(&[]), [fault]));
    let (_, stream) = replay_source(&held(&source), &header(0), Cut::Whole, 1);
    let error = replay_target(&mut target, &stream, Cut::Whole, 2).0.unwrap_err();
    assert_eq!(error.location().unwrap().name, "the faulty image");
    assert!(content(&target.image) == source[..5 << 20]);
}

/// Where a stream may be cut: everywhere near its ends, and here and there between.
fn cuts(len: usize) -> impl Iterator<Item = usize> {
    let mut rng = Rng::with_seed(len as u64);
    let between: Vec<usize> = (0..40).map(|_| rng.usize(0..len)).collect();
    (0..len.min(60)).chain(len.saturating_sub(60)..len).chain(between)
}

#[test]
fn a_stream_that_ends_early_is_an_error_wherever_it_ends() {
    let cases = json("cases.json");
    let names = ["grow-mixed-tail", "data-and-hole", "shrink-with-change", "empty-target"];
    for name in names {
        let cases = cases["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        let source = image_of_rule(&case["source"]);
        let stream = vector(&format!("{name}.s2t"));
        for cut in cuts(stream.len()) {
            let mut target = HeldTarget::new(image_of_rule(&case["target"]));
            let result = replay_target(&mut target, &stream[..cut], Cut::Whole, 1).0;
            let error = result.expect_err("it was cut");
            assert_eq!(error.kind(), ErrorKind::Io, "{name} at {cut}: {error:?}");
            assert!(error.to_string().contains("ended the connection"), "{error:?}");
            assert!(!target.is_finished, "{name} at {cut}");
        }
        let stream = vector(&format!("{name}.t2s"));
        for cut in cuts(stream.len()) {
            let error = replay_source(&source, &stream[..cut], Cut::Whole, 1).0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io, "{name} at {cut}: {error:?}");
            assert!(error.to_string().contains("ended the connection"), "{error:?}");
        }
    }
}

/// Each byte, with values that mean something somewhere.
#[test]
fn garbage_for_a_message_is_named_or_makes_another_valid_stream() {
    let cases = json("cases.json");
    for name in ["all-zero", "grow-zero-tail", "both-empty", "identical"] {
        let cases = cases["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"] == name).unwrap();
        let old = content(&image_of_rule(&case["target"]));
        let source = image_of_rule(&case["source"]);
        for (stream, is_source) in [("s2t", true), ("t2s", false)] {
            let stream = vector(&format!("{name}.{stream}"));
            for (at, value) in positions(stream.len().min(80)) {
                let mut stream = stream.clone();
                if std::mem::replace(&mut stream[at], value) == value {
                    continue;
                }
                let name = format!("{name}: {value} at {at}");
                if is_source {
                    check_target_with(&stream, &old, &name);
                } else if let Err(error) = replay_source(&source, &stream, Cut::Whole, 1).0 {
                    check_is_named(&error, &name);
                }
            }
        }
    }
}

fn positions(len: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..len).flat_map(|at| [0, 1, 2, 3, 4, 0x80, 0xFF].map(|value| (at, value)))
}

/// The target holds what the stream said, or says what is wrong with it.
fn check_target_with(stream: &[u8], old: &[u8], name: &str) {
    let mut target = HeldTarget::new(held(old));
    match replay_target(&mut target, stream, Cut::Whole, 1).0 {
        Ok(_) => {
            let size = i64::from_le_bytes(stream[8..16].try_into().unwrap());
            assert_eq!(target.image.size(), size as u64, "{name}");
            assert!(target.is_finished, "{name}");
            assert!(stream[16..].iter().all(|byte| !matches!(byte, 4 | 255)), "{name}");
        }
        Err(error) => {
            check_is_named(&error, name);
            assert!(!target.is_finished, "{name}");
        }
    }
}

fn check_is_named(error: &Error, name: &str) {
    let kinds = [ErrorKind::Damaged, ErrorKind::Io, ErrorKind::Unsupported];
    assert!(kinds.contains(&error.kind()) && error.location().is_some(), "{name}: {error:?}");
}

#[test]
fn a_source_that_becomes_shorter_is_noticed_in_the_tree_and_in_the_tail() {
    for (old, cut) in [(vec![0; 300_000], 200_000), (vec![], 200_000)] {
        let image = held(&[1; 300_000]);
        image.medium().set_len(cut).unwrap();
        let mut target = HeldTarget::new(held(&old));
        let (sent, applied) = both(&image, &mut target, 4096, 2);
        assert_eq!(sent.unwrap_err().kind(), ErrorKind::Changed);
        assert_eq!(applied.unwrap_err().kind(), ErrorKind::Io);
        assert!(!target.is_finished);
    }
}

/// An image of which a byte changes after so many bytes were read.
struct Fickle<I> {
    image: I,
    left_bytes: AtomicU64,
    place: u64,
}

impl<I: Image> Image for Fickle<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset)?;
        let len = buf.len() as u64;
        let before = self.left_bytes.load(Ordering::Relaxed);
        self.left_bytes.store(before.saturating_sub(len), Ordering::Relaxed);
        if before == 0 && (offset..offset + len).contains(&self.place) {
            buf[(self.place - offset) as usize] ^= 0x55;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent::new(offset..self.size(), image::ExtentKind::Data))
    }
}

#[test]
fn a_source_that_is_written_to_after_its_digests_were_taken_is_noticed() {
    let mut bytes = vec![1; 600_000];
    bytes[450_000..].fill(0);
    // Leaves of 150,000 bytes: data, and zeroes.
    for (place, leaf) in [(150_001, 150_000..300_000), (599_999, 450_000..600_000)] {
        let image = Fickle { image: held(&bytes), left_bytes: AtomicU64::new(600_000), place };
        let mut target = HeldTarget::new(held(&[2; 600_000]));
        let (sent, applied) = both(&image, &mut target, 65_536, 1);
        let error = sent.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Changed, "{error:?}");
        let range: Option<Range<u64>> = error.location().unwrap().range.clone();
        assert_eq!(range, Some(leaf));
        applied.unwrap_err();
        assert!(!target.is_finished);
    }
}

#[test]
fn a_target_is_not_finished_when_the_source_finds_in_the_end_that_it_was_written_to() {
    let changed = || Err(Error::new(ErrorKind::Changed, "it was written to"));
    for (bytes, old) in [(vec![1; 300_000], vec![]), (vec![1; 300_000], vec![1; 300_000])] {
        let (here, there) = sync::wire::pair(4096);
        let mut target = HeldTarget::new(held(&old));
        let (sent, applied) = std::thread::scope(|scope| {
            let image = held(&bytes);
            let source = scope.spawn(move || {
                let how = How { threads: 1, unchanged: &changed };
                sync::diskrsync::source(&image, here, &how, &Task::silent())
            });
            let applied = sync::diskrsync::target(&mut target, there, &how(1), &Task::silent());
            (source.join().unwrap(), applied)
        });
        assert_eq!(sent.unwrap_err().to_string(), "it was written to");
        assert_eq!(applied.unwrap_err().kind(), ErrorKind::Io);
        assert!(!target.is_finished);
    }
}

#[test]
fn an_end_that_cannot_read_or_write_says_so_and_the_other_one_ends_too() {
    let source = vec![1; 4_000_000];
    for place in [100, 1_500_000] {
        let fault = Fault::Unreadable(place..place + 1);
        let mut target = HeldTarget::new(held(&[2; 1_000_000]));
        let image = Faulty::new(held(&source), [fault]);
        let (sent, applied) = both(&image, &mut target, 700, 2);
        assert_eq!(sent.unwrap_err().location().unwrap().name, "the faulty image");
        assert_eq!(applied.unwrap_err().location().unwrap().name, "the source");

        let fault = Fault::Unwritable(place..place + 1);
        let mut target = HeldTarget::new(Faulty::new(held(&[2; 1_000_000]), [fault]));
        let (sent, applied) = both(&held(&source), &mut target, 700, 2);
        assert_eq!(applied.unwrap_err().location().unwrap().name, "the faulty image");
        assert_eq!(sent.unwrap_err().location().unwrap().name, "the target");
    }
}

#[test]
fn what_the_map_knows_to_be_zero_is_not_read() {
    let mut bytes = vec![0; 12_000_000];
    bytes[..4096].fill(1);
    bytes[6_000_000..6_001_000].fill(3);
    let holes = [200_000..5_800_000, 6_200_000..12_000_000].map(Fault::Unreadable);
    let image = Faulty::new(held(&bytes), holes.clone());
    for old in [vec![0; 12_000_000], vec![], vec![2; 9_000_000]] {
        let mut target = HeldTarget::new(held(&old));
        let (sent, applied) = both(&image, &mut target, 65_536, 3);
        assert_eq!(sent.unwrap(), applied.unwrap());
        assert!(content(&target.image) == bytes);
    }
    let mut target = HeldTarget::new(Faulty::new(held(&bytes), holes));
    let (sent, applied) = both(&held(&bytes), &mut target, 65_536, 3);
    assert_eq!(sent.unwrap(), applied.unwrap());
}

#[test]
fn whoever_is_told_to_stop_stops() {
    let task = Task::silent();
    task.cancel();
    let (wire, _) = recorded(&vector("identical.t2s"), Cut::Whole);
    let image = held(&vec![1; 1_500_007]);
    let error = sync::diskrsync::source(&image, wire, &how(2), &task).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let (wire, _) = recorded(&vector("identical.s2t"), Cut::Whole);
    let mut target = HeldTarget::new(image);
    let error = sync::diskrsync::target(&mut target, wire, &how(2), &task).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(!target.is_finished);
}
