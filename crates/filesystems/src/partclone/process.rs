//! Partclone as a child: in the C locale, in its own process group, and never outliving us.

use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout};

use image::Result;

use super::{Report, Variant};

/// Where partclone's programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partclone {
    /// A program is this and `.<variant>`.
    prefix: PathBuf,
    is_stub: bool,
}

impl Partclone {
    /// The first of the usual folders that has `partclone.dd`, in the order that apart-core looks.
    pub fn find() -> Option<Self> {
        todo!()
    }

    /// Programs that stand in for partclone, `<prefix>.<variant>`: everything is left to them then.
    pub fn stub(prefix: PathBuf) -> Self {
        Partclone { prefix, is_stub: true }
    }

    /// Whether these are programs that stand in for it.
    pub fn is_stub(&self) -> bool {
        self.is_stub
    }

    /// The program of `variant`, if it is there.
    pub fn program(&self, _variant: Variant) -> Option<PathBuf> {
        todo!()
    }

    /// Starts `partclone.<variant> -c -s <device>` (raw: without `-c`). Its stream comes out of [`Running::stdout`].
    pub fn clone_device(&self, _variant: Variant, _device: &Path) -> Result<Running> {
        todo!()
    }

    /// Starts `partclone.<variant> -r -o <device>` (raw: without `-r`). The stream goes into [`Running::stdin`].
    pub fn restore_device(&self, _variant: Variant, _device: &Path) -> Result<Running> {
        todo!()
    }
}

/// A partclone at work. Dropped, it is killed with its whole process group, and reaped.
pub struct Running {}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// It ended with status 0 and said that all is synced.
    pub success: bool,
    /// Why not, in a sentence, if it said so in words that we know.
    pub reason: Option<String>,
    /// The last lines of what it printed.
    pub last_lines: String,
}

impl Running {
    /// Its standard output, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        todo!()
    }

    /// Its standard input, once.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        todo!()
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        todo!()
    }

    /// Calls `on_report` for each thing that it says, from a thread of its own, from now on.
    pub fn listen(&mut self, _on_report: Box<dyn Fn(Report) + Send>) {
        todo!()
    }

    /// Kills its process group, and waits.
    pub fn kill(&mut self) {
        todo!()
    }

    /// Waits for its end, looking at `is_cancelled` several times a second: then it is killed.
    pub fn wait(self, _is_cancelled: &dyn Fn() -> bool) -> Result<Ended> {
        todo!()
    }
}
