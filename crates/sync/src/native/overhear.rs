//! What somebody hears who carries the bytes of both ends from one to the other, and tells the user.

use image::Error;

use super::Report;
use super::frame::{Frame, FrameReader, HEAD_BYTES, PAYLOAD_MAX_BYTES, Role};
use super::hello::HELLO_BYTES;

/// Listens to the bytes that one end sends. What does not keep to the protocol it leaves to the other end, and hears
/// nothing more.
#[derive(Debug, Default)]
pub struct Overhear {
    /// Of the hello and of the head of a frame, what came until now; of a frame that matters, all.
    bytes: Vec<u8>,
    state: State,
    heard: Heard,
}

/// What one end said.
#[derive(Debug, Default)]
pub struct Heard {
    /// Why it gave up, if it did: in words like those of an end.
    pub error: Option<Error>,
    /// What it said of itself and of the work. From a source nearly all; from a target its size and the root digest.
    pub report: Report,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Hello,
    Head,
    /// So many bytes are missing of a frame that matters.
    Payload(usize),
    /// So many bytes do not matter.
    Skip(usize),
    Deaf,
}

/// The longest frame that matters: an error.
const MATTERS_MAX_BYTES: usize = 8 << 10;

impl Overhear {
    /// Before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the stream, cut anyhow.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = match self.state {
                State::Hello => HELLO_BYTES - self.bytes.len(),
                State::Head => HEAD_BYTES - self.bytes.len(),
                State::Payload(missing) | State::Skip(missing) => missing,
                State::Deaf => return,
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if let State::Skip(missing) = self.state {
                self.state = match missing - now.len() {
                    0 => State::Head,
                    rest => State::Skip(rest),
                };
                continue;
            }
            self.bytes.extend_from_slice(now);
            let missing = wanted - now.len();
            self.state = match self.state {
                State::Payload(_) if missing > 0 => State::Payload(missing),
                State::Payload(_) => self.frame(),
                _ if missing > 0 => continue,
                State::Head => self.head(),
                _ => {
                    self.bytes.clear();
                    State::Head
                }
            };
        }
    }

    /// What was heard.
    pub fn finish(self) -> Heard {
        self.heard
    }

    fn head(&mut self) -> State {
        let Some(&[kind, a, b, c, d]) = self.bytes.first_chunk::<HEAD_BYTES>() else {
            return State::Deaf;
        };
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        if len > PAYLOAD_MAX_BYTES {
            return State::Deaf;
        }
        if Frame::tells_of_the_whole(kind) && (1..=MATTERS_MAX_BYTES).contains(&len) {
            return State::Payload(len);
        }
        self.bytes.clear();
        if len == 0 { State::Head } else { State::Skip(len) }
    }

    fn frame(&mut self) -> State {
        let frame = FrameReader::new(self.bytes.as_slice()).next();
        self.bytes.clear();
        let report = &mut self.heard.report;
        match frame {
            Ok(Frame::Open { role: Role::Source, size_bytes, .. }) => {
                report.source_bytes = size_bytes;
            }
            Ok(Frame::Open { role: Role::Target, size_bytes, .. }) => {
                report.target_bytes = size_bytes;
            }
            Ok(Frame::Finish { root, sums }) => {
                report.root = Some(root);
                report.data_bytes = sums.data_bytes;
                report.packed_bytes = sums.packed_bytes;
                report.zeroed_bytes = sums.zeroed_bytes;
                report.compared_bytes = sums.compared_bytes;
            }
            Ok(Frame::Done { root }) => report.root = Some(root),
            Ok(Frame::Error { kind, sentence }) => {
                self.heard.error = Some(Error::new(kind, sentence));
            }
            Ok(_) => {}
            Err(_) => return State::Deaf,
        }
        State::Head
    }
}

#[cfg(test)]
mod tests {
    use image::ErrorKind;

    use super::*;

    #[test]
    fn what_matters_is_heard_however_the_stream_is_cut() {
        let mut stream = vec![7; HELLO_BYTES];
        let open = Frame::Open { role: Role::Source, size_bytes: 12345, root: None };
        let error = Frame::Error { kind: ErrorKind::Full, sentence: "no room".to_string() };
        for frame in [
            open,
            Frame::Alive,
            Frame::Digests { first: 0, digests: vec![[9; 32]; 64] },
            Frame::Zero(5..9),
            error,
        ] {
            stream.extend(frame.to_bytes());
        }
        for piece in [1, 2, 3, 7, 41, stream.len()] {
            let mut overhear = Overhear::new();
            stream.chunks(piece).for_each(|bytes| overhear.push(bytes));
            let heard = overhear.finish();
            assert_eq!(heard.report.source_bytes, 12345, "pieces of {piece}");
            let error = heard.error.unwrap();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Full, "no room"));
        }
    }

    #[test]
    fn garbage_is_not_listened_to() {
        let mut overhear = Overhear::new();
        overhear.push(&[0xff; 100_000]);
        assert!(overhear.bytes.len() < 100);
        assert!(overhear.finish().error.is_none());
    }
}
