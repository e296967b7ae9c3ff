//! Text for YAML that readers of version 1.1 (PyYAML) and of version 1.2 take for the same string.

use std::time::{SystemTime, UNIX_EPOCH};

/// `text` in double quotes. What is not plainly visible is escaped, so that no reader complains of it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        let code = u32::from(character);
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Control characters, DEL, those of ISO 6429, NEL.
            '\0'..='\x1f' | '\x7f'..='\u{9f}' => out.push_str(&format!("\\x{code:02x}")),
            // Ends of lines in YAML 1.1, the byte order mark, and what no reader has to take as it is.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{code:04x}"));
            }
            '\u{10000}'.. => out.push_str(&format!("\\U{code:08x}")),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

/// A moment as RFC 3339 has it, in UTC, to the microsecond.
pub(super) fn timestamp(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (year, month, day) = date_of(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day counted from 1970-01-01. The calendar repeats every 400 years; a year is counted from
/// March, so that the leap day is its last.
fn date_of(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    // From 1970-01-01 back to 0000-03-01.
    let days = days + 719_468;
    let day_of_era = days % DAYS_IN_400_YEARS;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + days / DAYS_IN_400_YEARS * 400;
    match month {
        0..=9 => (year, month + 3, day),
        _ => (year + 1, month - 9, day),
    }
}

/// A part of one in ten thousandths, as a decimal number with a point: `0.4577`, `1.0`.
pub(super) fn part_of_one(ten_thousandths: u32) -> String {
    let digits = format!("{:04}", ten_thousandths % 10_000);
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    format!("{}.{digits}", ten_thousandths / 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use saphyr_parser::{Event, Parser};
    use std::time::Duration;

    #[test]
    fn every_character_comes_back_from_a_reader_of_yaml() {
        let all: Vec<char> = ('\0'..=char::MAX).collect();
        for part in all.chunks(4096) {
            let text: String = part.iter().collect();
            let quoted = quoted(&text);
            let mut read = None;
            for event in Parser::new_from_str(&quoted) {
                if let (Event::Scalar(value, ..), _) = event.unwrap() {
                    read = Some(value.into_owned());
                }
            }
            assert!(read.as_ref() == Some(&text), "from {:?}", part[0]);
            assert!(!quoted.chars().any(char::is_control));
        }
    }

    #[test]
    fn moments_are_those_of_date() {
        let mut seconds = 0_u64;
        while seconds < 8_000_000_000 {
            let moment = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(42);
            let days = seconds / 86_400;
            let (year, month, day) = date_of(days);
            let text = timestamp(moment);
            assert!(text.starts_with(&format!("{year:04}-{month:02}-{day:02}T")), "{text}");
            assert!(text.ends_with(".000042Z"), "{text}");
            // Each day follows the one before.
            let next = date_of(days + 1);
            let follows = next == (year, month, day + 1)
                || next == (year, month + 1, 1)
                || next == (year + 1, 1, 1) && (month, day) == (12, 31);
            assert!(follows, "{:?} before {next:?}", (year, month, day));
            seconds += 86_400;
        }
        let known = UNIX_EPOCH + Duration::from_secs(1_709_210_096);
        assert_eq!(timestamp(known), "2024-02-29T12:34:56.000000Z");
    }

    #[test]
    fn parts_of_one_have_a_point_and_no_needless_digits() {
        let texts = [(0, "0.0"), (1, "0.0001"), (4577, "0.4577"), (3700, "0.37"), (10_000, "1.0")];
        for (number, text) in texts {
            assert_eq!(part_of_one(number), text);
        }
    }
}
