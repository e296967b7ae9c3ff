//! The map of a filesystem's used blocks, by partclone.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use formats::partclone::{Header, StreamCheck, UsedBlocks};
use image::{Error, ErrorKind, Medium, Result, Task};
use sys::pipe::{Input, Watch};

use crate::partclone::{Partclone, Running, Variant};
use crate::{probe, size, state};

/// What is known of a filesystem's used blocks.
pub enum Used {
    /// All that partclone knows.
    Known {
        /// The header that partclone would write.
        header: Header,
        /// Which blocks are used.
        used: UsedBlocks,
    },
    /// Nothing: all of it has to be taken as data, for this reason, a sentence without a full stop.
    Unknown(String),
}

/// Asks partclone which blocks of the unmounted filesystem on `device` are used: starts it as for a clone, reads header
/// and bitmap from its stream, ends it. The map is believed only if its checksums are right, its numbers agree with each
/// other, and its size with that of the device and of the filesystem's own superblock; and if the filesystem has no journal
/// that has to be replayed first, and is not FAT12, of which partclone knows too little.
///
/// # Errors
///
/// `Cancelled`; those of the system. That partclone does not know or refuses the filesystem is no error.
pub fn used_blocks(
    partclone: &Partclone,
    variant: Variant,
    device: &Path,
    task: &Task,
) -> Result<Used> {
    if variant.is_raw() {
        return Ok(Used::Unknown("it holds no filesystem that partclone knows".to_string()));
    }
    if partclone.program(variant).is_none() {
        return Ok(Used::Unknown(format!("partclone.{} is not installed", variant.name())));
    }
    let medium = probe::open(device)?;
    if let Some(reason) = state::of(variant, &*medium)? {
        return Ok(Used::Unknown(reason));
    }
    let mut running = partclone.clone_device(variant, device)?;
    let mut check = StreamCheck::new(&format!("the map of {}", device.display()));
    match read_map(&mut running, &mut check, medium.len()?, task) {
        Ok(()) => {}
        Err(Refusal::Reason(reason)) => return Ok(Used::Unknown(reason)),
        Err(Refusal::Error(error)) => return Err(error),
    }
    let (Some(header), Some(used)) = (check.header(), check.used()) else {
        return Ok(Used::Unknown(why_it_ended(&running)));
    };
    Ok(match contradiction(variant, header, &*medium)? {
        Some(reason) => Used::Unknown(reason),
        None => Used::Known { header: header.clone(), used: used.clone() },
    })
}

enum Refusal {
    Reason(String),
    Error(Error),
}

/// Reads partclone's stream until the map has passed the check, or until it ends.
fn read_map(
    running: &mut Running,
    check: &mut StreamCheck,
    device_bytes: u64,
    task: &Task,
) -> Result<(), Refusal> {
    let Some(stdout) = running.stdout() else { return Ok(()) };
    let (task, failed) = (task.clone(), running.failure());
    let watch: Watch = Arc::new(move || match (task.is_cancelled(), failed()) {
        (true, _) => Err(io::ErrorKind::ConnectionAborted.into()),
        // It sleeps for seconds before it ends.
        (_, true) => Err(io::ErrorKind::BrokenPipe.into()),
        _ => Ok(()),
    });
    let mut input = Input::new(OwnedFd::from(stdout), watch);
    let mut buf = vec![0; 64 << 10];
    while check.used().is_none() {
        // What is behind the header is asked for only when it is known to make sense.
        let wish = if check.header().is_some() { buf.len() } else { Header::V2_BYTES };
        let read = match input.read(&mut buf[..wish]) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::ConnectionAborted => {
                return Err(Refusal::Error(Error::new(ErrorKind::Cancelled, "interrupted")));
            }
            Err(cause) => {
                return Err(Refusal::Error(Error::io("cannot read from partclone", cause)));
            }
        };
        check.feed(&buf[..read]).map_err(|error| Refusal::Reason(error.full_sentence()))?;
        if check.header().is_some_and(|header| covered(header).is_none_or(|end| end > device_bytes))
        {
            return Err(Refusal::Reason("partclone's map is larger than the device".to_string()));
        }
    }
    Ok(())
}

/// The end of the last block, in bytes.
fn covered(header: &Header) -> Option<u64> {
    header.total_blocks.checked_mul(u64::from(header.block_bytes))
}

/// Why partclone's stream ended before its map did.
fn why_it_ended(running: &Running) -> String {
    const PATIENCE: Duration = Duration::from_secs(1);
    let (reason, last_line) = match running.wait_at_most(PATIENCE) {
        Some(ended) => (ended.reason, ended.last_lines.lines().last().map(str::to_string)),
        None => (running.reason(), None),
    };
    let reason = reason.map(|reason| format!("partclone refuses it: {reason}"));
    reason
        .or_else(|| last_line.map(|line| format!("partclone refuses it: {line}")))
        .unwrap_or_else(|| "partclone refuses it".to_string())
}

/// In what partclone's header and the filesystem's own superblock contradict each other.
///
/// How they agree was found by looking at what partclone 0.3.23 writes. Ext, XFS, FAT, exFAT and F2FS have a block for each
/// piece of themselves. The blocks of btrfs are those of its trees, larger than the unit of its size. NTFS counts whole
/// clusters, and keeps a copy of its boot sector behind them.
fn contradiction(variant: Variant, header: &Header, medium: &dyn Medium) -> Result<Option<String>> {
    let Some(own_bytes) = size::of(variant.name(), medium)? else {
        let reason =
            "the filesystem's own size, which the map would be compared with, is not known";
        return Ok(Some(reason.to_string()));
    };
    let device_bytes = medium.len()?;
    let block_bytes = u64::from(header.block_bytes);
    let rest = covered(header).and_then(|covered| own_bytes.checked_sub(covered));
    let agrees = rest.is_some_and(|rest| match variant.name() {
        "btrfs" => rest < block_bytes,
        "ntfs" => (1..=block_bytes).contains(&rest),
        _ => rest == 0,
    });
    let fits = header.device_bytes == own_bytes || header.device_bytes == device_bytes;
    if agrees && fits && own_bytes <= device_bytes {
        return Ok(None);
    }
    Ok(Some(format!(
        "partclone's map is of {} blocks of {block_bytes} bytes, but the filesystem says that it has {own_bytes} bytes, \
         and the device has {device_bytes}",
        header.total_blocks
    )))
}
