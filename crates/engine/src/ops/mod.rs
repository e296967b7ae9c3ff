//! The operations: one folder each, named like the command.

pub mod backup;
pub mod backups;
pub mod cat;
pub mod chop;
pub mod clone;
pub mod compare;
pub mod copy;
pub mod digest;
pub mod disk;
pub mod extract;
pub mod index;
pub mod info;
pub mod make;
pub mod pack;
pub mod remove_backup;
pub mod restore;
pub mod store;
pub mod sync;
pub mod verify;
