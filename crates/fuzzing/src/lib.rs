//! What is called with hostile bytes, by fuzzers (`fuzz/`) and by the tests of this crate: each function panics where a
//! promise is broken.

mod chunk;
mod chunker;
mod diskrsync;
mod index;
mod native;
mod packed;
mod partclone;
mod spgz;
mod table;

pub use chunk::chunk;
pub use chunker::chunker;
pub use diskrsync::{diskrsync_source, diskrsync_target};
pub use index::index;
pub use native::{native_session, native_source, native_target};
pub use packed::{gz, lz4, zst};
pub use partclone::{partclone, partition_images};
pub use spgz::spgz;
pub use table::{partitioned_disks, table};

use image::{Error, ErrorKind};

/// What is known to be wrong is said with its place.
fn assert_is_about_damage(error: &Error, name: &str) {
    assert!(matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported), "{error:?}");
    let location = error.location().expect("it is about certain bytes");
    assert_eq!(location.name, name, "{error:?}");
}
