//! In what implementations of one trait may differ, so that one suite fits all of them.

/// What an image can do, and in which sizes it comes.
#[derive(Clone, Copy, Debug)]
pub struct ImageRules {
    /// Its sizes are multiples of this, in bytes.
    pub size_unit_bytes: u64,
    /// The smallest that it can be, in bytes.
    pub size_bytes_min: u64,
    /// The largest unit in which it keeps runs (block, cluster), in bytes: the suite works around the borders
    /// of a few of these.
    pub block_bytes: u64,
    /// Which sizes it takes after it has been made.
    pub resizing: Resizing,
    /// Whether it may call parts of what it was made of unspecified, because nobody needs them.
    pub leaves_out: bool,
}

/// Which sizes an image takes after it has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resizing {
    /// Smaller ones and larger ones.
    Any,
    /// Larger ones; a smaller one is refused.
    Grows,
    /// Only the one it has; each other is refused.
    Never,
}

/// What a medium can do, and in which lengths it comes.
#[derive(Clone, Copy, Debug)]
pub struct MediumRules {
    /// Whether it keeps its length, as a device does.
    pub fixed: bool,
    /// The suite makes it in multiples of this, in bytes.
    pub len_unit_bytes: u64,
    /// The unit in which it keeps holes apart, in bytes: the suite works around the borders of a few of these.
    pub block_bytes: u64,
}

impl Default for ImageRules {
    /// Any size, blocks of 4096 bytes, any resizing, nothing left out.
    fn default() -> Self {
        ImageRules {
            size_unit_bytes: 1,
            size_bytes_min: 0,
            block_bytes: 4096,
            resizing: Resizing::Any,
            leaves_out: false,
        }
    }
}

impl MediumRules {
    /// A medium that grows and shrinks by the byte.
    pub fn file() -> Self {
        MediumRules { fixed: false, len_unit_bytes: 1, block_bytes: 4096 }
    }

    /// A medium that keeps its length, a multiple of 4096 bytes.
    pub fn device() -> Self {
        MediumRules { fixed: true, len_unit_bytes: 4096, block_bytes: 4096 }
    }

    /// What holds for its bytes as an image.
    pub(super) fn as_image(&self) -> ImageRules {
        ImageRules {
            size_unit_bytes: self.len_unit_bytes,
            size_bytes_min: if self.fixed { self.len_unit_bytes } else { 0 },
            block_bytes: self.block_bytes,
            resizing: if self.fixed { Resizing::Never } else { Resizing::Any },
            leaves_out: false,
        }
    }
}

impl ImageRules {
    /// The permitted size next to `wish_bytes`, not below it.
    pub(super) fn size(&self, wish_bytes: u64) -> u64 {
        wish_bytes.max(self.size_bytes_min).next_multiple_of(self.size_unit_bytes.max(1))
    }

    /// A size of several blocks that ends within one, if it may.
    pub(super) fn usual_size(&self) -> u64 {
        self.size(9 * self.block_bytes + 1234)
    }

    /// The smallest size that holds any bytes.
    pub(super) fn smallest_size(&self) -> u64 {
        self.size(1)
    }
}
