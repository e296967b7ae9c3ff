//! Bytes somewhere: the trait under every format.

use std::ops::Range;

use crate::{Extent, Result};

/// Where the bytes of a format lie: a file, a block device, memory, a remote object.
///
/// All access is positioned and shared: any number of threads may read and write at once; whoever writes one
/// byte from two threads gets one of the two values.
///
/// What a power cut may leave: of the writes, punches and length changes since the last [`sync`](Medium::sync)
/// that returned, any subset, each whole or torn at a 512-byte sector; a write past the end counts as a write and a change of
/// length, either of which may be there without the other. What was synced stays.
pub trait Medium: Send + Sync {
    /// What people call it: a path, or a made-up name.
    fn name(&self) -> &str;

    /// Size in bytes, as it is now.
    fn len(&self) -> Result<u64>;

    /// Fills all of `buf` from `offset`. Past the end, however far, it fails with [`ErrorKind::Changed`], since
    /// whoever asks has looked at the length before.
    ///
    /// [`ErrorKind::Changed`]: crate::ErrorKind::Changed
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Writes all of `buf` at `offset`. Past the end it grows the medium, if that can grow; what lies between
    /// the old end and `offset` then reads as zeroes. Past a fixed end it fails with [`ErrorKind::Full`]; what
    /// lies before the end may have been written. Writing nothing does nothing, also past the end.
    ///
    /// [`ErrorKind::Full`]: crate::ErrorKind::Full
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Cuts or grows to `len_bytes`; what is new reads as zeroes. A medium of fixed size refuses with
    /// [`ErrorKind::Unsupported`], except for the size it has.
    ///
    /// [`ErrorKind::Unsupported`]: crate::ErrorKind::Unsupported
    fn set_len(&self, len_bytes: u64) -> Result<()>;

    /// Makes `range`, which lies within the length, read as zeroes, and gives its space back where that is
    /// possible. Each medium documents the ladder that it steps down. An empty range is permitted.
    fn punch(&self, range: Range<u64>) -> Result<()>;

    /// Says that the content of `range`, which lies within the length, no longer matters. May do nothing. An empty
    /// range is permitted.
    fn discard(&self, range: Range<u64>) -> Result<()>;

    /// The run that begins at `offset`, which lies before the end: data, or zeroes known without reading.
    /// May end early. `Data` is always a permitted answer, `Unspecified` never: a medium knows only bytes.
    fn extent_at(&self, offset: u64) -> Result<Extent>;

    /// Everything that returned before is durable once this returns, the length included.
    fn sync(&self) -> Result<()>;

    /// The unit in which it keeps holes apart or can be discarded, in bytes: a power of two, at least 512.
    fn block_size_bytes(&self) -> u64 {
        4096
    }

    /// Whether it is empty.
    fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }
}

macro_rules! forward_medium {
    ($($pointer:ty),*) => {$(
        impl<M: Medium + ?Sized> Medium for $pointer {
            fn name(&self) -> &str {
                (**self).name()
            }
            fn len(&self) -> Result<u64> {
                (**self).len()
            }
            fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
                (**self).read_at(buf, offset)
            }
            fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
                (**self).write_at(buf, offset)
            }
            fn set_len(&self, len_bytes: u64) -> Result<()> {
                (**self).set_len(len_bytes)
            }
            fn punch(&self, range: Range<u64>) -> Result<()> {
                (**self).punch(range)
            }
            fn discard(&self, range: Range<u64>) -> Result<()> {
                (**self).discard(range)
            }
            fn extent_at(&self, offset: u64) -> Result<Extent> {
                (**self).extent_at(offset)
            }
            fn sync(&self) -> Result<()> {
                (**self).sync()
            }
            fn block_size_bytes(&self) -> u64 {
                (**self).block_size_bytes()
            }
        }
    )*};
}
forward_medium!(&M, Box<M>, std::sync::Arc<M>);
