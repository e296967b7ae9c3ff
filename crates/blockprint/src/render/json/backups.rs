//! `blockprint backups` for programs: described in docs/devices.md.

use std::path::Path;
use std::time::UNIX_EPOCH;

use engine::ops::backups::Backup;
use serde_json::{Value, json};

use super::path;

pub(crate) fn backups(folder: &Path, backups: &[Backup]) -> Value {
    json!({
        "event": "result",
        "command": "backups",
        "folder": path(folder),
        "backups": backups.iter().map(backup).collect::<Vec<_>>(),
    })
}

fn backup(backup: &Backup) -> Value {
    let of_name = |part: fn(&engine::backup_name::BackupName) -> &str| {
        backup.name.as_ref().map(part).map(str::to_string)
    };
    let modified = backup.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "path": path(&backup.path),
        "set": backup.is_set,
        "name": of_name(|name| &name.stem),
        "time": of_name(|name| &name.time),
        "compression": of_name(|name| &name.compression),
        "filesystem": backup.filesystem,
        "size_bytes": backup.file_bytes,
        "device_bytes": backup.device_bytes,
        "used_bytes": backup.used_bytes,
        "modified_s": modified.as_secs(),
        "unfinished": backup.is_unfinished,
        "source": backup.source,
        "problem": backup.problem,
    })
}
