//! Maps of unreadable ranges in the format of GNU ddrescue, so that its tools can go on where we stopped.
//!
//! Source of the format: the ddrescue manual, "Mapfile structure" (version 1.27), checked with ddrescuelog.

use std::fmt::Write as _;
use std::ops::Range;

use image::ranges::RangeSet;

/// The text of a mapfile for an image of `size_bytes` of which all but `unreadable` was read.
///
/// Read ranges are `+` (finished), the others `-` (bad sector).
pub fn to_text(unreadable: &RangeSet, size_bytes: u64) -> String {
    let mut text = format!(
        "# Mapfile. Created by blockprint {}\n\
         # current_pos  current_status  current_pass\n\
         0x{:08X}     +               1\n\
         #      pos        size  status\n",
        env!("CARGO_PKG_VERSION"),
        0
    );
    let mut line = |range: Range<u64>, status: char| {
        if !range.is_empty() {
            let len = range.end - range.start;
            let _ = writeln!(text, "0x{:08X}  0x{len:08X}  {status}", range.start);
        }
    };
    let mut at = 0;
    for bad in unreadable.iter() {
        line(at..bad.start, '+');
        line(bad.clone(), '-');
        at = bad.end;
    }
    line(at..size_bytes, '+');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_covers_the_image_without_gaps() {
        let bad: RangeSet = [4096..8192, 1 << 20..1 << 20 | 512].into_iter().collect();
        let text = to_text(&bad, 2 << 20);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).skip(1).collect();
        assert_eq!(
            lines,
            [
                "0x00000000  0x00001000  +",
                "0x00001000  0x00001000  -",
                "0x00002000  0x000FE000  +",
                "0x00100000  0x00000200  -",
                "0x00100200  0x000FFE00  +",
            ]
        );
    }
}
