//! The native protocol with peers that lie, break off, or are slow.

use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use image::{Error, ErrorKind};
use sync::native;
use sync::{Hangup, Wire};

use super::native_liar::{
    ALIVE, ASK_BLOCKS, ASK_PAGES, BLOCKS, DATA, DIGESTS, DONE, ERROR, FINISH, Liar, OPEN, PAGES,
    SCOPE, SETTLED, START, ZERO, ZEROES, data, lied_to, numbers,
};
use super::native_support::{Ends, MemoryTarget, memory};

fn source_lied_to(liar: impl FnOnce(&mut Liar) + Send) -> Error {
    let bytes: Vec<u8> = (0..3u32 << 20).map(|at| (at >> 9) as u8 | 1).collect();
    lied_to(|wire| Ends::default().source(&memory(&bytes), wire), liar)
}

fn target_lied_to(liar: impl FnOnce(&mut Liar) + Send) -> Error {
    let bytes: Vec<u8> = (0..3u32 << 20).map(|at| (at >> 10) as u8 | 1).collect();
    let mut target = MemoryTarget::of(&bytes);
    let error = lied_to(|wire| Ends::default().target(&mut target, wire), liar);
    assert!(!target.is_finished);
    error
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, words: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(words), "{error}\ndoes not say: {words}");
}

#[track_caller]
fn assert_breach(error: &Error, did: &str) {
    assert_says(error, ErrorKind::Damaged, "the other end");
    assert_says(error, ErrorKind::Damaged, did);
}

