//! A message as YAML: the first document, a mapping, its values taken as the text that stands there.

use saphyr_parser::{Event, Parser};

use super::{Fields, Reason, Value};

/// More events are not read: no request has as many.
const EVENTS: usize = 10_000;

const NO_MAPPING: &str = "the message is no YAML mapping";

/// Keys and values of the first document. A value that is no scalar is as if its key were not there.
pub(super) fn read(text: &str) -> Result<Fields, Reason> {
    let mut events = Parser::new_from_str(text).take(EVENTS);
    let mut fields = Fields::default();
    // The key whose value comes next; within, nothing for one that is no scalar.
    let mut key: Option<Option<String>> = None;
    let mut is_inside = false;
    loop {
        let event = match events.next() {
            Some(Ok((event, _))) => event,
            Some(Err(error)) => return Err(format!("the message is no YAML: {error}")),
            None => return Err(NO_MAPPING.to_string()),
        };
        let text = match event {
            Event::StreamStart | Event::DocumentStart(_) if !is_inside => continue,
            Event::MappingStart(..) if !is_inside => {
                is_inside = true;
                continue;
            }
            Event::MappingEnd if is_inside => return finish(events, fields),
            Event::MappingStart(..) | Event::SequenceStart(..) if is_inside => {
                skip(&mut events)?;
                None
            }
            Event::Alias(_) if is_inside => None,
            Event::Scalar(text, ..) if is_inside => Some(text.into_owned()),
            _ => return Err(NO_MAPPING.to_string()),
        };
        match (key.take(), text) {
            (None, text) => key = Some(text),
            (Some(Some(key)), Some(text)) => fields.0.push((key, Value::of(&text))),
            (Some(_), _) => {}
        }
    }
}

type Parsed<'a> = Result<(Event<'a>, saphyr_parser::Span), saphyr_parser::ScanError>;

/// Passes over a collection that has begun, to its end.
fn skip<'a>(events: &mut impl Iterator<Item = Parsed<'a>>) -> Result<(), Reason> {
    let mut depth = 1_usize;
    while depth > 0 {
        match events.next() {
            Some(Ok((Event::MappingStart(..) | Event::SequenceStart(..), _))) => depth += 1,
            Some(Ok((Event::MappingEnd | Event::SequenceEnd, _))) => depth -= 1,
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
