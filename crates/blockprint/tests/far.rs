//! Another machine for tests: a real sshd on loopback, or what stands in for ssh.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use testkit::host::{Needs, Outcome, Program, SSHD_TOOLS, Sshd, TempDir, require};

use crate::support::blockprint;

/// A folder to work in, and an sshd on which these programs are found, each of which is ours.
pub(crate) struct Site {
    pub(crate) scratch: TempDir,
    pub(crate) sshd: Sshd,
}

impl Site {
    /// `None`, aloud, where there is no sshd.
    #[track_caller]
    pub(crate) fn new(programs: &[&str]) -> Option<Self> {
        Self::with(programs, &Needs::none())
    }

    /// The same for a test that needs more.
    #[track_caller]
    pub(crate) fn with(programs: &[&str], needs: &Needs) -> Option<Self> {
        let scratch = require(&needs.clone().tools(&SSHD_TOOLS))?;
        let bin = programs_in(&scratch, programs);
        let sshd = Sshd::start(&format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
        Some(Site { scratch, sshd })
    }

    /// `blockprint sync SOURCE TARGET`, either of which may be there; options can be added.
    pub(crate) fn sync(&self, source: impl AsRef<OsStr>, target: impl AsRef<OsStr>) -> Program {
        let flags = self.sshd.flags().join(" ");
        let program = blockprint(&self.scratch).arg("sync").arg("--ssh-flags").arg(flags);
        program.arg("--").arg(source).arg(target)
    }

    /// The same with options.
    pub(crate) fn sync_with(
        &self,
        options: &[&str],
        source: impl AsRef<OsStr>,
        target: impl AsRef<OsStr>,
    ) -> Program {
        let flags = self.sshd.flags().join(" ");
        let program = blockprint(&self.scratch).arg("sync").args(options);
        program.arg("--ssh-flags").arg(flags).arg("--").arg(source).arg(target)
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The same, seen from another machine.
    pub(crate) fn there(&self, name: &str) -> OsString {
        there(&self.path(name))
    }
}

/// A path on the other machine.
pub(crate) fn there(path: &Path) -> OsString {
    let mut place = OsString::from("far:");
    place.push(path);
    place
}

/// A folder with links of these names to our program.
#[track_caller]
pub(crate) fn programs_in(scratch: &TempDir, names: &[&str]) -> PathBuf {
    let bin = scratch.join("bin");
    fs::create_dir(&bin).unwrap();
    for name in names {
        symlink(env!("CARGO_BIN_EXE_blockprint"), bin.join(name)).unwrap();
    }
    bin
}

/// What a sync said of itself. It was run with `--json`.
#[track_caller]
pub(crate) fn result(outcome: Outcome) -> serde_json::Value {
    outcome.expect_ok().result()
}
