//! Sizes, rates and times as people write them.

use std::num::NonZero;
use std::time::Duration;

use engine::chunking::ChunkSizes;

/// Reads `4096`, `64K`, `1.5G`, `20MiB` (powers of 1024) or `20MB` (powers of 1000), as GNU tools do.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: f64 = match unit {
        "" | "B" => 1.0,
        unit => {
            let first = unit.chars().next().map_or(0, char::len_utf8);
            let (letter, rest) = unit.split_at(first);
            let power = "KMGTP"
                .find(&letter.to_ascii_uppercase())
                .ok_or_else(|| format!("`{unit}` is no unit of size (K, M, G, T; KB, MB, …)"))?;
            let base: f64 = match rest {
                "" | "iB" => 1024.0,
                "B" => 1000.0,
                _ => return Err(format!("`{unit}` is no unit of size (K, M, G, T; KB, MB, …)")),
            };
            base.powi(power as i32 + 1)
        }
    };
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is no size"))?;
    let bytes = value * factor;
    if bytes.is_finite() && (1.0..9e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(format!("`{text}` is out of range"))
    }
}

/// Reads the length of a block, as [`bytes`].
pub(super) fn block_size(text: &str) -> Result<NonZero<u64>, String> {
    NonZero::new(bytes(text)?).ok_or_else(|| format!("`{text}` is out of range"))
}

/// Reads an offset or a length: as [`bytes`], but 0 is one too, and a bare number is exact.
pub(super) fn offset(text: &str) -> Result<u64, String> {
    text.trim().parse().or_else(|_| bytes(text))
}

/// Reads `5s`, `500ms`, `2m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("`{unit}` is no unit of time (ms, s, m)")),
    };
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is no time"))?;
    let seconds = value * factor;
    // Zero would thaw before the clone; an hour is longer than anybody's filesystem may stand still.
    if (0.001..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("`{text}` is not between 1ms and 1 hour"))
    }
}

/// Reads `30s`, `10m`, `2h`, `7d`; a bare number is seconds, and 0 is permitted.
pub(super) fn age(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return Err(format!("`{unit}` is no unit of time (s, m, h, d)")),
    };
    let value: f64 = number.parse().map_err(|_| format!("`{text}` is no time"))?;
    Duration::try_from_secs_f64(value * factor).map_err(|_| format!("`{text}` is out of range"))
}

/// Reads `16:64:256`, in KiB as desync does, or each size with a unit of its own: `16K:64K:256K`, `1M:4M:16M`.
pub(super) fn chunk_sizes(text: &str) -> Result<ChunkSizes, String> {
    let sizes: Vec<&str> = text.split(':').collect();
    let [min, avg, max] = sizes[..] else {
        return Err(format!("`{text}` is not MIN:AVG:MAX"));
    };
    let size = |text: &str| match text.parse::<u64>() {
        Ok(kib) => kib.checked_mul(1024).ok_or_else(|| format!("`{text}` is out of range")),
        Err(_) => bytes(text),
    };
    ChunkSizes::new(size(min)?, size(avg)?, size(max)?)
        .and_then(ChunkSizes::for_cutting)
        .map_err(|error| error.to_string())
}

/// Cuts a number from its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_gnu_tools_read_them() {
        for (text, expected) in [
            ("1", 1),
            ("4096B", 4096),
            ("64K", 64 << 10),
            ("1.5G", 3 << 29),
            ("20MiB", 20 << 20),
            ("20MB", 20_000_000),
            ("2 k", 2048),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "1X", "0", "-1", "1e3", "9999999P", "1é", "1KiBs"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_of_chunks_are_kibibytes_or_have_units() {
        assert_eq!(chunk_sizes("16:64:256"), Ok(ChunkSizes::default()));
        assert_eq!(chunk_sizes("16K:64KiB:256K"), Ok(ChunkSizes::default()));
        assert_eq!(chunk_sizes("100B:200B:300B").unwrap().max(), 300);
        for text in
            ["", "64", "1:2", "64:16:256", "0:1:2", "1B:2B:3B", "1:2:3:4", "1M:4M:1G", "a:b:c"]
        {
            assert!(chunk_sizes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_may_be_nothing_or_days() {
        assert_eq!(age("0"), Ok(Duration::ZERO));
        assert_eq!(age("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for text in ["", "-1", "2w", "1e99d"] {
            assert!(age(text).is_err(), "{text}");
        }
    }

    #[test]
    fn offsets_may_be_nothing_and_are_exact() {
        for (text, expected) in
            [("0", 0), ("9007199254740993", 9_007_199_254_740_993), ("1M", 1 << 20)]
        {
            assert_eq!(offset(text), Ok(expected));
        }
        for text in ["-1", "", "K", "99999999999999999999"] {
            assert!(offset(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["0", "2h", "s", "99999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
