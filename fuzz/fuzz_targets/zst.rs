//! `cargo +nightly fuzz run zst`: see `fuzzing::zst`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::zst(bytes));
