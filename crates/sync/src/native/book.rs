//! What is known of the digests of regions, so that they need not be read.

use image::Result;

use super::{Digest, Shape};

/// What is known of the digests of an image's regions. The protocol asks it before it reads, and tells it what it found.
///
/// In a scope, where regions are compared in parts, a target's book is only told what to [`forget`](Book::forget), and a
/// source's nothing.
pub trait Book: Send + Sync {
    /// The image is cut like this. What was known for another cut is of no use.
    fn begin(&self, shape: &Shape);

    /// The digest of that region as it stands, if it is known.
    fn digest(&self, region: u64) -> Option<Digest>;

    /// The digest of a region as it stands now; may come more than once.
    fn learn(&self, region: u64, digest: Digest);

    /// The region is about to be written, or what is known of it may be wrong: nothing that is kept may go on to say that its
    /// digest is known. Comes before the first write of each region, in a scope as well; returns when that is durable. A
    /// source is told so if the target came to something else than the source's digests say.
    fn forget(&self, region: u64) -> Result<()>;

    /// All regions below `below` are final, and their digests learnt. `flush` makes what was written durable, and comes
    /// before anything is kept that says so. Called often; keeps something only now and then.
    fn settle(&self, below: u64, flush: &dyn Fn() -> Result<()>) -> Result<()>;

    /// The root digest of the whole image as it stands, if that is known. Asked before [`begin`](Book::begin).
    fn root(&self) -> Option<Digest>;
}

/// Knows nothing, keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBook;

impl Book for NoBook {
    fn begin(&self, _: &Shape) {}
    fn digest(&self, _: u64) -> Option<Digest> {
        None
    }
    fn learn(&self, _: u64, _: Digest) {}
    fn forget(&self, _: u64) -> Result<()> {
        Ok(())
    }
    fn settle(&self, _: u64, _: &dyn Fn() -> Result<()>) -> Result<()> {
        Ok(())
    }
    fn root(&self) -> Option<Digest> {
        None
    }
}
