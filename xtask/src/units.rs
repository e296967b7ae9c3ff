//! Times and sizes as people read them.

use std::time::Duration;

/// A time with three significant digits: `12.3 ms`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s >= 1.0 => format!("{} s", three_digits(s)),
        s if s >= 1e-3 => format!("{} ms", three_digits(s * 1e3)),
        s => format!("{} µs", three_digits(s * 1e6)),
    }
}

/// A size in the largest binary unit that leaves a whole number or three digits: `2 GiB`, `1.84 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let number = if value.fract() == 0.0 { format!("{value}") } else { three_digits(value) };
    format!("{number} {}", units[unit])
}

/// Throughput in decimal gigabytes per second, as the disks' makers count.
pub(crate) fn rate(bytes: u64, duration: Duration) -> String {
    format!("{} GB/s", three_digits(bytes as f64 / duration.as_secs_f64() / 1e9))
}

/// A number with three significant digits, or all before the point.
pub(crate) fn three_digits(value: f64) -> String {
    let places = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!(time(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(time(Duration::from_millis(3_540)), "3.54 s");
        assert_eq!(size(2 << 30), "2 GiB");
        assert_eq!(size(1_975_000_000), "1.84 GiB");
        assert_eq!(rate(2_000_000_000, Duration::from_millis(500)), "4.00 GB/s");
    }
}
