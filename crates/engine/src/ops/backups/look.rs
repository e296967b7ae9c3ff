//! What one file or folder is, told from its name and its first bytes, or its manifest.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::SystemTime;

use formats::packed::{self, Compression, Opened};
use formats::partclone::{Header, looks_like_partclone};
use image::{Medium, Result};
use sys::{Access, FileMedium};

use super::Backup;
use crate::backup_name::{BackupName, UNFINISHED};
use crate::ops::disk::{self, Content, Manifest};

/// What is read of each file: the longest header fits in.
const HEAD_BYTES: usize = 4096;

/// What the first bytes of a file tell.
#[derive(Default)]
struct Inside {
    header: Option<Header>,
    /// Length of a raw image that has a table.
    raw_bytes: Option<u64>,
    problem: Option<String>,
}

/// The partition image `path`; `None` for another file.
pub(super) fn image(path: &Path, metadata: &Metadata) -> Option<Backup> {
    let file_name = path.file_name()?.to_string_lossy();
    let whole_name = file_name.strip_suffix(UNFINISHED);
    let is_unfinished = whole_name.is_some();
    let name = BackupName::parse(whole_name.unwrap_or(&file_name));
    let wants_header = name.as_ref().is_some_and(|name| name.variant != "dd");
    let inside = look_inside(path, name.is_some()).unwrap_or_else(|error| {
        Some(Inside { problem: Some(error.full_sentence()), ..Inside::default() })
    });
    let inside = match (inside, &name) {
        (Some(inside), _) => inside,
        (None, Some(_)) => Inside::default(),
        (None, None) => return None,
    };
    let header = inside.header;
    let missing = || {
        let sentence = "it does not begin like an image of partclone, which its name says it is";
        (wants_header && header.is_none()).then(|| sentence.to_string())
    };
    let problem = match is_unfinished {
        true => Some("unfinished".to_string()),
        false => inside.problem.or_else(missing),
    };
    let of_name = name.as_ref().map(|name| name.variant.clone());
    Some(Backup {
        path: path.to_path_buf(),
        file_bytes: metadata.len(),
        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        is_unfinished,
        is_set: false,
        filesystem: of_name.or_else(|| header.as_ref().map(|header| word(&header.filesystem))),
        device_bytes: header.as_ref().map(|header| header.device_bytes).or(inside.raw_bytes),
        used_bytes: header
            .as_ref()
            .map(|header| header.used_by_bitmap.saturating_mul(u64::from(header.block_bytes))),
        source: None,
        name,
        problem,
    })
}

/// The set of a whole disk `path`; `None` for another folder.
pub(super) fn set(path: &Path, metadata: &Metadata) -> Option<Backup> {
    if !disk::is_set(path) {
        return None;
    }
    let is_unfinished = path.file_name()?.to_string_lossy().ends_with(UNFINISHED);
    let (manifest, problem) = match Manifest::read(path) {
        _ if is_unfinished => (None, Some("unfinished".to_string())),
        Ok(manifest) => {
            let problem = missing_file(path, &manifest);
            (Some(manifest), problem)
        }
        Err(error) => (None, Some(error.full_sentence())),
    };
    Some(Backup {
        path: path.to_path_buf(),
        name: None,
        file_bytes: files_bytes(path),
        modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        is_unfinished,
        is_set: true,
        filesystem: Some("disk".to_string()),
        device_bytes: manifest.as_ref().map(|manifest| manifest.disk.size_bytes),
        used_bytes: manifest.as_ref().map(used_bytes),
        source: manifest.map(|manifest| match manifest.disk.model {
            Some(model) => format!("{} ({model})", manifest.disk.path),
            None => manifest.disk.path,
        }),
        problem,
    })
}

/// A file that the manifest names, but the set does not have in that length.
fn missing_file(set: &Path, manifest: &Manifest) -> Option<String> {
    manifest.files().into_iter().find_map(|(file, len_bytes)| {
        let found = fs::metadata(set.join(file)).ok().filter(Metadata::is_file);
        match (found, len_bytes) {
            (None, _) => Some(format!("its file {file} is missing")),
            (Some(found), Some(len_bytes)) if found.len() != len_bytes => {
                Some(format!("its file {file} has {} bytes instead of {len_bytes}", found.len()))
            }
            _ => None,
        }
    })
}

fn files_bytes(set: &Path) -> u64 {
    let entries = fs::read_dir(set).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Of each partition what its image holds, which is all of it where nobody could tell what is used.
fn used_bytes(manifest: &Manifest) -> u64 {
    let of_one = |partition: &disk::PartitionFacts| match &partition.content {
        Content::Image { used_bytes, .. } => {
            used_bytes.unwrap_or(partition.range.end - partition.range.start)
        }
        Content::Container | Content::SwapHeader { .. } => 0,
    };
    manifest.partitions.iter().map(of_one).fold(0, u64::saturating_add)
}

/// `None` for a file that is no image by its content; one that has the name of an image may be raw.
fn look_inside(path: &Path, is_named: bool) -> Result<Option<Inside>> {
    let medium = FileMedium::open(path, Access::Read)?;
    let mut mark = [0; 16];
    let len = usize::try_from(medium.len()?).unwrap_or(mark.len()).min(mark.len());
    medium.read_at(&mut mark[..len], 0)?;
    let mark = &mark[..len];
    let compression = Compression::by_mark(mark).unwrap_or(Compression::Uncompressed);
    let is_plain = compression == Compression::Uncompressed;
    if !is_named && is_plain && !looks_like_partclone(mark) {
        return Ok(None);
    }
    let head = match unpacked_head(&medium, compression) {
        Ok(head) => head,
        // Many files are compressed, and not all of them are whole.
        Err(_) if !is_named => return Ok(None),
        Err(error) => return Err(error),
    };
    if looks_like_partclone(&head) {
        let (header, _) = Header::decode(&head)?;
        return Ok(Some(Inside { header: Some(header), ..Inside::default() }));
    }
    if !is_named {
        return Ok(None);
    }
    let raw_bytes = match packed::open(medium, compression) {
        Ok(Opened::Indexed(unpacked)) => Some(unpacked.len()?),
        Ok(Opened::Unindexed(_)) => None,
        Err(error) => return Err(error),
    };
    Ok(Some(Inside { raw_bytes, ..Inside::default() }))
}

fn unpacked_head(medium: &FileMedium, compression: Compression) -> Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let len = packed::unpack(medium, compression)?.read(&mut head)?;
    head.truncate(len);
    Ok(head)
}

/// Lsblk's word for the filesystem that partclone calls so; in ext's case, one word stands for all of them.
fn word(partclones: &str) -> String {
    match partclones {
        "EXTFS" => "ext4".to_string(),
        "FAT12" | "FAT16" | "FAT32" => "vfat".to_string(),
        "HFS Plus" | "HFSPLUS" => "hfsplus".to_string(),
        other => other.to_lowercase(),
    }
}
