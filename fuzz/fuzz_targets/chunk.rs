//! `cargo +nightly fuzz run chunk`: see `fuzzing::chunk`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::chunk(bytes));
