//! Unpacks chunks of unknown good will: bounded memory, one frame, exactly the length that is wanted.
//!
//! Sources: casync 2 and desync 0.9.6. A compressed chunk is one zstd frame, xz stream or gzip member, told apart by
//! its first bytes, never by its name.

use std::io::{self, Read};

use image::Result;
use zstd_safe::DCtx;

use super::packed::{Form, Packed, Unverified, damaged, zstd_words};
use crate::MAX_CHUNK_BYTES;

/// How long a chunk is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// As an index says, in bytes.
    Exactly(u64),
    /// Not known; no longer than this, in bytes.
    AtMost(u64),
}

impl Length {
    /// Where no index tells.
    pub const UNKNOWN: Length = Length::AtMost(MAX_CHUNK_BYTES);

    fn limit(self) -> usize {
        let (Length::Exactly(bytes) | Length::AtMost(bytes)) = self;
        bytes.min(MAX_CHUNK_BYTES) as usize
    }
}

/// Unpacks one chunk after the other, with one context and buffers that are used again.
pub struct Unpacker {
    zstd: DCtx<'static>,
    spare: Vec<Vec<u8>>,
}

/// Buffers that are kept for use again, and the size above which they are not.
const SPARE_BUFFERS: usize = 64;
const SPARE_BYTES: usize = 1 << 20;
/// What is tried first where the length is not known.
const FIRST_GUESS_BYTES: usize = 512 << 10;
/// casync's preset 6 needs 9 MiB.
const XZ_MEMORY_BYTES: u64 = 32 << 20;

impl Default for Unpacker {
    fn default() -> Self {
        Unpacker { zstd: DCtx::create(), spare: Vec::new() }
    }
}

impl Unpacker {
    /// Unpacks `packed`, whose length is to be `length`. Takes no more memory than that, whatever its bytes claim.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the place that it came from, if it is no frame, more than one, or of another length.
    pub fn unpack(&mut self, packed: Packed, length: Length) -> Result<Unverified> {
        let limit = length.limit();
        let Packed { bytes: raw, form, origin } = packed;
        let unpacked = match form {
            Form::Plain => Ok(raw),
            Form::Compressed => {
                let mut bytes = self.buffer();
                let result = self.decompress(&raw, limit, &mut bytes);
                self.recycle(raw);
                result.map(|()| bytes)
            }
        };
        let bytes = unpacked.map_err(|why| damaged(&origin, &format!("it is no chunk: {why}")))?;
        let len = bytes.len();
        let problem = match length {
            _ if bytes.is_empty() => "it is empty".to_string(),
            Length::Exactly(wanted) if len as u64 != wanted => {
                format!("it has {len} bytes, where the index says {wanted}")
            }
            Length::AtMost(_) if len > limit => format!("it has {len} bytes, more than {limit}"),
            _ => return Ok(Unverified::new(bytes, origin)),
        };
        self.recycle(bytes);
        Err(damaged(&origin, &problem))
    }

    /// Takes a buffer back that is no longer needed.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && (1..=SPARE_BYTES).contains(&buffer.capacity()) {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// An empty buffer, mostly one that was used before.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn decompress(&mut self, raw: &[u8], limit: usize, bytes: &mut Vec<u8>) -> Result<(), String> {
        match raw {
            [0x28, 0xB5, 0x2F, 0xFD, ..] => self.unzstd(raw, limit, bytes),
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => unxz(raw, limit, bytes),
            [0x1F, 0x8B, ..] => ungzip(raw, limit, bytes),
            [] => Err("it is empty, as after a power cut".into()),
            _ => Err("it is neither zstd nor xz nor gzip".into()),
        }
    }

    fn unzstd(&mut self, raw: &[u8], limit: usize, bytes: &mut Vec<u8>) -> Result<(), String> {
        let frame = zstd_safe::find_frame_compressed_size(raw).map_err(zstd_words)?;
        if frame != raw.len() {
            return Err(format!("{} bytes follow its zstd frame", raw.len() - frame));
        }
        // Decompressing in one step takes no memory besides the buffer. What a frame claims about its length is not
        // believed: where the length is not known, the buffer grows with what really comes out of it.
        let mut wanted = limit.min(FIRST_GUESS_BYTES);
        loop {
            bytes.clear();
            bytes.reserve_exact(wanted);
            match self.zstd.decompress(bytes, raw) {
                Ok(_) => return Ok(()),
                Err(code) if !is_too_small(code) => return Err(zstd_words(code)),
                Err(_) if bytes.capacity() >= limit => {
                    return Err(format!("it unpacks to more than {limit} bytes"));
                }
                Err(_) => wanted = (bytes.capacity() * 4).min(limit),
            }
        }
    }
}

