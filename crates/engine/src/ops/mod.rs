//! The operations: one folder each, named like the command.

pub mod clone;
pub mod compare;
pub mod copy;
pub mod info;
