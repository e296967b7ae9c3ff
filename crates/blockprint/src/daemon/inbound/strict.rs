//! A message as YAML: the first document, a mapping, its values taken as the text that stands there.

use saphyr_parser::{Event, Parser};

use super::{Fields, Reason, Value};

/// More events are not read: no request has as many.
const EVENTS: usize = 10_000;

/// Keys and values of the first document. A value that is no scalar is as if its key were not there.
pub(super) fn read(text: &str) -> Result<Fields, Reason> {
    let mut events = Parser::new_from_str(text).take(EVENTS);
    let mut fields = Fields::default();
    let mut key: Option<Option<String>> = None;
    // 0 outside of the mapping, 1 in it, more in values that are no scalars.
    let mut depth = 0_usize;
    loop {
        let event = match events.next() {
            Some(Ok((event, _))) => event,
            Some(Err(error)) => return Err(format!("the message is no YAML: {error}")),
            None => return Err("the message is no YAML mapping".to_string()),
        };
        let is_key = depth == 1 && key.is_none();
        match event {
            Event::MappingStart(..) if depth == 0 => depth = 1,
            Event::MappingStart(..) | Event::SequenceStart(..) if depth > 0 => {
                if is_key {
                    key = Some(None);
                    // The key itself is the collection; its value follows when it has ended.
                    depth += 1;
                    skip(&mut events, &mut depth)?;
                } else {
                    depth += 1;
                    skip(&mut events, &mut depth)?;
                    key = None;
                }
            }
            Event::MappingEnd if depth == 1 => return finish(events, fields),
            Event::Scalar(value, ..) if is_key => key = Some(Some(value.into_owned())),
            Event::Scalar(value, ..) if depth == 1 => {
                if let Some(Some(key)) = key.take() {
                    fields.0.push((key, Value::of(&value)));
                }
            }
            Event::Alias(_) if is_key => key = Some(None),
            Event::Alias(_) if depth == 1 => key = None,
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            _ => return Err("the message is no YAML mapping".to_string()),
        }
    }
}

type Parsed<'a> = Result<(Event<'a>, saphyr_parser::Span), saphyr_parser::ScanError>;

/// Passes over a collection that has begun, to its end.
fn skip<'a>(
    events: &mut impl Iterator<Item = Parsed<'a>>,
    depth: &mut usize,
) -> Result<(), Reason> {
    while *depth > 1 {
        match events.next() {
            Some(Ok((Event::MappingStart(..) | Event::SequenceStart(..), _))) => *depth += 1,
            Some(Ok((Event::MappingEnd | Event::SequenceEnd, _))) => *depth -= 1,
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(format!("the message is no YAML: {error}")),
            None => return Err("the message is longer than any request".to_string()),
        }
    }
    Ok(())
}

/// The document has to end behind the mapping. What comes in later documents does not count.
fn finish<'a>(
    mut events: impl Iterator<Item = Parsed<'a>>,
    fields: Fields,
) -> Result<Fields, Reason> {
    match events.next() {
        Some(Err(error)) => Err(format!("the message is no YAML: {error}")),
        _ => Ok(fields),
    }
}
