//! The program: what is typed becomes a request, what happens becomes text or JSON lines.
//!
//! Started under the name of a peer (a link called `loclone`), it acts as that peer.

mod args;
mod commands;
mod compat;
mod daemon;
mod debug;
mod exit;
mod journal;
mod render;
mod signals;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(OsStr::to_str) {
        Some("apart-core") => compat::apart_core::main(),
        Some("loclone") => compat::loclone::main(),
        Some("casync") => compat::casync::main(),
        Some("desync") => compat::desync::main(),
        Some("diskrsync") => compat::diskrsync::main(),
        Some("spgz") => compat::spgz::main(),
        _ => commands::main(),
    }
}
