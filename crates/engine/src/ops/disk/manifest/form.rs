//! A manifest as JSON, and what JSON says of one.

use std::ops::Range;

use filesystems::Filesystem;
use image::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::super::digest;
use super::super::json::Object;
use super::{
    BOOT_FILE, Boot, Content, DiskFacts, Manifest, PartitionFacts, TABLE_FILE, TableFacts,
};

/// What this program writes, and the newest that it reads.
const VERSION: u64 = 1;

/// What `root` says; whether it can be true is another question.
pub(super) fn from_json(root: &Object<'_>) -> Result<Manifest> {
    let version = root.needed_number("blockprint_disk_set")?;
    if version != VERSION {
        let file = root.file();
        let sentence = format!(
            "{file} is of version {version}, and this program reads version {VERSION} (use a newer blockprint)"
        );
        return Err(Error::new(ErrorKind::Unsupported, sentence).at(file, None));
    }
    let section = |key: &str| root.below(key).ok_or_else(|| root.refuse(key, "is missing"));
    Ok(Manifest {
        made: root.needed_text("made")?,
        disk: disk_of(&section("disk")?)?,
        table: table_of(&section("table")?)?,
        boot: root.below("boot").map(|boot| boot_of(&boot)).transpose()?,
        partitions: root.each("partitions")?.iter().map(partition_of).collect::<Result<_>>()?,
    })
}

/// The document.
pub(super) fn to_json(manifest: &Manifest) -> Value {
    let range = |range: &Range<u64>| json!({"start_bytes": range.start, "size_bytes": range.end - range.start});
    let pieces: Vec<Value> = manifest.table.pieces.iter().map(range).collect();
    let partitions: Vec<Value> = manifest.partitions.iter().map(PartitionFacts::to_json).collect();
    json!({
        "blockprint_disk_set": VERSION,
        "made": manifest.made,
        "disk": {
            "path": manifest.disk.path,
            "model": manifest.disk.model,
            "serial": manifest.disk.serial,
            "size_bytes": manifest.disk.size_bytes,
            "sector_bytes": manifest.disk.sector_bytes,
        },
        "table": {
            "kind": manifest.table.kind,
            "id": manifest.table.id,
            "file": TABLE_FILE,
            "pieces": pieces,
            "blake3": manifest.table.blake3,
        },
        "boot": manifest.boot.as_ref().map(|boot| json!({
            "file": BOOT_FILE,
            "start_bytes": boot.range.start,
            "size_bytes": boot.range.end - boot.range.start,
            "blake3": boot.blake3,
        })),
        "partitions": partitions,
    })
}

impl PartitionFacts {
    fn to_json(&self) -> Value {
        let content = match &self.content {
            Content::Container => json!({"kind": "container"}),
            Content::Image { file, used_bytes, file_bytes, blake3 } => json!({
                "kind": "image",
                "file": file,
                "file_bytes": file_bytes,
                "used_bytes": used_bytes,
                "blake3": blake3,
            }),
            Content::SwapHeader { file, file_bytes, blake3 } => json!({
                "kind": "swap-header",
                "file": file,
                "file_bytes": file_bytes,
                "blake3": blake3,
            }),
        };
        json!({
            "number": self.number,
            "start_bytes": self.range.start,
            "size_bytes": self.range.end - self.range.start,
            "type": self.kind,
            "name": self.name,
            "uuid": self.uuid,
            "filesystem": {
                "kind": self.filesystem.kind,
                "label": self.filesystem.label,
                "uuid": self.filesystem.uuid,
            },
            "content": content,
        })
    }
}

fn disk_of(disk: &Object<'_>) -> Result<DiskFacts> {
    Ok(DiskFacts {
        path: disk.needed_text("path")?,
        model: disk.text("model"),
        serial: disk.text("serial"),
        size_bytes: disk.needed_number("size_bytes")?,
        sector_bytes: small(disk, "sector_bytes")?,
    })
}

fn table_of(table: &Object<'_>) -> Result<TableFacts> {
    Ok(TableFacts {
        kind: table.needed_text("kind")?,
        id: table.needed_text("id")?,
        pieces: table.each("pieces")?.iter().map(range_of).collect::<Result<_>>()?,
        blake3: digest_of(table)?,
    })
}

fn boot_of(boot: &Object<'_>) -> Result<Boot> {
    Ok(Boot { range: range_of(boot)?, blake3: digest_of(boot)? })
}

fn partition_of(partition: &Object<'_>) -> Result<PartitionFacts> {
    let below = |key: &str| partition.below(key);
    let filesystem = below("filesystem").map_or_else(Filesystem::default, |found| Filesystem {
        kind: found.text("kind"),
        label: found.text("label"),
        uuid: found.text("uuid"),
        ..Filesystem::default()
    });
    let content = below("content").ok_or_else(|| partition.refuse("content", "is missing"))?;
    Ok(PartitionFacts {
        number: small(partition, "number")?,
        range: range_of(partition)?,
        kind: partition.needed_text("type")?,
        name: partition.text("name"),
        uuid: partition.needed_text("uuid")?,
        filesystem,
        content: content_of(&content)?,
    })
}

fn content_of(content: &Object<'_>) -> Result<Content> {
    let file = || content.needed_text("file");
    let file_bytes = || content.needed_number("file_bytes");
    match content.needed_text("kind")?.as_str() {
        "container" => Ok(Content::Container),
        "image" => {
            let blake3 = content.text("blake3").map(|_| digest_of(content)).transpose()?;
            let used_bytes = content.number("used_bytes");
            Ok(Content::Image { file: file()?, used_bytes, file_bytes: file_bytes()?, blake3 })
        }
        "swap-header" => Ok(Content::SwapHeader {
            file: file()?,
            file_bytes: file_bytes()?,
            blake3: digest_of(content)?,
        }),
        _ => Err(content.refuse("kind", "is none that this program knows")),
    }
}

fn range_of(object: &Object<'_>) -> Result<Range<u64>> {
    let start = object.needed_number("start_bytes")?;
    let end = start.checked_add(object.needed_number("size_bytes")?);
    end.map(|end| start..end).ok_or_else(|| object.refuse("size_bytes", "is too large"))
}

fn small(object: &Object<'_>, key: &str) -> Result<u32> {
    let number = object.needed_number(key)?;
    u32::try_from(number).map_err(|_| object.refuse(key, "is too large"))
}

fn digest_of(object: &Object<'_>) -> Result<String> {
    let text = object.needed_text("blake3")?;
    match digest::is_digest(&text) {
        true => Ok(text),
        false => Err(object.refuse("blake3", "is no digest")),
    }
}
