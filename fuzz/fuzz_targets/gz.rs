//! `cargo +nightly fuzz run gz`: see `fuzzing::gz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::gz(bytes));
