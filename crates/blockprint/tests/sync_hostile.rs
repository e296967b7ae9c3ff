//! Both ends of the native protocol, called or calling, with a peer that lies, breaks off or talks for ever: the program
//! says what it did, believes nothing, and stays small.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use testkit::host::{Program, SshStandIn, TempDir, run, tool, try_run};

use crate::far::programs_in;
use crate::judges::quick_folder;
use crate::support::{MIB, blockprint, make_noise, names};

/// Which end is lied to, and how it came to its work.
#[derive(Clone, Copy, Debug)]
enum Seat {
    CalledSource,
    CallingSource,
    CalledTarget,
    CallingTarget,
}

const SOURCES: [Seat; 2] = [Seat::CalledSource, Seat::CallingSource];
const TARGETS: [Seat; 2] = [Seat::CalledTarget, Seat::CallingTarget];

/// What came of an end.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    /// What it told its user, and, if it was called, the peer.
    said: String,
    /// The most memory that it held.
    peak_kib: u64,
}

/// A folder with an image, and an ssh that leads to the liar.
struct Stage {
    scratch: TempDir,
    ssh: SshStandIn,
    bin: PathBuf,
}

impl Stage {
    /// The image has `len` bytes.
    #[track_caller]
    fn new(len: u64) -> Self {
        let scratch = quick_folder("hostile");
        let bin = programs_in(&scratch, &["blockprint"]);
        let (heard, said) = (scratch.join("heard"), scratch.join("said"));
        run(tool("mkfifo").args([&heard, &said]));
        let (heard, said) = (heard.display(), said.display());
        let script = format!("#!/bin/sh\nexec 3<&0\ncat <&3 >'{heard}' &\nexec cat '{said}'\n");
        let peer = bin.join("peer");
        fs::write(&peer, script).unwrap();
        fs::set_permissions(&peer, fs::Permissions::from_mode(0o755)).unwrap();
        make_noise(&scratch.join("image"), 1, len);
        Stage { scratch, ssh: SshStandIn::direct(), bin }
    }

    fn image(&self) -> PathBuf {
        self.scratch.join("image")
    }

    fn end(&self, seat: Seat) -> Program {
        let program = blockprint(&self.scratch)
            .env("PATH", self.ssh.search_path(&[&self.bin]))
            // Whatever is kept for the next run is kept at once.
            .env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "0");
        // Each thread has its buffers: as many everywhere, so that memory can be judged.
        let program = program.args(["sync", "--protocol", "native", "--threads", "2"]);
        let call = ["--remote-command", "peer", "--"];
        match seat {
            Seat::CalledSource => program.args(["--serve", "source", "--"]).arg(self.image()),
            Seat::CalledTarget => program.args(["--serve", "target", "--"]).arg(self.image()),
            Seat::CallingSource => program.args(call).arg(self.image()).arg("far:image"),
            Seat::CallingTarget => program.args(call).arg("far:image").arg(self.image()),
        }
    }

    /// Lets `talk` speak with an end, which closes the connection. It is listened to all the while; if the liar `is_deaf`,
    /// only once that has talked.
    #[track_caller]
    fn lie(&self, seat: Seat, is_deaf: bool, talk: &dyn Fn(&mut Liar)) -> Ended {
        let stderr = self.scratch.join("stderr");
        let mut end = self.end(seat);
        let command = end.command().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(File::create(&stderr).unwrap()).spawn().unwrap();
        let pid = child.id();
        let (to, from): (Box<dyn Write>, Box<dyn Read + Send>) = match seat {
            Seat::CalledSource | Seat::CalledTarget => {
                (Box::new(child.stdin.take().unwrap()), Box::new(child.stdout.take().unwrap()))
            }
            Seat::CallingSource | Seat::CallingTarget => {
                let to = File::options().write(true).open(self.scratch.join("said")).unwrap();
                (Box::new(to), Box::new(File::open(self.scratch.join("heard")).unwrap()))
            }
        };
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watching = scope.spawn(|| watch(pid, &is_over));
            let (sender, frames) = channel();
            let mut peer = Liar { to: Some(to), frames };
            let (talked, has_talked) = channel::<()>();
            let listening = scope.spawn(move || {
                if is_deaf {
                    let _ = has_talked.recv();
                }
                listen(from, &sender)
            });
            talk(&mut peer);
            drop(talked);
            let told = listening.join().unwrap();
            // Only now: it is not the end of the connection that is found out.
            drop(peer);
            let status = child.wait().unwrap();
            is_over.store(true, Ordering::Relaxed);
            let said = fs::read_to_string(&stderr).unwrap() + &told.unwrap_or_default();
            Ended { code: status.code(), said, peak_kib: watching.join().unwrap() }
        })
    }
}