type Lie = (&'static str, Box<dyn FnOnce(&mut Liar) + Send>);

fn lie(did: &'static str, liar: impl FnOnce(&mut Liar) + Send + 'static) -> Lie {
    (did, Box::new(liar))
}

#[test]
fn lies_at_the_beginning_are_found_out_by_both_ends() {
    let lies = || -> Vec<Lie> {
        vec![
            lie("begins with \"Last log\"", |peer| {
                peer.bytes(b"Last login: Sat Nov 21 11:53:07 2026");
            }),
            lie("unknown kind 0x99", |peer| {
                peer.hello();
                peer.says(0x99, b"what");
            }),
            lie("announced a frame of 2097153 bytes", |peer| {
                peer.hello();
                peer.bytes(&[OPEN, 1, 0, 32, 0]);
            }),
            lie("announced a frame of 4294967295 bytes", |peer| {
                peer.hello();
                peer.bytes(&[DATA, 255, 255, 255, 255]);
            }),
            lie("without all its fields", |peer| {
                peer.hello();
                peer.says(OPEN, &[0; 41]);
            }),
            lie("1 bytes too many in the frame OPEN", |peer| {
                peer.hello();
                peer.says(OPEN, &[0; 43]);
            }),
            lie("unknown role 2", |peer| {
                peer.hello();
                peer.open(2, 0);
            }),
            lie("DONE", |peer| {
                peer.hello();
                peer.says(DONE, &[0; 32]);
            }),
            lie("SETTLED", |peer| {
                peer.hello();
                peer.says(SETTLED, &[0; 8]);
            }),
        ]
    };
    for (did, liar) in lies() {
        assert_breach(&source_lied_to(liar), did);
    }
    for (did, liar) in lies() {
        assert_breach(&target_lied_to(liar), did);
    }
    let two_sources = |peer: &mut Liar| {
        peer.hello();
        peer.open(0, 0);
    };
    assert_breach(&source_lied_to(two_sources), "is a source as well");
    let two_targets = |peer: &mut Liar| {
        peer.hello();
        peer.open(1, 0);
    };
    assert_breach(&target_lied_to(two_targets), "is a target as well");
    let from_the_future = |peer: &mut Liar| {
        peer.bytes(b"BLKPSYNC\x02\x00\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00");
        peer.bytes(&[0; 8]);
    };
    let words = "speaks version 1 of the sync protocol, the other end versions 2 to 7";
    assert_says(&source_lied_to(from_the_future), ErrorKind::Unsupported, words);
    assert_says(&target_lied_to(from_the_future), ErrorKind::Unsupported, words);
}

#[test]
fn a_source_finds_out_what_a_target_must_not_say() {
    let digests = |first: u64, count: usize| {
        let mut payload = numbers(&[first]);
        payload.resize(8 + 32 * count, 5);
        payload
    };
    let lies: Vec<Lie> = vec![
        lie("region 1 where that of region 0 comes next", move |peer| {
            peer.says(DIGESTS, &digests(1, 1));
        }),
        lie("region 0 where that of region 2 comes next", move |peer| {
            peer.says(DIGESTS, &digests(0, 2));
            peer.says(DIGESTS, &digests(0, 2));
        }),
        lie("sent 4 digests from region 0 on, of 3 regions", move |peer| {
            peer.says(DIGESTS, &digests(0, 4));
        }),
        lie("of 3 regions", |peer| peer.says(ZEROES, &numbers(&[0, u64::MAX]))),
        lie("sent 0 digests", |peer| peer.says(ZEROES, &numbers(&[0, 0]))),
        lie("a list of 31 bytes", |peer| peer.says(DIGESTS, &[0; 8 + 31])),
        lie("a list of 0 bytes", |peer| peer.says(DIGESTS, &[0; 8])),
        lie("question 77, which nobody asked", |peer| {
            let mut payload = 77u32.to_le_bytes().to_vec();
            payload.extend_from_slice(&[0; 16]);
            peer.says(BLOCKS, &payload);
        }),
        lie("with 2 digests instead of 16", move |peer| {
            peer.says(DIGESTS, &digests(0, 3));
            let ask = peer.hears(ASK_BLOCKS).unwrap();
            let mut payload = ask[..4].to_vec();
            payload.resize(4 + 32, 1);
            peer.says(BLOCKS, &payload);
        }),
        lie("with 16 digests instead of 16", move |peer| {
            // The right number, but the wrong answer.
            peer.says(DIGESTS, &digests(0, 3));
            let ask = peer.hears(ASK_BLOCKS).unwrap();
            let mut payload = ask[..4].to_vec();
            payload.resize(4 + 16 * 16, 1);
            peer.says(PAGES, &payload);
        }),
        lie("said that it is done before all was sent", |peer| peer.says(DONE, &[0; 32])),
        lie("sent the frame ZERO as a target", |peer| peer.says(ZERO, &numbers(&[0, 4096]))),
        lie("sent the frame OPEN as a target", |peer| peer.open(1, 5)),
    ];
    for (did, liar) in lies {
        let error = source_lied_to(move |peer| {
            peer.is_target();
            liar(peer);
        });
        assert_breach(&error, did);
    }
    let error = source_lied_to(|peer| {
        peer.is_target();
        peer.says(ZEROES, &numbers(&[0, 3]));
        peer.hears(FINISH);
        peer.says(DONE, &[9; 32]);
    });
    assert_says(&error, ErrorKind::Changed, "the target does not hold what the source has");
}

#[test]
fn a_target_finds_out_what_a_source_must_not_say() {
    let start = |peer: &mut Liar, size_bytes: u64| {
        peer.hello();
        peer.open(0, size_bytes);
    };
    let early: Vec<Lie> = vec![
        lie("up to 1125899906842624 are allowed", move |peer| start(peer, u64::MAX)),
        lie("before its turn", move |peer| {
            start(peer, 5);
            peer.open(0, 6);
        }),
        lie("2 for yes or no", move |peer| {
            start(peer, 5);
            peer.says(START, &[2]);
        }),
        lie("before its turn", move |peer| {
            start(peer, 1 << 20);
            peer.says(SCOPE, &[0, 1]);
            peer.says(START, &[0]);
        }),
        lie("out of order, or past the end", move |peer| {
            start(peer, 1 << 20);
            peer.says(SCOPE, &[0, 0xff, 0xff, 0x7f]);
        }),
        lie("more than 1048576 ranges", move |peer| {
            start(peer, 1 << 50);
            peer.says(SCOPE, &[1; 2 << 20]);
            peer.says(SCOPE, &[1; 2]);
        }),
        lie("before it knew its digest", move |peer| {
            start(peer, 200 << 30);
            peer.says(START, &[0]);
            peer.says(ZERO, &numbers(&[199 << 30, 4096]));
        }),
        lie("finished when", move |peer| {
            start(peer, 200 << 30);
            peer.says(START, &[0]);
            peer.says(FINISH, &[0; 64]);
        }),
    ];
    for (did, liar) in early {
        assert_breach(&target_lied_to(liar), did);
    }
    let ask = |id: u32, first: u64, count: u16| {
        let mut payload = id.to_le_bytes().to_vec();
        payload.extend_from_slice(&first.to_le_bytes());
        payload.extend_from_slice(&count.to_le_bytes());
        payload
    };
    let ask_pages = |id: u32, blocks: &[u64]| {
        let mut payload = id.to_le_bytes().to_vec();
        payload.extend_from_slice(&numbers(blocks));
        payload
    };
    let late: Vec<Lie> = vec![
        lie("past the end", |peer| {
            peer.says(DATA, &data(0, &[((3 << 20) - 1, 2)], b"xx"));
        }),
        lie("past the end", |peer| peer.says(ZERO, &numbers(&[3 << 20, 1]))),
        lie("asked for 0 zeroes at 5", |peer| peer.says(ZERO, &numbers(&[5, 0]))),
        lie("zeroes at 2", |peer| peer.says(ZERO, &numbers(&[2, u64::MAX]))),
        lie("parts are empty, or out of order", |peer| {
            peer.says(DATA, &data(0, &[(0, 5), (4, 5)], &[1; 10]));
        }),
        lie("parts are empty, or out of order", |peer| peer.says(DATA, &data(0, &[(0, 0)], &[]))),
        lie("parts are empty, or out of order", |peer| {
            peer.says(DATA, &data(0, &[(u64::MAX, 2)], &[1; 2]));
        }),
        lie("0 parts", |peer| peer.says(DATA, &data(0, &[], &[]))),
        lie("513 parts", |peer| peer.says(DATA, &data(0, &[(0, 1); 513], &[]))),
        lie("bytes of data at once", |peer| {
            peer.says(DATA, &data(1, &[(0, (1 << 20) + 1)], &[]));
        }),
        lie("sent 3 bytes of data for parts of 4 bytes", |peer| {
            peer.says(DATA, &data(0, &[(0, 4)], b"abc"));
        }),
        lie("unknown encoding 2", |peer| peer.says(DATA, &data(2, &[(0, 4)], b"abcd"))),
        lie("cannot be unpacked", |peer| peer.says(DATA, &data(1, &[(0, 4)], b"abcd"))),
        lie("of compressed data for parts of 4", |peer| {
            // Three bytes, well packed.
            let packed = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 0x19, 0, 0, b'a', b'b', b'c'];
            peer.says(DATA, &data(1, &[(0, 4)], &packed));
        }),
        lie("called the regions below 4 settled", |peer| peer.says(SETTLED, &numbers(&[4]))),
        lie("called the regions below 2 settled", |peer| {
            peer.says(SETTLED, &numbers(&[2]));
            peer.says(SETTLED, &numbers(&[2]));
        }),
        lie("region 0, which it called settled", |peer| {
            peer.says(SETTLED, &numbers(&[1]));
            peer.says(ZERO, &numbers(&[4096, 4096]));
        }),
        lie("block 3, which it called settled", move |peer| {
            peer.says(SETTLED, &numbers(&[1]));
            peer.says(ASK_BLOCKS, &ask(1, 3, 1));
        }),
        lie("asked for 65 blocks", move |peer| peer.says(ASK_BLOCKS, &ask(1, 0, 65))),
        lie("asked for 0 blocks", move |peer| peer.says(ASK_BLOCKS, &ask(1, 0, 0))),
        lie("asked for 1 blocks from block 48", move |peer| peer.says(ASK_BLOCKS, &ask(1, 48, 1))),
        lie("from block 18446744073709551615", move |peer| {
            peer.says(ASK_BLOCKS, &ask(1, u64::MAX, 1));
        }),
        lie("pages of 1 blocks", move |peer| peer.says(ASK_PAGES, &ask_pages(1, &[48]))),
        lie("pages of 2 blocks", move |peer| peer.says(ASK_PAGES, &ask_pages(1, &[2, 2]))),
        lie("pages of 1 blocks", move |peer| peer.says(ASK_PAGES, &ask_pages(1, &[u64::MAX]))),
        lie("a list of 9 bytes", move |peer| peer.says(ASK_PAGES, &[0; 13])),
        lie("digests without waiting for answers", move |peer| {
            let all: Vec<u64> = (0..48).collect();
            let frame = ask_pages(1, &all);
            (0..100_000).for_each(|_| peer.says(ASK_PAGES, &frame));
        }),
        lie("ZERO after it had finished", |peer| {
            peer.says(ZERO, &numbers(&[4096, 4096]));
            peer.says(FINISH, &[0; 64]);
            peer.says(ZERO, &numbers(&[4096, 4096]));
        }),
        lie("sent the frame START as a source", |peer| peer.says(START, &[0])),
        lie("sent the frame DIGESTS as a source", |peer| peer.says(DIGESTS, &[0; 40])),
    ];
    for (did, liar) in late {
        let error = target_lied_to(move |peer| {
            peer.is_source();
            liar(peer);
        });
        // Two of them may be found out by the root, before the last word is read.
        if !error.to_string().contains("root digests") || !did.contains("finished") {
            assert_breach(&error, did);
        }
    }
    let error = target_lied_to(|peer| {
        peer.is_source();
        peer.says(FINISH, &[0; 64]);
    });
    assert_says(&error, ErrorKind::Changed, "the target does not hold what the source has");
}

