//! Packed files: what is packed comes back, in each compression; other people's tools read ours, and we theirs; damage
//! is found.

mod common;
mod damage;
mod gz;
mod lz4;
mod medium;
mod plain;
mod zst;
