//! Messages for the tests of the hashes.

use digest::Message;

/// A message in pieces.
pub(crate) type Pieces<'a> = Vec<&'a [u8]>;

/// A message in pieces, and which one it is.
pub(crate) struct Numbered<'a>(pub(crate) (usize, Pieces<'a>));

impl Message for Numbered<'_> {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        self.0.1.get(number).copied()
    }
}

/// Random bytes.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..)).take(len).collect()
}

/// Random lengths up to `max`, the short ones as frequent as the long ones.
pub(crate) fn lengths(count: usize, max: usize) -> Vec<usize> {
    (0..count).map(|_| fastrand::usize(0..=max >> fastrand::u32(0..8))).collect()
}

/// Random pieces of up to `max` bytes, some of them empty, also the last ones.
pub(crate) fn cuts(mut bytes: &[u8], max: usize) -> Pieces<'_> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let len = fastrand::usize(0..=max).min(bytes.len());
        let (piece, rest) = bytes.split_at(if fastrand::u8(..) < 25 { 0 } else { len });
        pieces.push(piece);
        bytes = rest;
    }
    pieces.resize(pieces.len() + fastrand::usize(0..3), &[]);
    pieces
}
