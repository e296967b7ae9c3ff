//! Names of peers: started under one of them, the program takes that tool's arguments and speaks as it does.

pub(crate) mod apart_core;
pub(crate) mod casync;
pub(crate) mod desync;
pub(crate) mod diskrsync;
pub(crate) mod loclone;
mod output;
mod refusal;
pub(crate) mod spgz;
mod spool;
