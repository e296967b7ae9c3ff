//! `cargo +nightly fuzz run spgz`: see `fuzzing::spgz`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzzing::spgz(bytes));
