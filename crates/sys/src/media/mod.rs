//! The media that Linux has: regular files, block devices, directories that name them.

mod claim;
mod device;
mod direct;
mod directory;
mod file;
mod unnamed;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use image::{Error, ErrorKind, Result};

pub use device::DeviceMedium;
pub use directory::Directory;
pub use file::{FileMedium, ZeroRung};
pub use unnamed::{Content, UnnamedFile};

/// What a medium is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing; a block device is claimed exclusively.
    Write,
}

/// Fills `buf`; the end of the file in the middle of it means that it was cut under our hands.
fn read_all(file: &File, name: &str, buf: &mut [u8], offset: u64) -> Result<()> {
    file.read_exact_at(buf, offset).map_err(|cause| {
        let range = offset..offset.saturating_add(buf.len() as u64);
        // Offsets that no file can have are refused by the kernel with EINVAL: they too are past the end.
        let too_far = i64::try_from(range.end).is_err();
        if cause.kind() == io::ErrorKind::UnexpectedEof || too_far {
            let end = rustix::fs::seek(file, rustix::fs::SeekFrom::End(0)).unwrap_or(0);
            let sentence = format!(
                "{name} became shorter while it was read: bytes up to {} were wanted, it ends at {end}",
                range.end
            );
            return Error::new(ErrorKind::Changed, sentence).at(name, Some(range));
        }
        failed("read", name, &range, cause)
    })
}

/// Writes all of `buf`.
fn write_all(file: &File, name: &str, buf: &[u8], offset: u64) -> Result<()> {
    file.write_all_at(buf, offset)
        .map_err(|cause| failed("write", name, &(offset..offset + buf.len() as u64), cause))
}

/// How much is written before the kernel is asked to begin writing it out. Without that it waits until memory
/// fills up, and the final flush begins with all of the work still to do.
const WRITEBACK_EVERY_BYTES: u64 = 32 << 20;

/// Asks the kernel to begin writing out what is dirty, without waiting for it. Only a hint.
fn begin_writeback(file: &File) {
    // SAFETY: a plain system call on a descriptor that is open; a length of 0 means "to the end".
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// The error for a transfer that failed.
fn failed(verb: &str, name: &str, range: &Range<u64>, cause: io::Error) -> Error {
    let sentence = format!(
        "cannot {verb} {} bytes at offset {} of {name}",
        range.end - range.start,
        range.start
    );
    Error::io(sentence, cause).at(name, Some(range.clone()))
}

/// Whether the kernel, filesystem or driver cannot do this at all, so that the next rung of a ladder is due.
fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY | libc::EINVAL | libc::ENODEV)
    )
}

/// Writes zeroes over `range`, the last rung of each ladder.
fn write_zeroes(range: Range<u64>, write: impl Fn(&[u8], u64) -> Result<()>) -> Result<()> {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(ZEROES.len() as u64) as usize;
        write(&ZEROES[..len], at)?;
        at += len as u64;
    }
    Ok(())
}
