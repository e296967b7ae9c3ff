//! Images made of another image: a range of it, a checked, slowed, failing or comparing view of it.
//!
//! A layer changes the calls that it is about and passes on the rest. Layers are also the instruments of the
//! tests: a copier that copies an image onto [`Compare`] of the same image has proven itself.

mod checked;
mod compare;
mod faulty;
mod slice;
mod throttle;

pub use checked::Checked;
pub use compare::Compare;
pub use faulty::{Fault, Faulty};
pub use slice::Slice;
pub use throttle::{Throttle, Throttled};