/// The most memory that a process held until it is over. One that does not end is ended.
pub(crate) fn watch(pid: u32, is_over: &AtomicBool) -> u64 {
    let start = Instant::now();
    let mut peak = 0;
    while !is_over.load(Ordering::Relaxed) {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(number.unwrap_or(0));
        if start.elapsed() > Duration::from_secs(90) {
            let _ = try_run(tool("sh").args(["-c", &format!("kill -KILL {pid}")]));
        }
        thread::sleep(Duration::from_millis(2));
    }
    peak
}

const HELLO_BYTES: usize = 32;
const OPEN: u8 = 0x01;
const ALIVE: u8 = 0x02;
const ERROR: u8 = 0x03;
const SCOPE: u8 = 0x10;
const START: u8 = 0x11;
const ASK_BLOCKS: u8 = 0x12;
const ASK_PAGES: u8 = 0x13;
const DATA: u8 = 0x14;
const ZERO: u8 = 0x15;
const SETTLED: u8 = 0x16;
const FINISH: u8 = 0x17;
const DIGESTS: u8 = 0x20;
const ZEROES: u8 = 0x21;
const BLOCKS: u8 = 0x22;
const PAGES: u8 = 0x23;
const DONE: u8 = 0x24;

/// Hands on all frames of an end, without data. Gives the sentence of its error, if it said one.
fn listen(mut from: impl Read, frames: &Sender<(u8, Vec<u8>)>) -> Option<String> {
    from.read_exact(&mut [0; HELLO_BYTES]).ok()?;
    loop {
        let mut head = [0; 5];
        from.read_exact(&mut head).ok()?;
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let mut payload = vec![0; len as usize];
        from.read_exact(&mut payload).ok()?;
        if head[0] == ERROR {
            return Some(String::from_utf8_lossy(&payload[1..]).into_owned());
        }
        if head[0] == DATA {
            payload.clear();
        }
        // Nobody may want to know.
        let _ = frames.send((head[0], payload));
    }
}

/// The peer. Nothing stops it but an end that does not listen any more.
struct Liar {
    to: Option<Box<dyn Write>>,
    frames: Receiver<(u8, Vec<u8>)>,
}

impl Liar {
    /// Whether somebody may have heard it.
    fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.to.as_mut().is_some_and(|to| to.write_all(bytes).is_ok())
    }

    fn says(&mut self, kind: u8, payload: &[u8]) -> bool {
        self.bytes(&frame(kind, payload))
    }

    /// Says `bytes` again and again, `total` of them, unless nobody listens any more.
    fn repeats(&mut self, bytes: &[u8], total: u64) {
        let many = bytes.repeat((64 << 10) / bytes.len() + 1);
        for _ in 0..total / many.len() as u64 {
            if !self.bytes(&many) {
                return;
            }
        }
    }

    fn leaves(&mut self) {
        self.to = None;
    }

    /// Says hello, and what it is.
    fn opens(&mut self, role: u8, size_bytes: u64) {
        self.bytes(&hello(1, 1));
        self.says(OPEN, &[&[role][..], &size_bytes.to_le_bytes(), &[0; 33]].concat());
    }

    /// Waits for a frame of that kind; `None` if the end has left.
    fn hears(&mut self, wanted: u8) -> Option<Vec<u8>> {
        loop {
            let (kind, payload) = self.frames.recv().ok()?;
            if kind == wanted {
                return Some(payload);
            }
        }
    }

    /// A target of `mib` MiB that behaves until it is told what is compared.
    fn is_target(&mut self, mib: u64) {
        self.opens(1, mib << 20);
        self.hears(START);
    }

    /// A source of `mib` MiB that behaves until it was told all digests.
    fn is_source(&mut self, mib: u64) {
        self.opens(0, mib << 20);
        self.says(START, &[0]);
        let mut told = 0;
        while told < mib {
            let Some(digests) = self.hears(DIGESTS) else { return };
            told += digests.len() as u64 / 32;
        }
    }

    /// Answers that everything is other than it should be, to each question, until all was said. Tells other digests first.
    fn is_all_different(&mut self, mib: u64) {
        self.is_target(mib);
        for region in 0..mib {
            self.says(DIGESTS, &[&region.to_le_bytes()[..], &[5; 32]].concat());
        }
        while let Ok((kind, payload)) = self.frames.recv() {
            let (answer, digests) = match kind {
                ASK_BLOCKS => (BLOCKS, usize::from(u16::from_le_bytes([payload[12], payload[13]]))),
                ASK_PAGES => (PAGES, (payload.len() - 4) / 8 * 16),
                FINISH => return,
                _ => continue,
            };
            self.says(answer, &[&payload[..4], &vec![9; 16 * digests]].concat());
        }
    }
}

