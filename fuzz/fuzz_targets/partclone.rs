//! `cargo +nightly fuzz run partclone`: see `fuzzing::partclone`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::partclone(bytes));
