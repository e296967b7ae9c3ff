//! The program under the name of a peer, and what tests of it have in common.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use testkit::host::{Outcome, Program, TempDir};

/// A link to the program, called as a peer is, and a folder to work in.
pub(crate) struct Peer {
    name: &'static str,
    pub(crate) scratch: TempDir,
}

impl Peer {
    pub(crate) fn new(name: &'static str) -> Self {
        let scratch = TempDir::new(name);
        fs::create_dir(scratch.join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_blockprint"), scratch.join("bin").join(name)).unwrap();
        Peer { name, scratch }
    }

    /// A path in the folder.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A call with these arguments, in the folder.
    pub(crate) fn call(&self, arguments: &[&str]) -> Program {
        let mut program = Program::new(self.at("bin").join(self.name))
            .args(arguments)
            .current_dir(self.scratch.path())
            .env("HOME", self.scratch.path())
            .env("XDG_STATE_HOME", self.at("state"));
        program.command().env_remove("CASYNC_STORE");
        program
    }

    /// The same, with a file as standard input.
    pub(crate) fn call_with(&self, arguments: &[&str], stdin: &Path) -> Program {
        let mut program = self.call(arguments);
        program.command().stdin(File::open(stdin).unwrap());
        program
    }

    /// Runs it, and panics unless it is done and says nothing but `stdout`.
    #[track_caller]
    pub(crate) fn says(&self, arguments: &[&str], stdout: &str) -> Outcome {
        let outcome = self.call(arguments).run().expect_ok();
        assert_eq!((&*outcome.stdout, &*outcome.stderr), (stdout, ""), "{outcome}");
        outcome
    }

    /// Runs it, and panics unless it ends with 1 and one line on standard error that has each of `parts`.
    #[track_caller]
    pub(crate) fn refuses(&self, arguments: &[&str], parts: &[&str]) -> Outcome {
        let outcome = self.call(arguments).run().expect_exit(1);
        let head = format!("{}: ", self.name);
        assert!(outcome.stderr.starts_with(&head), "{outcome}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        assert_eq!(outcome.stdout, "", "{outcome}");
        parts.iter().fold(outcome, |outcome, part| outcome.expect_error(part))
    }
}

/// A file of the recorded vectors.
pub(crate) fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../chunks/tests/vectors").join(name)
}

/// The input of the vectors in `store/`, by the rule in their `store.json`.
pub(crate) fn input_of_store_vectors() -> Vec<u8> {
    let lines = || (0..2500).flat_map(|line| format!("{line:08}\n").into_bytes());
    let zeroes = |len| std::iter::repeat_n(0, len);
    let mut bytes: Vec<u8> = lines().collect();
    bytes.extend(splitmix64(21, 20_000));
    bytes.extend(zeroes(40_000));
    bytes.extend(lines());
    bytes.extend(splitmix64(22, 9000));
    bytes.extend(zeroes(5000));
    bytes
}

/// SplitMix64, each number with its lowest byte first.
pub(crate) fn splitmix64(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let numbers = std::iter::repeat_with(|| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)).to_le_bytes()
    });
    numbers.flatten().take(len).collect()
}
