//! The media, images and layers of this crate keep the contracts of their traits.

use std::ops::Range;
use std::sync::Arc;

use image::layers::{Checked, Faulty, Slice, Throttle, Throttled};
use image::{Error, ErrorKind, Extent, ExtentKind, Image, ImageMut, Medium, MemoryMedium, Result};
use testkit::contract::{
    ImageRules, MediumRules, PlainImage, Resizing, check_image, check_image_mut, check_medium,
};

fn plain(size_bytes: u64) -> PlainImage<MemoryMedium> {
    PlainImage(MemoryMedium::new("memory", size_bytes))
}

fn holding(content: &[u8]) -> PlainImage<MemoryMedium> {
    let image = plain(content.len() as u64);
    image.write_at(content, 0).unwrap();
    image
}

#[test]
fn a_memory_medium_is_a_medium_that_grows() {
    check_medium(|len_bytes| MemoryMedium::new("memory", len_bytes), MediumRules::file());
}

#[test]
fn a_fixed_memory_medium_is_a_medium_of_any_fixed_length() {
    let make = |len_bytes| MemoryMedium::fixed("memory", len_bytes);
    check_medium(make, MediumRules::device());
    check_medium(make, MediumRules { len_unit_bytes: 1, ..MediumRules::device() });
}

#[test]
fn a_medium_behind_a_pointer_is_a_medium() {
    let make = |len_bytes| Box::new(MemoryMedium::new("memory", len_bytes)) as Box<dyn Medium>;
    check_medium(make, MediumRules::file());
}

#[test]
fn an_image_behind_a_pointer_is_an_image() {
    check_image(|content| Arc::new(holding(content)), ImageRules::default());
    let make = |size_bytes| Box::new(plain(size_bytes)) as Box<dyn ImageMut>;
    check_image_mut(make, ImageRules::default());
}

#[test]
fn a_slice_is_an_image_of_one_size() {
    let make = |size_bytes| {
        let around = holding(&vec![0xee; size_bytes as usize + 1777]);
        Slice::new(around, 777..777 + size_bytes).unwrap()
    };
    check_image_mut(make, ImageRules { resizing: Resizing::Never, ..ImageRules::default() });
}

#[test]
fn a_checked_image_is_an_image() {
    check_image_mut(|size_bytes| Checked::new(plain(size_bytes)), ImageRules::default());
}

#[test]
fn a_throttled_image_is_an_image() {
    let make = |content: &[u8]| Throttled::new(holding(content), Throttle::new(1 << 40));
    check_image(make, ImageRules::default());
}

#[test]
fn an_image_without_faults_is_an_image() {
    check_image_mut(|size_bytes| Faulty::new(plain(size_bytes), []), ImageRules::default());
}

#[test]
fn layers_on_layers_are_an_image() {
    let make = |size_bytes| {
        let outer = Slice::new(plain(size_bytes + 9000), 100..size_bytes + 8000).unwrap();
        let inner = Slice::new(Faulty::new(outer, []), 4001..4001 + size_bytes).unwrap();
        Checked::new(Box::new(inner) as Box<dyn ImageMut>)
    };
    check_image_mut(make, ImageRules { resizing: Resizing::Never, ..ImageRules::default() });
}

/// An image that cannot be cut, as some formats cannot.
struct OnlyGrows(PlainImage<MemoryMedium>);

impl Image for OnlyGrows {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }
}

impl ImageMut for OnlyGrows {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.0.write_at(buf, offset)
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.0.zero(range)
    }

    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.0.forget(range)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        if size_bytes < self.size() {
            return Err(Error::new(ErrorKind::Unsupported, "it cannot be cut"));
        }
        self.0.resize(size_bytes)
    }
}

#[test]
fn an_image_that_only_grows_is_an_image() {
    let make = |size_bytes| OnlyGrows(plain(size_bytes));
    let rules = ImageRules { size_unit_bytes: 512, block_bytes: 65536, ..ImageRules::default() };
    check_image_mut(make, ImageRules { resizing: Resizing::Grows, ..rules });
}

/// An image whose second quarter nobody needs: it reads as something else there.
struct Unneeded(PlainImage<MemoryMedium>);

impl Unneeded {
    fn range(&self) -> Range<u64> {
        self.size() / 4..self.size() / 2
    }
}

impl Image for Unneeded {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)?;
        for (byte, at) in buf.iter_mut().zip(offset..) {
            if self.range().contains(&at) {
                *byte ^= 0x55;
            }
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let part = self.range();
        if part.contains(&offset) {
            return Ok(Extent::new(offset..part.end, ExtentKind::Unspecified));
        }
        let end = if offset < part.start { part.start } else { self.size() };
        Ok(self.0.extent_at(offset)?.until(end))
    }
}

#[test]
fn an_image_that_leaves_out_what_nobody_needs_is_an_image() {
    let make = |content: &[u8]| Unneeded(holding(content));
    check_image(make, ImageRules { leaves_out: true, ..ImageRules::default() });
}
