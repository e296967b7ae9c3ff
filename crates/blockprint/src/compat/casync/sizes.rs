//! Sizes as casync reads them: `65536`, `64K`, `0.5M`, `1K 512B`; units in capitals, powers of 1024.

use engine::chunking::ChunkSizes;

/// Reads `AVG`, `MIN:AVG:MAX` or `auto`.
pub(super) fn chunk_sizes(text: &str) -> Result<ChunkSizes, String> {
    if text == "auto" {
        return Ok(ChunkSizes::default());
    }
    let parts: Result<Vec<u64>, String> = text.split(':').map(size).collect();
    let sizes = match parts?[..] {
        [avg] => ChunkSizes::around(avg),
        [min, avg, max] => ChunkSizes::new(min, avg, max),
        _ => return Err("either AVG or MIN:AVG:MAX is needed".to_string()),
    };
    sizes.and_then(ChunkSizes::for_cutting).map_err(|error| error.to_string())
}

/// From the largest to the smallest: those of a sum get smaller.
const UNITS: [(char, u32); 7] =
    [('E', 60), ('P', 50), ('T', 40), ('G', 30), ('M', 20), ('K', 10), ('B', 0)];

fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size (65536, 64K, 0.5M)");
    let mut rest = text.trim_start();
    let mut units = &UNITS[..];
    let mut sum = 0u64;
    loop {
        let (whole, behind) = digits(rest).ok_or_else(wrong)?;
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => digits(behind).ok_or_else(wrong)?,
            None => ("", behind),
        };
        let behind = behind.trim_start();
        let (shift, behind) = match behind.chars().next() {
            None if fraction.is_empty() && !units.is_empty() => (0, behind),
            None => return Err(wrong()),
            Some(letter) => {
                let at = units.iter().position(|(unit, _)| *unit == letter).ok_or_else(wrong)?;
                let shift = units[at].1;
                units = &units[at + 1..];
                (shift, &behind[1..])
            }
        };
        let factor = 1u64 << shift;
        let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(factor));
        let part = match fraction {
            "" => 0,
            digits => {
                let part: f64 = format!("0.{digits}").parse().map_err(|_| wrong())?;
                (part * factor as f64) as u64
            }
        };
        sum = whole
            .and_then(|whole| whole.checked_add(part))
            .and_then(|bytes| sum.checked_add(bytes))
            .ok_or_else(|| format!("{text:?} is out of range"))?;
        rest = behind.trim_start();
        if rest.is_empty() {
            return Ok(sum);
        }
    }
}

/// The digits at the beginning, at least one, and what follows.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_casync_reads_them() {
        for (text, expected) in [
            ("65536", 65536),
            ("64K", 65536),
            (" 64K", 65536),
            ("1.5K", 1536),
            ("0.5M", 512 << 10),
            ("100B", 100),
            ("1K 512B", 1536),
            ("1K512B", 1536),
            ("1K 512", 1536),
            ("1G", 1 << 30),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in [
            "", "64k", "64KB", "64KiB", ".5M", "1.", "1.5", "1e3", "-1", "1B 1K", "1K 1K", "99E",
            "K",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_size_is_the_average_and_three_are_all() {
        assert_eq!(chunk_sizes("auto"), Ok(ChunkSizes::default()));
        assert_eq!(chunk_sizes("64K"), Ok(ChunkSizes::default()));
        assert_eq!(chunk_sizes("100B").map(|sizes| (sizes.min(), sizes.max())), Ok((25, 400)));
        assert_eq!(chunk_sizes("64:256:1024").unwrap().min(), 64);
        for text in
            ["16K:64K", ":64K:", "16K::256K", "3:2:1", "1:2:3", "1G", "0", "1K:auto:4K", "0.0001K"]
        {
            assert!(chunk_sizes(text).is_err(), "{text}");
        }
    }
}
