//! The tests of the protocols, one module for each matter.

mod diskrsync;

mod native;
mod native_liar;
mod native_peers;
mod native_support;
mod native_wire;
