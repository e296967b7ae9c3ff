//! `cargo +nightly fuzz run lz4`: see `fuzzing::lz4`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::lz4(bytes));
