//! The times of files, as the system tells them.

use std::time::{Duration, SystemTime};

use rustix::fs::{Stat, Timespec};

/// When a file was last modified.
pub(super) fn modified(status: &Stat) -> SystemTime {
    let fraction = Duration::from_nanos(status.st_mtime_nsec.min(999_999_999));
    let seconds = Duration::from_secs(status.st_mtime.unsigned_abs());
    let whole = if status.st_mtime < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole.and_then(|time| time.checked_add(fraction)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The same for the system.
pub(super) fn timespec(time: SystemTime) -> Timespec {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => {
            Timespec { tv_sec: since.as_secs() as i64, tv_nsec: i64::from(since.subsec_nanos()) }
        }
        Err(before) => {
            let (seconds, nanos) =
                (before.duration().as_secs() as i64, i64::from(before.duration().subsec_nanos()));
            match nanos {
                0 => Timespec { tv_sec: -seconds, tv_nsec: 0 },
                _ => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanos },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_leads_to_itself_before_and_after_1970() {
        for (tv_sec, tv_nsec) in [(0, 0), (1, 999_999_999), (-1, 0), (-1, 1), (-5, 999_999_999)] {
            let whole = Duration::from_secs(i64::unsigned_abs(tv_sec));
            let whole = if tv_sec < 0 {
                SystemTime::UNIX_EPOCH - whole
            } else {
                SystemTime::UNIX_EPOCH + whole
            };
            let time = whole + Duration::from_nanos(tv_nsec as u64);
            assert_eq!(timespec(time), Timespec { tv_sec, tv_nsec });
        }
    }
}
