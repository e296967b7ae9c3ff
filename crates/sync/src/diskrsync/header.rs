//! What each end sends first: the protocol's name and the size of its image.

use image::{Error, ErrorKind, Result};

use super::incoming::Incoming;

/// The first bytes that each end sends.
pub const MAGIC: [u8; 8] = *b"BSNC0002";

/// What diskrsync sent until August 2017, in another protocol.
const MAGIC_BEFORE: [u8; 8] = *b"BSNC0001";

const HEADER_BYTES: usize = 16;

/// The header of an image of `size_bytes`.
///
/// # Errors
///
/// `Unsupported` for a size of 2^63 or more.
pub(super) fn header(size_bytes: u64) -> Result<[u8; HEADER_BYTES]> {
    let size = i64::try_from(size_bytes).map_err(|_| {
        let sentence = format!(
            "an image of {size_bytes} bytes is too large for diskrsync's protocol, which ends at 2^63"
        );
        Error::new(ErrorKind::Unsupported, sentence)
    })?;
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&size.to_le_bytes());
    Ok(header)
}

/// The size that the other end says its image has, in bytes.
pub(super) fn read_header(incoming: &mut Incoming<'_>) -> Result<u64> {
    let peer = incoming.peer();
    let mut header = [0; HEADER_BYTES];
    incoming.take(&mut header, |got| format!("within its header, after {got} of 16 bytes"))?;
    let (magic, size) = header.split_at(8);
    if magic == MAGIC_BEFORE {
        let sentence = format!(
            "{peer} speaks the protocol BSNC0001 of 2016, which is another one: diskrsync 1.1.0 or newer is needed there"
        );
        return Err(Error::new(ErrorKind::Unsupported, sentence).at(peer, Some(0..8)));
    }
    if magic != MAGIC {
        let sentence = format!(
            "{peer} does not speak diskrsync's protocol: it began with \"{}\", not with \"BSNC0002\"",
            magic.escape_ascii()
        );
        return Err(Error::new(ErrorKind::Damaged, sentence).at(peer, Some(0..8)));
    }
    let size = i64::from_le_bytes(std::array::from_fn(|at| size[at]));
    u64::try_from(size).map_err(|_| {
        let sentence = format!("{peer} said that its image has {size} bytes, less than none");
        Error::new(ErrorKind::Damaged, sentence).at(peer, Some(8..16))
    })
}
