//! Sizes, rates and times as people write them.

use std::time::Duration;

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
    fn times_have_units_and_bounds() {
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["0", "2h", "s", "99999999"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
