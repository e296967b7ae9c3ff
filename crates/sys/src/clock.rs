//! What the clock on the wall says.

use std::time::{SystemTime, UNIX_EPOCH};

/// Date and time of day where the machine is, or where `TZ` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalTime {
    /// The year.
    pub year: i32,
    /// The month, from 1.
    pub month: u8,
    /// The day of the month, from 1.
    pub day: u8,
    /// The hour, from 0.
    pub hour: u8,
    /// The minute, from 0.
    pub minute: u8,
    /// The second, from 0; 60 for a leap second.
    pub second: u8,
}

impl LocalTime {
    /// That of this moment.
    pub fn now() -> Self {
        Self::of(SystemTime::now())
    }

    /// That of another moment, not before 1970.
    pub fn of(moment: SystemTime) -> Self {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::of_seconds(libc::time_t::try_from(since.as_secs()).unwrap_or_default())
    }

    fn of_seconds(seconds: libc::time_t) -> Self {
        // SAFETY: `tm` is integers and a pointer to a name, for all of which zero is a value.
        let mut broken: libc::tm = unsafe { std::mem::zeroed() };
        // SAFETY: both point to values of the right type that live through the call. A year that does not fit leaves
        // `broken` as it is.
        unsafe { libc::localtime_r(&raw const seconds, &raw mut broken) };
        let small = |number: libc::c_int| u8::try_from(number).unwrap_or_default();
        LocalTime {
            year: 1900 + broken.tm_year,
            month: small(broken.tm_mon + 1),
            day: small(broken.tm_mday),
            hour: small(broken.tm_hour),
            minute: small(broken.tm_min),
            second: small(broken.tm_sec),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_date_says() {
        let said = testkit::host::run(
            testkit::host::tool("date").args(["--date=@1795000000", "+%Y %m %d %H %M %S"]),
        );
        let parts: Vec<i32> = said.split_whitespace().map(|part| part.parse().unwrap()).collect();
        let LocalTime { year, month, day, hour, minute, second } =
            LocalTime::of_seconds(1_795_000_000);
        let rest = [month, day, hour, minute, second].map(i32::from);
        assert_eq!(parts, [&[year][..], &rest].concat());
    }
}
