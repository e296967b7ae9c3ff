//! The number of a job.

use std::fmt;
use std::fs::File;
use std::io::Read;

use image::{Error, Result};

/// The number of a job: a UUID, version 4, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(String);

impl JobId {
    /// One that nobody has yet.
    ///
    /// # Errors
    ///
    /// Where the system gives no random bytes.
    pub fn new() -> Result<Self> {
        let mut bytes = [0; 16];
        let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        random.map_err(|cause| Error::io("cannot read /dev/urandom for a number", cause))?;
        // RFC 9562, section 5.4: version 4, variant 10.
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.iter().enumerate() {
            if [4, 6, 8, 10].contains(&index) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        Ok(JobId(text))
    }

    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let is_right = text.len() == 36
            && text.bytes().enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => byte == b'-',
                14 => byte == b'4',
                19 => matches!(byte, b'8' | b'9' | b'a' | b'b'),
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            });
        is_right.then(|| JobId(text.to_string()))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_uuid_that_is_read_again_and_never_the_same() {
        let ids: std::collections::HashSet<JobId> =
            (0..1000).map(|_| JobId::new().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        for id in &ids {
            assert_eq!(JobId::parse(&id.to_string()).as_ref(), Some(id));
        }
    }

    #[test]
    fn what_is_no_such_number_is_none() {
        let right = "0b8b9a52-91f2-4c0d-8a2c-0f6b5a8f6a11";
        assert!(JobId::parse(right).is_some());
        for wrong in ["", "12345678", &right[1..], &right.to_uppercase(), &format!("{right}0")] {
            assert_eq!(JobId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(JobId::parse(&right.replace("-4c", "-1c")), None);
        assert_eq!(JobId::parse(&right.replace("-8a", "-0a")), None);
    }
}
