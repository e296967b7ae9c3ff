//! `cargo +nightly fuzz run table`: see `fuzzing::table`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::table(bytes));
