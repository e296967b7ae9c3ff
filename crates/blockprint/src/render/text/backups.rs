//! `blockprint backups` as a table.

use std::path::Path;

use engine::devices::shown;
use engine::ops::backups::Backup;
use engine::{Bytes, LocalTime};

use super::table::Table;

const HEAD: [&str; 8] = ["DATE", "SIZE", "FILESYSTEM", "USED", "OF", "SOURCE", "BACKUP", "TROUBLE"];

pub(crate) fn backups(folder: &Path, backups: &[Backup]) -> String {
    if backups.is_empty() {
        return format!("no backups in {}", folder.display());
    }
    let mut table = Table::new(HEAD, &["SIZE", "USED", "OF"]);
    for backup in backups {
        let of_text = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
        let of_bytes = |bytes: Option<u64>| bytes.map(|bytes| Bytes(bytes).to_string());
        let name = backup.path.file_name().unwrap_or(backup.path.as_os_str());
        table.row([
            date(backup),
            Bytes(backup.file_bytes).to_string(),
            of_text(&backup.filesystem),
            of_bytes(backup.used_bytes).unwrap_or_default(),
            of_bytes(backup.device_bytes).unwrap_or_default(),
            of_text(&backup.source),
            shown(&name.to_string_lossy()),
            of_text(&backup.problem),
        ]);
    }
    table.lines()
}

fn date(backup: &Backup) -> String {
    let LocalTime { year, month, day, hour, minute, .. } = LocalTime::of(backup.modified);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}
