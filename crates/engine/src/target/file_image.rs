//! A file that is written as an image: its bytes as they are, or a container.

use std::num::NonZero;

use formats::raw::RawImage;
use formats::spgz::{OnDamage, SpgzImage, rounded_block_bytes};
use image::{Error, ErrorKind, Image, ImageMut, Medium, Result};
use sys::FileMedium;

use crate::location::Format;

/// What the bytes of a target file are to the image in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The same.
    #[default]
    Raw,
    /// A container of spgz; one that is made gets blocks of so many bytes, or of as many as usual.
    Spgz { block_bytes: Option<NonZero<u64>> },
}

/// A file that is written as an image.
pub(crate) enum FileImage {
    /// Byte for byte.
    Raw(RawImage<FileMedium>),
    /// In blocks, compressed.
    Spgz(Box<SpgzImage<FileMedium>>),
}

impl Layout {
    /// Its name as a format.
    pub(crate) fn format(self) -> Format {
        match self {
            Layout::Raw => Format::Raw,
            Layout::Spgz { .. } => Format::Spgz,
        }
    }
}

impl FileImage {
    /// An image of `size_bytes`, all zero, on a new file.
    pub(crate) fn create(medium: FileMedium, size_bytes: u64, layout: Layout) -> Result<Self> {
        Ok(match layout {
            Layout::Raw => FileImage::Raw(RawImage::create(medium, size_bytes)?),
            Layout::Spgz { block_bytes } => {
                let default = SpgzImage::<FileMedium>::BLOCK_BYTES_DEFAULT;
                let block_bytes = block_bytes.map_or(default, NonZero::get);
                FileImage::Spgz(Box::new(SpgzImage::create(medium, block_bytes, size_bytes)?))
            }
        })
    }

    /// The image that the file holds, as far as it goes within `size_bytes`. A container keeps its blocks: what of them
    /// is damaged becomes zeroes, unless it is written.
    ///
    /// # Errors
    ///
    /// `Invalid` for a container whose blocks are of another size than the one that was asked for.
    pub(crate) fn take_over(medium: FileMedium, size_bytes: u64, layout: Layout) -> Result<Self> {
        let Layout::Spgz { block_bytes } = layout else {
            return Ok(FileImage::Raw(RawImage::create(medium, size_bytes)?));
        };
        let asked = block_bytes.map(|asked| rounded_block_bytes(asked.get())).transpose()?;
        let mut image = SpgzImage::open(medium, OnDamage::Repair)?;
        let has = image.block_bytes();
        if let Some(asked) = asked
            && asked != has
        {
            let name = image.medium().name();
            let sentence = format!(
                "{name} has blocks of {has} bytes, and {asked} were asked for (the blocks of a container keep their size)"
            );
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        if image.size() != size_bytes {
            image.resize(size_bytes)?;
        }
        Ok(FileImage::Spgz(Box::new(image)))
    }

    /// The file below.
    pub(crate) fn medium(&self) -> &FileMedium {
        match self {
            FileImage::Raw(image) => image.medium(),
            FileImage::Spgz(image) => image.medium(),
        }
    }

    /// It as an image.
    pub(crate) fn image(&self) -> &dyn ImageMut {
        match self {
            FileImage::Raw(image) => image,
            FileImage::Spgz(image) => &**image,
        }
    }

    /// It as an image whose size can be changed.
    pub(crate) fn image_mut(&mut self) -> &mut dyn ImageMut {
        match self {
            FileImage::Raw(image) => image,
            FileImage::Spgz(image) => &mut **image,
        }
    }

    /// Its format.
    pub(crate) fn format(&self) -> Format {
        match self {
            FileImage::Raw(_) => Format::Raw,
            FileImage::Spgz(_) => Format::Spgz,
        }
    }

    /// The length of its blocks, if it is a container.
    pub(crate) fn block_bytes(&self) -> Option<u64> {
        match self {
            FileImage::Raw(_) => None,
            FileImage::Spgz(image) => Some(image.block_bytes()),
        }
    }
}
