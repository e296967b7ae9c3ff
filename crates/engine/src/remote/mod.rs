//! Another machine: a process there, started by the system's ssh, whose input and output are a wire.

use std::ffi::OsString;

use image::{Result, Task};
use sync::Wire;

/// How a remote end is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh {
    /// Put before the host.
    pub flags: Vec<OsString>,
    /// The words that start blockprint (or diskrsync) there; by default its own name.
    pub remote_command: Option<String>,
}

/// A process on another machine.
pub(crate) struct Peer {}

/// What came of it.
pub(crate) struct Ended {
    /// Bytes that came from it.
    pub(crate) received_bytes: u64,
    /// Bytes that went to it.
    pub(crate) sent_bytes: u64,
}

impl Peer {
    /// Runs `command_line`, which the shell there reads, on `host`. The wire ends when the process does.
    pub(crate) fn call(
        ssh: &Ssh,
        host: &std::ffi::OsStr,
        command_line: &std::ffi::OsStr,
        limit_bytes_per_s: Option<u64>,
        task: &Task,
    ) -> Result<(Peer, Wire<'static>)> {
        let _ = (ssh, host, command_line, limit_bytes_per_s, task);
        todo!()
    }

    /// Waits until it has ended. An error says its exit status and its last words.
    pub(crate) fn finish(self) -> Result<Ended> {
        todo!()
    }
}
