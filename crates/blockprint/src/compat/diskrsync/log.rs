//! Lines on standard error with a date in front, as Go's log writes them.

use crate::render::complain;

/// One line, with the local time before it.
pub(in crate::compat) fn line(text: &str) {
    complain(&dated(text));
}

/// The line, for whoever has to write it between bars.
pub(super) fn dated(text: &str) -> String {
    let now = engine::LocalTime::now();
    format!(
        "{:04}/{:02}/{:02} {:02}:{:02}:{:02} {text}",
        now.year, now.month, now.day, now.hour, now.minute, now.second
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_date_and_time() {
        let line = dated("text");
        let shape: String =
            line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000/00/00 00:00:00 text");
        assert!(line.starts_with("20"));
    }
}
