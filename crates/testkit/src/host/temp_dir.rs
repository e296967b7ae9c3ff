//! Folders for tests, all below one root, gone with everything that stands on them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{mounts, sweep};

/// An empty folder; when dropped, whatever is mounted in it or attached from it goes first, then the folder.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// A new folder below [`test_root`], with `label` in its name.
    #[track_caller]
    pub fn new(label: &str) -> Self {
        TempDir::below(&test_root(), label)
    }

    /// A new folder below `root`, with `label` in its name.
    #[track_caller]
    pub fn below(root: &Path, label: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("{label}.{}.{number}", std::process::id()));
        // The last folder of another test takes the root along; then it is made again.
        for _ in 0..100 {
            let made = fs::create_dir_all(root).and_then(|()| fs::create_dir(&path));
            match made {
                Ok(()) => return TempDir { path },
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
                Err(cause) => panic!("cannot make the folder {}: {cause}", path.display()),
            }
        }
        panic!("cannot make the folder {}: its root vanishes again and again", path.display());
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

/// The folder that holds every [`TempDir`]: `BLOCKPRINT_TEST_ROOT`, else `blockprint-tests` in the temporary folder.
pub fn test_root() -> PathBuf {
    match env::var_os("BLOCKPRINT_TEST_ROOT") {
        Some(root) if !root.is_empty() => PathBuf::from(root),
        _ => env::temp_dir().join("blockprint-tests"),
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        sweep(&self.path);
        // What could not be unmounted would be emptied through its mount point.
        if mounts().iter().any(|entry| entry.point.starts_with(&self.path)) {
            eprintln!("left {}: something is still mounted in it", self.path.display());
            return;
        }
        if let Err(cause) = fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {cause}", self.path.display());
        }
        let root = test_root();
        if self.path.parent() == Some(&root) {
            let _ = fs::remove_dir(root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_guard() {
        let scratch = TempDir::new("temp-dir");
        let path = scratch.path().to_path_buf();
        fs::write(scratch.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_goes_when_the_test_panics() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let outcome = std::panic::catch_unwind(move || {
            let scratch = TempDir::new("temp-dir");
            sender.send(scratch.path().to_path_buf()).unwrap();
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(outcome.is_err());
        assert!(!receiver.recv().unwrap().exists());
    }
}