#[test]
fn what_a_peer_says_of_its_trouble_is_shown_with_its_kind_and_without_control_characters() {
    let speak = |peer: &mut Liar| {
        peer.is_target();
        peer.says(ALIVE, &[]);
        peer.says(ERROR, b"\x05no \x1b[31mspace\n left");
    };
    let error = source_lied_to(speak);
    assert_eq!(error.kind(), ErrorKind::Full);
    let sentence = error.to_string();
    assert_eq!(sentence, "the other end says: no \u{fffd}[31mspace\u{fffd} left");
    let error = target_lied_to(|peer| {
        peer.hello();
        peer.says(ERROR, &[200, b'?']);
    });
    assert_says(&error, ErrorKind::Io, "the other end says: ?");
}

#[test]
fn an_end_that_is_refused_says_why() {
    let why = Error::new(ErrorKind::NotFound, "there is no disk.img");
    let refuse = |wire: Wire<'static>| native::refuse(wire, &why).unwrap();
    for is_source in [true, false] {
        let (here, there) = sync::wire::pair(1 << 16);
        refuse(there);
        let result = match is_source {
            true => Ends::default().source(&memory(b"x"), here),
            false => Ends::default().target(&mut MemoryTarget::of(b"y"), here),
        };
        let error = result.unwrap_err();
        assert_says(&error, ErrorKind::NotFound, "the other end says: there is no disk.img");
    }
}

