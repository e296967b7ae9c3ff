//! `cargo +nightly fuzz run diskrsync_source`: see `fuzzing::diskrsync_source`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::diskrsync_source(bytes));
