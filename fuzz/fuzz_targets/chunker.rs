//! `cargo +nightly fuzz run chunker`: see `fuzzing::chunker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::chunker(bytes));