/// Keeps what goes by.
struct Tee<R> {
    inner: R,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.seen.lock().unwrap().extend_from_slice(&buf[..len]);
        Ok(len)
    }
}

#[test]
fn a_connection_that_ends_anywhere_is_an_error_at_both_ends() {
    let mut old = vec![7; 1_200_000];
    let mut new = old.clone();
    old[70_000..80_000].fill(1);
    new[500_000..600_000].fill(0);
    new[1_100_000] = 9;
    let (mut here, mut there) = sync::wire::pair(1 << 20);
    let (from_target, from_source) = (Arc::default(), Arc::default());
    here.input = Box::new(Tee { inner: here.input, seen: Arc::clone(&from_target) });
    there.input = Box::new(Tee { inner: there.input, seen: Arc::clone(&from_source) });
    let (source, target) =
        Ends::default().run_over(&memory(&new), &mut MemoryTarget::of(&old), (here, there));
    source.unwrap();
    target.unwrap();
    let from_target = from_target.lock().unwrap().clone();
    let from_source = from_source.lock().unwrap().clone();
    assert!(from_target.len() > 500 && from_source.len() > 200, "too little was said");

    let ends_early = |bytes: &[u8]| Wire {
        input: Box::new(Cursor::new(bytes.to_vec())),
        output: Box::new(io::sink()),
        hangup: Hangup::new(),
    };
    let image = memory(&new);
    for len in 0..from_target.len() {
        let error = Ends::default().source(&image, ends_early(&from_target[..len])).unwrap_err();
        assert_breach(&error, "");
    }
    for len in 0..from_source.len() {
        let mut target = MemoryTarget::of(&old);
        let error =
            Ends::default().target(&mut target, ends_early(&from_source[..len])).unwrap_err();
        assert_breach(&error, "");
        assert!(!target.is_finished);
    }
}

