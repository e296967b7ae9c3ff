//! Packs chunks for a store: one zstd frame each, with its length and a checksum, as casync and desync read it.

use std::borrow::Cow;

use digest::Message;
use image::{Error, ErrorKind, Result};
use zstd_safe::{CCtx, CParameter};

use super::packed::{Form, Sealed, zstd_words};
use crate::ChunkId;

/// Packs one chunk after the other, with one context and one buffer.
pub struct Packer {
    form: Form,
    zstd: CCtx<'static>,
    level: i32,
    gathered: Vec<u8>,
    packed: Vec<u8>,
}

/// casync's level.
pub const DEFAULT_LEVEL: i32 = 3;

impl Packer {
    /// For a store that keeps chunks in `form`; `level` is that of zstd.
    ///
    /// # Errors
    ///
    /// `Invalid` for a level that zstd does not have.
    pub fn new(form: Form, level: i32) -> Result<Self> {
        let (lowest, highest) = (zstd_safe::min_c_level(), zstd_safe::max_c_level());
        if !(lowest..=highest).contains(&level) {
            let sentence = format!("{level} is no level of zstd: {lowest} to {highest}");
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        let mut packer =
            Packer { form, zstd: CCtx::create(), level, gathered: Vec::new(), packed: Vec::new() };
        // Length and checksum in the frame: read by casync and by desync.
        for parameter in [
            CParameter::CompressionLevel(level),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(true),
        ] {
            packer.zstd.set_parameter(parameter).map_err(|code| {
                Error::new(ErrorKind::Unsupported, format!("cannot compress: {}", zstd_words(code)))
            })?;
        }
        Ok(packer)
    }

    /// The level of zstd that it works with.
    pub fn level(&self) -> i32 {
        self.level
    }

    /// Packs the chunk made of `pieces`, whose digest, as the caller knows, is `id`.
    pub fn seal<'a>(&'a mut self, id: &ChunkId, pieces: &'a impl Message) -> Result<Sealed<'a>> {
        self.gathered.clear();
        let plain = match (pieces.piece(0), pieces.piece(1)) {
            (Some(one), None) => one,
            _ => {
                let mut number = 0;
                while let Some(piece) = pieces.piece(number) {
                    self.gathered.extend_from_slice(piece);
                    number += 1;
                }
                &self.gathered
            }
        };
        let (id, form, len_bytes) = (*id, self.form, plain.len() as u64);
        if form == Form::Plain {
            return Ok(Sealed::new(id, form, Cow::Borrowed(plain), len_bytes));
        }
        self.packed.clear();
        self.packed.reserve(zstd_safe::compress_bound(plain.len()));
        self.zstd.compress2(&mut self.packed, plain).map_err(|code| {
            Error::new(ErrorKind::Io, format!("cannot compress chunk {id}: {}", zstd_words(code)))
        })?;
        Ok(Sealed::new(id, form, Cow::Borrowed(&self.packed), len_bytes))
    }
}
