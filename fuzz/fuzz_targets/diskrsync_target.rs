//! `cargo +nightly fuzz run diskrsync_target`: see `fuzzing::diskrsync_target`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::diskrsync_target(bytes));