/// Does not read for a while, now and then.
struct Dozing<R>(R, u32);

impl<R: Read> Read for Dozing<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1 % 16 == 1 {
            thread::sleep(Duration::from_millis(10));
        }
        let len = buf.len().min(4096);
        self.0.read(&mut buf[..len])
    }
}

#[test]
fn ends_that_read_slowly_through_narrow_pipes_come_to_an_end() {
    let mut rng = fastrand::Rng::with_seed(20);
    let old: Vec<u8> = (0..6 << 20).map(|_| rng.u8(..)).collect();
    let mut new = old.clone();
    for _ in 0..40 {
        let at = rng.usize(0..new.len() - 5000);
        rng.fill(&mut new[at..at + 5000]);
    }
    let (mut here, mut there) = sync::wire::pair(700);
    here.input = Box::new(Dozing(here.input, 0));
    there.input = Box::new(Dozing(there.input, 8));
    let mut target = MemoryTarget::of(&old);
    let (source, there) = Ends::default().run_over(&memory(&new), &mut target, (here, there));
    source.unwrap();
    there.unwrap();
    assert!(target.bytes() == new);
}

#[test]
fn a_peer_that_never_reads_does_not_keep_an_end_from_stopping() {
    let ends = Ends::default();
    let (here, there) = sync::wire::pair(1 << 10);
    let Wire { input, mut output, .. } = there;
    // A target that is empty, and deaf.
    let mut liar = Vec::new();
    liar.extend_from_slice(b"BLKPSYNC\x01\x00\x01\x00");
    liar.resize(32, 0);
    liar.extend_from_slice(&[OPEN, 42, 0, 0, 0, 1]);
    liar.resize(32 + 5 + 42, 0);
    liar.extend_from_slice(&[ZEROES, 16, 0, 0, 0]);
    liar.extend_from_slice(&numbers(&[0, 20]));
    output.write_all(&liar).unwrap();
    let task = ends.tasks.0.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(300));
            task.cancel();
        });
        let error = ends.source(&memory(&vec![1; 20 << 20]), here).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    });
    drop(input);
}

/// A wire that takes `piece` bytes at most, each of them only after a pause.
struct Slow<W> {
    output: W,
    piece: usize,
    pause: fn(&[u8]) -> Duration,
}

impl<W: Write> Write for Slow<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let piece = &buf[..buf.len().min(self.piece)];
        thread::sleep((self.pause)(piece));
        self.output.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[test]
fn the_last_word_of_a_target_that_is_done_is_sent_however_long_that_takes() {
    let bytes = vec![3; 1 << 20];
    let (here, mut there) = sync::wire::pair(1 << 20);
    let pause = |piece: &[u8]| Duration::from_secs(if piece[0] == DONE { 5 } else { 0 });
    there.output = Box::new(Slow { output: there.output, piece: 1 << 20, pause });
    let mut target = MemoryTarget::of(&[]);
    let (source, there) = Ends::default().run_over(&memory(&bytes), &mut target, (here, there));
    source.unwrap();
    there.unwrap();
    assert!(target.bytes() == bytes);
}

#[test]
fn why_an_end_fails_is_heard_also_over_a_slow_wire() {
    let mut rng = fastrand::Rng::with_seed(30);
    let bytes: Vec<u8> = (0..3 << 20).map(|_| rng.u8(..)).collect();
    let (mut here, there) = sync::wire::pair(1 << 16);
    let pause = |_: &[u8]| Duration::from_millis(150);
    here.output = Box::new(Slow { output: here.output, piece: 32 << 10, pause });
    let changed = || Err(Error::new(ErrorKind::Changed, "somebody wrote to it"));
    let ends = Ends { unchanged: &changed, ..Ends::default() };
    let mut target = MemoryTarget::of(&[]);
    let (_, there) = ends.run_over(&memory(&bytes), &mut target, (here, there));
    assert_says(&there.unwrap_err(), ErrorKind::Changed, "says: somebody wrote to it");
}
