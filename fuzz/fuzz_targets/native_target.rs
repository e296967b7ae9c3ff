//! `cargo +nightly fuzz run native_target`: see `fuzzing::native_target`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::native_target(bytes));
