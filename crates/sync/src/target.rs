//! What the target end of a protocol writes to.

use image::{ImageMut, Result};

/// What a target end writes to. Nothing is changed before [`begin`](Target::begin).
///
/// The calls come in this order: `size_bytes`; once the size of the source is known and checked, `may_be_partial` if only
/// a part is compared, and `begin`; then
/// `image` and `resize`, as often as needed; `finish` once all is written and proven. Without `finish`, what the
/// target stood for before is what the implementer says: the old content, or a mixture.
pub trait Target: Send + Sync {
    /// Size of what is there now, in bytes; 0 if there is nothing yet.
    fn size_bytes(&self) -> u64;

    /// Asked before [`begin`](Target::begin), if only a part will be compared: refuses where nothing stands of which the
    /// rest could be taken on trust.
    fn may_be_partial(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses a source of that size, or makes ready for it: makes a file that is missing, or a clone of what is
    /// there. The size of the image stays, and so does its content.
    fn begin(&mut self, source_bytes: u64) -> Result<()>;

    /// The image, after [`begin`](Target::begin). A device that is larger than its source keeps its own size.
    fn image(&self) -> &dyn ImageMut;

    /// Cuts or grows the image, as [`ImageMut::resize`]; a device that is large enough stays as it is.
    fn resize(&mut self, size_bytes: u64) -> Result<()>;

    /// All is written and right: makes it durable, and puts it where it belongs.
    fn finish(&mut self) -> Result<()>;
}
