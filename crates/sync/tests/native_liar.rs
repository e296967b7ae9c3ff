//! A peer of the native protocol that says what it likes.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use image::{Error, Result};
use sync::Wire;
use sync::native::Report;

pub(crate) const OPEN: u8 = 0x01;
pub(crate) const ALIVE: u8 = 0x02;
pub(crate) const ERROR: u8 = 0x03;
pub(crate) const SCOPE: u8 = 0x10;
pub(crate) const START: u8 = 0x11;
pub(crate) const ASK_BLOCKS: u8 = 0x12;
pub(crate) const ASK_PAGES: u8 = 0x13;
pub(crate) const DATA: u8 = 0x14;
pub(crate) const ZERO: u8 = 0x15;
pub(crate) const SETTLED: u8 = 0x16;
pub(crate) const FINISH: u8 = 0x17;
pub(crate) const DIGESTS: u8 = 0x20;
pub(crate) const ZEROES: u8 = 0x21;
pub(crate) const BLOCKS: u8 = 0x22;
pub(crate) const PAGES: u8 = 0x23;
pub(crate) const DONE: u8 = 0x24;

/// Speaks without listening, unless it wants to.
pub(crate) struct Liar {
    pub(crate) input: Box<dyn Read + Send>,
    pub(crate) output: Box<dyn Write + Send>,
}

impl Liar {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        // Whoever has heard enough does not listen.
        let _ = self.output.write_all(bytes);
    }

    pub(crate) fn hello(&mut self) {
        self.bytes(b"BLKPSYNC\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    }

    pub(crate) fn says(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(payload);
        self.bytes(&frame);
    }

    pub(crate) fn open(&mut self, role: u8, size_bytes: u64) {
        let mut payload = vec![role];
        payload.extend_from_slice(&size_bytes.to_le_bytes());
        payload.extend_from_slice(&[0; 33]);
        self.says(OPEN, &payload);
    }

    /// Reads until a frame of that kind came.
    pub(crate) fn hears(&mut self, wanted: u8) -> Option<Vec<u8>> {
        loop {
            let mut head = [0; 5];
            self.input.read_exact(&mut head).ok()?;
            let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
            let mut payload = vec![0; len as usize];
            self.input.read_exact(&mut payload).ok()?;
            if head[0] == wanted {
                return Some(payload);
            }
        }
    }

    /// What a target hears from an honest source of three regions until it has told its digests.
    pub(crate) fn is_source(&mut self) {
        self.hello();
        self.open(0, 3 << 20);
        self.says(START, &[0]);
        self.input.read_exact(&mut [0; 32]).unwrap();
        let mut told = 0;
        while told < 3 {
            told += self.hears(DIGESTS).map_or(3, |payload| (payload.len() - 8) / 32);
        }
    }

    /// What a source hears from an honest target.
    pub(crate) fn is_target(&mut self) {
        self.hello();
        self.open(1, 3 << 20);
        self.input.read_exact(&mut [0; 32]).unwrap();
        self.hears(START);
    }
}

pub(crate) fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(crate) fn data(encoding: u8, parts: &[(u64, u32)], bytes: &[u8]) -> Vec<u8> {
    let mut payload = vec![encoding];
    payload.extend_from_slice(&(parts.len() as u16).to_le_bytes());
    for (offset, len) in parts {
        payload.extend_from_slice(&offset.to_le_bytes());
        payload.extend_from_slice(&len.to_le_bytes());
    }
    payload.extend_from_slice(bytes);
    payload
}

/// Lets `end` speak with `liar`; whoever waits for more than 20 seconds has hung up.
pub(crate) fn lied_to(
    end: impl FnOnce(Wire<'_>) -> Result<Report>,
    liar: impl FnOnce(&mut Liar) + Send,
) -> Error {
    let (here, there) = sync::wire::pair(1 << 16);
    let hangup = here.hangup.clone();
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(Duration::from_secs(20)).is_err() {
                hangup.now();
            }
        });
        let Wire { input, output, .. } = there;
        scope.spawn(move || {
            let mut peer = Liar { input, output };
            liar(&mut peer);
            // The connection stays: it is not its end that is found out.
            let _ = io::copy(&mut peer.input, &mut io::sink());
        });
        let result = end(here);
        let _ = done.send(());
        result.expect_err("it believed a lie")
    })
}
