//! `cargo +nightly fuzz run native_source`: see `fuzzing::native_source`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::native_source(bytes));
