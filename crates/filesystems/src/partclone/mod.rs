//! The program partclone: which variants there are, how one is started, what it says.

mod process;
mod reason;
mod report;
mod variant;

pub use process::{Ended, Partclone, Running};
pub use report::{Progress, Report, Reports};
pub use variant::Variant;