fn hello(oldest: u8, newest: u8) -> Vec<u8> {
    let mut bytes = b"BLKPSYNC".to_vec();
    bytes.extend([oldest, 0, newest, 0]);
    bytes.resize(HELLO_BYTES, 0);
    bytes
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &(payload.len() as u32).to_le_bytes(), payload].concat()
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A frame with data for one place: as it is (0), or compressed (1).
fn data(encoding: u8, offset: u64, len: u32, bytes: &[u8]) -> Vec<u8> {
    let place = [&offset.to_le_bytes()[..], &len.to_le_bytes()].concat();
    frame(DATA, &[&[encoding, 1, 0][..], &place, bytes].concat())
}

/// A zstd frame of a few bytes for each 128 KiB of zeroes, and many of them.
fn bomb() -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for _ in 0..100_000 {
        // A block of one byte that is repeated 131,072 times; not the last.
        bytes.extend([0x02, 0x00, 0x10, 0x00]);
    }
    bytes
}

/// Whatever the other end says, a process may hold so much.
const MEMORY_MAX_KIB: u64 = 64 << 10;

/// The words and the exit code of an end, and what it was told.
type Lie = (&'static str, i32, &'static dyn Fn(&mut Liar));

/// Each of `lies` is found out by both `seats`, in words and in time, and leaves the image as it is.
#[track_caller]
fn assert_found_out(seats: [Seat; 2], lies: &[Lie]) {
    let stage = Stage::new(3 * MIB);
    let image = fs::read(stage.image()).unwrap();
    for seat in seats {
        for (words, code, talk) in lies {
            let ended = stage.lie(seat, false, talk);
            assert_eq!(ended.code, Some(*code), "{seat:?} does not say {words:?}: {ended:?}");
            assert!(ended.said.contains(words), "{seat:?} does not say {words:?}: {ended:?}");
            assert!(ended.peak_kib < MEMORY_MAX_KIB, "{words}: {ended:?}");
            assert!(fs::read(stage.image()).unwrap() == image, "{words}: the image is another");
        }
    }
    // What a target knows of itself may stay.
    let names = names(stage.scratch.path());
    let left: Vec<_> = names.iter().filter(|name| name.ends_with("blockprint-partial")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_no_end_may_say_is_found_out_by_both() {
    let lies: &[Lie] = &[
        ("announced a frame of 4294967295 bytes", 18, &|peer| {
            peer.bytes(&hello(1, 1));
            peer.bytes(&[DATA, 255, 255, 255, 255]);
        }),
        ("announced a frame of 2097153 bytes", 18, &|peer| {
            peer.bytes(&hello(1, 1));
            peer.bytes(&[OPEN, 1, 0, 32, 0]);
        }),
        ("unknown kind 0x99", 18, &|peer| {
            peer.bytes(&hello(1, 1));
            peer.says(0x99, b"what");
        }),
        ("unknown role 2", 18, &|peer| peer.opens(2, 0)),
        ("versions 2 to 7", 16, &|peer| {
            peer.bytes(&hello(2, 7));
        }),
        ("closed the connection", 18, &|peer| {
            peer.bytes(&hello(1, 1));
            peer.leaves();
        }),
        ("closed the connection", 18, &|peer| {
            peer.bytes(&hello(1, 1));
            peer.bytes(&[OPEN, 42, 0, 0, 0, 1, 2, 3]);
            peer.leaves();
        }),
    ];
    assert_found_out(TARGETS, lies);
    assert_found_out(SOURCES, lies);
}

#[test]
fn a_source_finds_out_a_target_that_lies() {
    assert_found_out(
        SOURCES,
        &[
            ("is a source as well", 18, &|peer| peer.opens(0, 0)),
            ("began with the frame DONE", 18, &|peer| {
                peer.bytes(&hello(1, 1));
                peer.says(DONE, &[0; 32]);
            }),
            ("of 3 regions", 18, &|peer| {
                peer.is_target(3);
                peer.says(DIGESTS, &[0; 8 + 32 * 4]);
            }),
            ("of 3 regions", 18, &|peer| {
                peer.opens(1, u64::MAX);
                peer.says(ZEROES, &numbers(&[0, u64::MAX]));
            }),
            ("which nobody asked", 18, &|peer| {
                peer.is_target(3);
                peer.says(BLOCKS, &[7; 4 + 16]);
            }),
            ("before all was sent", 18, &|peer| {
                peer.is_target(3);
                peer.says(DONE, &[0; 32]);
            }),
            ("as a target", 18, &|peer| {
                peer.is_target(3);
                peer.says(SETTLED, &numbers(&[1]));
            }),
            ("closed the connection", 18, &|peer| {
                peer.opens(1, 1 << 63);
                peer.says(ZEROES, &numbers(&[0, 3]));
                peer.leaves();
            }),
            ("the target does not hold what the source has", 19, &|peer| {
                peer.is_all_different(3);
                peer.says(DONE, &[0; 32]);
            }),
        ],
    );
}

#[test]
fn a_target_finds_out_a_source_that_lies() {
    assert_found_out(
        TARGETS,
        &[
            ("is a target as well", 18, &|peer| peer.opens(1, 0)),
            ("an image of 1125899906842625 bytes", 18, &|peer| peer.opens(0, (1 << 50) + 1)),
            ("an image of 9223372036854775808 bytes", 18, &|peer| peer.opens(0, 1 << 63)),
            ("before its turn", 18, &|peer| {
                peer.bytes(&hello(1, 1));
                peer.says(START, &[0]);
            }),
            ("past the end", 18, &|peer| {
                peer.is_source(3);
                peer.bytes(&data(0, 3 << 20, 1, b"x"));
            }),
            ("past the end", 18, &|peer| {
                peer.is_source(3);
                peer.says(ZERO, &numbers(&[0, u64::MAX]));
            }),
            ("cannot be unpacked", 18, &|peer| {
                peer.is_source(3);
                peer.bytes(&data(1, 0, 1 << 20, &bomb()));
            }),
            ("which it called settled", 18, &|peer| {
                peer.is_source(3);
                peer.says(SETTLED, &numbers(&[2]));
                peer.bytes(&data(0, 0, 1, b"x"));
            }),
            ("without waiting for answers", 18, &|peer| {
                peer.is_source(3);
                let ask = [&[0; 12][..], &[48, 0]].concat();
                peer.repeats(&frame(ASK_BLOCKS, &ask), 64 * MIB);
            }),
            ("asked for the pages of", 18, &|peer| {
                peer.is_source(3);
                peer.says(ASK_PAGES, &[0; 4 + (1 << 20)]);
            }),
            ("closed the connection", 18, &|peer| {
                peer.is_source(3);
                peer.leaves();
            }),
            ("the target does not hold what the source has", 19, &|peer| {
                peer.is_source(3);
                peer.says(FINISH, &[0; 64]);
            }),
        ],
    );
}

#[test]
fn a_peer_that_gives_up_is_quoted_and_cannot_steer_the_terminal() {
    let stage = Stage::new(3 * MIB);
    for seat in [Seat::CallingSource, Seat::CallingTarget, Seat::CalledSource, Seat::CalledTarget] {
        let ended = stage.lie(seat, false, &|peer| {
            peer.bytes(&hello(1, 1));
            let sentence = b"\x1b[2Jno room".iter().chain(std::iter::repeat(&b'!'));
            let payload: Vec<u8> = [5].into_iter().chain(sentence.copied().take(1 << 20)).collect();
            peer.says(ERROR, &payload);
        });
        assert_eq!(ended.code, Some(15), "{ended:?}");
        if matches!(seat, Seat::CallingSource | Seat::CallingTarget) {
            let shown = "the other end says: \u{fffd}[2Jno room!";
            assert!(ended.said.contains(shown) && ended.said.len() < 8000, "{ended:?}");
        }
    }
}

#[test]
fn a_greeting_is_no_peer() {
    let stage = Stage::new(MIB);
    for (seat, code) in [
        (Seat::CallingSource, 20),
        (Seat::CallingTarget, 20),
        (Seat::CalledSource, 18),
        (Seat::CalledTarget, 18),
    ] {
        let ended = stage.lie(seat, false, &|peer| {
            peer.bytes(b"Last login: Sat Nov 21 11:53:07 2026 on pts/0\n");
        });
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.said.contains("Last log"), "{ended:?}");
    }
}

/// What is said, whether nobody listens to the answer meanwhile, and to whom it is said.
type Speech = (&'static str, bool, [Seat; 2], &'static dyn Fn(&mut Liar));

#[test]
fn memory_stays_small_whatever_is_said() {
    let whatever: &[Speech] = &[
        ("noise without end", false, SOURCES, &|peer| peer.repeats(b"noise", 64 * MIB)),
        ("nothing new without end", true, SOURCES, &|peer| {
            peer.opens(1, u64::MAX);
            peer.repeats(&frame(ALIVE, &[]), 16 * MIB);
            peer.leaves();
        }),
        ("another answer to each question", false, SOURCES, &|peer| {
            peer.is_all_different(96);
            peer.says(DONE, &[0; 32]);
        }),
        ("a target that is empty and does not listen", true, SOURCES, &|peer| {
            peer.opens(1, 0);
            peer.says(ZEROES, &numbers(&[0, 96]));
            // It has time to fill whatever it has.
            thread::sleep(Duration::from_secs(1));
            peer.leaves();
        }),
        ("noise without end", false, TARGETS, &|peer| peer.repeats(b"noise", 64 * MIB)),
        ("a scope without end", false, TARGETS, &|peer| {
            peer.opens(0, 1 << 50);
            let pairs: Vec<u8> = [0x80, 0x20].repeat(1 << 15);
            let piece = frame(SCOPE, &pairs);
            peer.repeats(&piece, 64 * MIB);
        }),
        ("the largest image", false, TARGETS, &|peer| {
            peer.opens(0, 1 << 50);
            peer.says(START, &[0]);
            peer.hears(DIGESTS);
            peer.leaves();
        }),
        ("the largest image, all of it settled", false, TARGETS, &|peer| {
            peer.opens(0, 1 << 50);
            peer.says(START, &[0]);
            let mut told = 0;
            while told < 1 << 19 {
                let Ok((kind, payload)) = peer.frames.recv() else { return };
                told += match kind {
                    DIGESTS => (payload.len() as u64 - 8) / 32,
                    ZEROES => u64::from_le_bytes(payload[8..].try_into().unwrap()),
                    _ => 0,
                };
            }
            // The target keeps for the next run what it knows.
            peer.says(SETTLED, &numbers(&[(1 << 19) - 1]));
            peer.leaves();
        }),
        ("questions by a source that does not listen", true, TARGETS, &|peer| {
            peer.opens(0, 96 << 20);
            peer.says(START, &[0]);
            let ask = [&[0; 12][..], &[64, 0]].concat();
            peer.repeats(&frame(ASK_BLOCKS, &ask), 64 * MIB);
        }),
        ("the same data without end", false, TARGETS, &|peer| {
            peer.is_source(96);
            peer.repeats(&data(0, 5 << 20, 1 << 20, &vec![3; 1 << 20]), 512 * MIB);
            peer.leaves();
        }),
        ("zeroes in small pieces without end", false, TARGETS, &|peer| {
            peer.is_source(96);
            peer.repeats(&frame(ZERO, &numbers(&[4096, 4096])), 2 * MIB);
            peer.leaves();
        }),
    ];
    let mut seen_kib = 0;
    for (what, is_deaf, seats, talk) in whatever {
        for seat in seats {
            // What is written to it is of no interest.
            let stage = Stage::new(96 * MIB);
            let ended = stage.lie(*seat, *is_deaf, talk);
            let peak_kib = ended.peak_kib;
            assert!(ended.code.is_some_and(|code| code >= 10), "{what}: {ended:?}");
            assert!(peak_kib < MEMORY_MAX_KIB, "{seat:?}: {what}: {peak_kib} KiB");
            eprintln!("{seat:?}: {what}: {peak_kib} KiB");
            seen_kib = seen_kib.max(peak_kib);
        }
    }
    assert!(seen_kib > 1000, "no process was looked at");
}
