//! The image of a target: a file, a device, or nothing yet.

use std::ops::Range;

use formats::raw::RawImage;
use formats::spgz::{OnDamage, SpgzImage};
use image::ranges::RangeSet;
use image::{Extent, Image, ImageMut, MemoryMedium, Result};
use sys::{DeviceMedium, FileMedium};

use crate::Steps;
use crate::location::Format;
use crate::target::FileImage;

/// What a target is compared and written as. Tells of each write.
pub(super) struct Held {
    what: What,
    steps: Steps,
}

enum What {
    File(FileImage),
    Device(RawImage<DeviceMedium>),
    Nothing(RawImage<MemoryMedium>),
}

impl Held {
    /// The image in a file. Damaged blocks of a container read as zeroes, and are made anew.
    pub(super) fn file(medium: FileMedium, format: Format, steps: &Steps) -> Result<Self> {
        Ok(Held::of_image(open(medium, format)?, steps))
    }

    /// An image in a file.
    pub(super) fn of_image(image: FileImage, steps: &Steps) -> Self {
        Held { what: What::File(image), steps: steps.clone() }
    }

    /// All of a device.
    pub(super) fn device(medium: DeviceMedium, steps: &Steps) -> Result<Self> {
        Ok(Held { what: What::Device(RawImage::open(medium)?), steps: steps.clone() })
    }

    /// An image of no bytes.
    pub(super) fn nothing(steps: &Steps) -> Result<Self> {
        let medium = MemoryMedium::new("nothing", 0);
        Ok(Held { what: What::Nothing(RawImage::open(medium)?), steps: steps.clone() })
    }

    /// The file below.
    pub(super) fn medium(&self) -> Option<&FileMedium> {
        match &self.what {
            What::File(image) => Some(image.medium()),
            What::Device(_) | What::Nothing(_) => None,
        }
    }

    /// Whether it is a device, which keeps its size.
    pub(super) fn is_device(&self) -> bool {
        matches!(self.what, What::Device(_))
    }

    /// The length of its blocks in bytes, if it is a container.
    pub(super) fn block_bytes(&self) -> Option<u64> {
        match &self.what {
            What::File(image) => image.block_bytes(),
            What::Device(_) | What::Nothing(_) => None,
        }
    }

    /// The ranges that were damaged, and are made anew.
    pub(super) fn repaired(&self) -> RangeSet {
        match &self.what {
            What::File(FileImage::Spgz(image)) => image.repaired().into_iter().collect(),
            _ => RangeSet::new(),
        }
    }

    fn image(&self) -> &dyn ImageMut {
        match &self.what {
            What::File(image) => image.image(),
            What::Device(image) => image,
            What::Nothing(image) => image,
        }
    }
}

/// The image in a file that is to be made like another.
fn open(medium: FileMedium, format: Format) -> Result<FileImage> {
    Ok(match format {
        Format::Spgz => FileImage::Spgz(Box::new(SpgzImage::open(medium, OnDamage::Repair)?)),
        // No other is ever a target.
        _ => FileImage::Raw(RawImage::open(medium)?),
    })
}

impl Image for Held {
    fn size(&self) -> u64 {
        self.image().size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image().read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image().extent_at(offset)
    }
    fn block_size_bytes(&self) -> u64 {
        self.image().block_size_bytes()
    }
}

impl ImageMut for Held {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.image().write_at(buf, offset)?;
        self.steps.reach("written");
        Ok(())
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.image().zero(range)?;
        self.steps.reach("written");
        Ok(())
    }
    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.image().forget(range)
    }
    fn flush(&self) -> Result<()> {
        self.image().flush()
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        match &mut self.what {
            What::File(image) => image.image_mut().resize(size_bytes),
            What::Device(image) => image.resize(size_bytes),
            What::Nothing(image) => image.resize(size_bytes),
        }
    }
}