fn unxz(raw: &[u8], limit: usize, bytes: &mut Vec<u8>) -> Result<(), String> {
    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, 0)
        .map_err(|cause| cause.to_string())?;
    let mut decoder = liblzma::bufread::XzDecoder::new_stream(raw, stream);
    read_limited(&mut decoder, limit, bytes).map_err(|cause| format!("xz: {cause}"))?;
    nothing_behind(raw.len() as u64, decoder.total_in())
}

fn ungzip(raw: &[u8], limit: usize, bytes: &mut Vec<u8>) -> Result<(), String> {
    let mut decoder = flate2::bufread::GzDecoder::new(raw);
    read_limited(&mut decoder, limit, bytes).map_err(|cause| format!("gzip: {cause}"))?;
    let left = decoder.into_inner().len() as u64;
    nothing_behind(raw.len() as u64, raw.len() as u64 - left)
}

/// Reads to the end of a stream, or one byte past the limit, which the caller takes for too long.
fn read_limited(decoder: &mut impl Read, limit: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    decoder.take(limit as u64 + 1).read_to_end(bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::other(format!("it unpacks to more than {limit} bytes")));
    }
    Ok(())
}

fn nothing_behind(len: u64, used: u64) -> Result<(), String> {
    if used < len {
        return Err(format!("{} bytes follow its end", len - used));
    }
    Ok(())
}

fn is_too_small(code: zstd_safe::ErrorCode) -> bool {
    zstd_safe::get_error_name(code) == "Destination buffer is too small"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChunkId;
    use crate::store::{DEFAULT_LEVEL, Packer};
    use digest::Algorithm;
    use image::ErrorKind;

    fn id_of(bytes: &[u8]) -> ChunkId {
        ChunkId::of(Algorithm::Sha512_256, bytes)
    }

    fn packed(bytes: &[u8], form: Form) -> Packed {
        Packed { bytes: bytes.to_vec(), form, origin: "a store".into() }
    }

    fn unpack(bytes: &[u8], form: Form, length: Length) -> Result<Unverified> {
        Unpacker::default().unpack(packed(bytes, form), length)
    }

    #[test]
    fn what_was_sealed_is_unpacked_and_believed() {
        let mut unpacker = Unpacker::default();
        for form in [Form::Compressed, Form::Plain] {
            let mut packer = Packer::new(form, DEFAULT_LEVEL).unwrap();
            for len in [1, 1000, 65_536, 3 << 20] {
                let bytes: Vec<u8> = (0..len).map(|at: u32| (at / 7) as u8).collect();
                let id = id_of(&bytes);
                let sealed = packer.seal(&id, &bytes).unwrap();
                assert_eq!(sealed.len_bytes(), u64::from(len));
                for length in [Length::Exactly(u64::from(len)), Length::UNKNOWN] {
                    let plain = unpacker.unpack(packed(sealed.bytes(), form), length).unwrap();
                    let chunk = plain.verify(&id, Algorithm::Sha512_256).unwrap();
                    assert_eq!(chunk.bytes(), bytes);
                }
            }
        }
    }

    #[test]
    fn a_frame_that_unpacks_to_another_length_is_damaged() {
        let bytes = vec![0; 100_000];
        let mut packer = Packer::new(Form::Compressed, DEFAULT_LEVEL).unwrap();
        let raw = packer.seal(&id_of(&bytes), &bytes).unwrap().bytes().to_vec();
        for length in [Length::Exactly(99_999), Length::Exactly(100_001), Length::AtMost(99_999)] {
            let error = unpack(&raw, Form::Compressed, length).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{length:?}");
            assert_eq!(error.location().unwrap().name, "a store");
        }
        assert!(unpack(&[&raw[..], b"x"].concat(), Form::Compressed, Length::UNKNOWN).is_err());
        assert!(unpack(&[&raw[..], &raw[..]].concat(), Form::Compressed, Length::UNKNOWN).is_err());
    }

    #[test]
    fn bytes_with_another_digest_are_not_believed() {
        let plain = unpack(b"hello", Form::Plain, Length::UNKNOWN).unwrap();
        let error = plain.verify(&id_of(b"hallo"), Algorithm::Sha512_256).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        for form in [Form::Plain, Form::Compressed] {
            assert!(unpack(b"", form, Length::UNKNOWN).is_err(), "an empty file is no chunk");
        }
    }
}
