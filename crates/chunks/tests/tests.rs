//! Stores and what is in them, judged by their contract, by vectors of casync and desync, and by casync itself.
//!
//! One binary, a module for each concern. A test that needs root, a tool or a filesystem asks for it through
//! `testkit::host::require` and is skipped aloud where it is missing.

mod index_hostile;
mod index_image;
mod index_vectors;
mod store_casync;
mod store_contract;
mod store_crash;
mod store_hostile;
mod store_local;
mod store_vectors;
mod support;
mod vectors;
