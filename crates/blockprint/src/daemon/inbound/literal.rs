//! A message as clients write it that know nothing of YAML: lines of `key: value`, the value as it stands.

use super::{Fields, KEYS, Value};

/// A message that is nothing but lines of known keys and values.
pub(super) struct Lines {
    pub(super) fields: Fields,
    /// For each field, whether its value begins with what in YAML is no plain text.
    has_marks: Vec<bool>,
}

/// What begins a value that is not to be taken as it stands: quotes, flow style, blocks, anchors, aliases, tags.
const MARKS: &[u8] = b"\"'{[|>&*!";

/// Reads such lines; `None` if it is anything else.
pub(super) fn read(message: &[u8]) -> Option<Lines> {
    let mut lines = Lines { fields: Fields::default(), has_marks: Vec::new() };
    for (index, line) in message.split(|&byte| byte == b'\n').enumerate() {
        let end = line.trim_ascii_end();
        if end.is_empty() || index == 0 && end == b"---" {
            continue;
        }
        let colon = end.iter().position(|&byte| byte == b':')?;
        let key = std::str::from_utf8(&end[..colon]).ok().filter(|key| KEYS.contains(key))?;
        let rest = &end[colon + 1..];
        if !rest.is_empty() && !rest[0].is_ascii_whitespace() {
            return None;
        }
        let whole = rest.trim_ascii();
        lines.has_marks.push(whole.first().is_some_and(|byte| MARKS.contains(byte)));
        let value = Value { whole: whole.to_vec(), short: before_comment(rest) };
        lines.fields.0.push((key.to_string(), value));
    }
    (!lines.fields.0.is_empty()).then_some(lines)
}

impl Lines {
    /// These, but those values that are marked as `strict` has them: the message as YAML, if it is any, else each line.
    pub(super) fn with_quoted_of(mut self, strict: Option<&Fields>) -> Fields {
        for ((key, value), has_mark) in self.fields.0.iter_mut().zip(&self.has_marks) {
            if !has_mark {
                continue;
            }
            let of = |fields: &Fields| {
                fields.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
            };
            match strict {
                Some(strict) => *value = of(strict).unwrap_or_else(|| Value::of("")),
                // What is no YAML even by itself stands as it is.
                None => {
                    let line = [key.as_bytes(), b": ", &value.whole].concat();
                    let alone = String::from_utf8(line).ok();
                    let alone = alone.and_then(|line| super::strict::read(&line).ok());
                    *value = alone.as_ref().and_then(of).unwrap_or_else(|| value.clone());
                }
            }
        }
        self.fields
    }
}

/// What stands before a comment, if there may be one: a number sign behind a blank.
fn before_comment(rest: &[u8]) -> Option<Vec<u8>> {
    let at = rest.windows(2).position(|pair| pair[0].is_ascii_whitespace() && pair[1] == b'#')?;
    Some(rest[..at].trim_ascii().to_vec())
}
