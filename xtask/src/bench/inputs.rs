//! Inputs that measurements share: an ext4 image full of the system's own files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use testkit::host::{TempDir, tool, try_run};

use super::Bench;
use crate::units;

/// Size of the large inputs.
pub(super) const LARGE_BYTES: u64 = 2 << 30;
/// How much of the system goes into an image: what ext4 itself needs stays free.
const FILES_BYTES: u64 = LARGE_BYTES / 100 * 93;
const FILES_MAX: u64 = 100_000;

/// A 2 GiB ext4 image full of files of `/usr`, made on first use and kept.
pub(super) fn image_of_usr(bench: &Bench) -> Result<PathBuf, String> {
    let image = bench.cache.join("usr.ext4");
    if image.exists() {
        return Ok(image);
    }
    eprintln!("making {} (once)", image.display());
    let stage = TempDir::new("stage");
    let mut budget = Budget { bytes: FILES_BYTES, files: FILES_MAX };
    for number in 0.. {
        let before = budget.bytes;
        fill(Path::new("/usr"), &stage.join(number.to_string()), &mut budget)
            .map_err(|cause| format!("cannot copy files of /usr: {cause}"))?;
        if budget.is_spent() || budget.bytes == before {
            break;
        }
    }
    let partial = bench.cache.join("usr.ext4.partial");
    let _ = fs::remove_file(&partial);
    let size = format!("{}k", LARGE_BYTES / 1024);
    let mut command = tool("mkfs.ext4");
    command.args(["-q", "-F", "-m", "0", "-J", "size=16", "-d"]).arg(stage.path());
    try_run(command.arg(&partial).arg(size))?;
    fs::rename(&partial, &image).map_err(|cause| cause.to_string())?;
    try_run(&mut tool("sync"))?;
    Ok(image)
}

/// Reads a file once, so that all of it is in the page cache.
pub(super) fn read_once(path: &Path) -> Result<(), String> {
    let copied = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    copied.map(drop).map_err(|cause| format!("cannot read {}: {cause}", path.display()))
}

/// Copies an input, keeping its holes.
pub(super) fn copy(source: &Path, target: &Path) -> Result<(), String> {
    try_run(tool("cp").arg("--sparse=always").arg(source).arg(target)).map(drop)
}

/// Fails, with both figures, unless the folder's filesystem has that much room.
pub(super) fn require_room(folder: &Path, needed_bytes: u64) -> Result<(), String> {
    let output = try_run(tool("stat").args(["-f", "-c", "%a %S"]).arg(folder))?;
    let mut words = output.split_whitespace().map(|word| word.parse::<u64>().unwrap_or(0));
    let free_bytes = words.next().unwrap_or(0) * words.next().unwrap_or(0);
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    let (needed, free) = (units::size(needed_bytes), units::size(free_bytes));
    Err(format!("{} has {free} free, and {needed} are needed", folder.display()))
}

struct Budget {
    bytes: u64,
    files: u64,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.bytes < 1 << 20 || self.files == 0
    }
}

/// Copies regular files of `source` until the budget is spent. What cannot be read is left out.
fn fill(source: &Path, target: &Path, budget: &mut Budget) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(source) else {
        return Ok(());
    };
    fs::create_dir_all(target)?;
    let mut entries: Vec<_> = entries.filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if budget.is_spent() {
            break;
        }
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fill(&from, &to, budget)?;
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        let cost_bytes = meta.len().next_multiple_of(4096);
        if kind.is_file() && cost_bytes <= budget.bytes && fs::copy(&from, &to).is_ok() {
            budget.bytes -= cost_bytes;
            budget.files -= 1;
        }
    }
    Ok(())
}
