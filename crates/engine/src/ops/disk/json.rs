//! Fields of a JSON document that somebody else may have written: each is asked for by name, and checked.

use image::{Error, ErrorKind, Result};
use serde_json::Value;

/// An object in a document, and how to say where it is.
pub(super) struct Object<'a> {
    value: &'a Value,
    file: &'a str,
    place: String,
}

impl<'a> Object<'a> {
    /// The whole of the document in `file`.
    pub(super) fn root(value: &'a Value, file: &'a str) -> Self {
        Object { value, file, place: String::new() }
    }

    /// The file that the document is in.
    pub(super) fn file(&self) -> &'a str {
        self.file
    }

    /// The object below `key`, if there is one and it is not null.
    pub(super) fn below(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Object { value, file: self.file, place: format!("{}{key}.", self.place) })
    }

    /// The objects in the list `key`.
    pub(super) fn each(&self, key: &str) -> Result<Vec<Self>> {
        let list = self.value.get(key).and_then(Value::as_array);
        let list = list.ok_or_else(|| self.refuse(key, "is no list"))?;
        let object = |(index, value)| Object {
            value,
            file: self.file,
            place: format!("{}{key}[{index}].", self.place),
        };
        Ok(list.iter().enumerate().map(object).collect())
    }

    /// A text; `None` where there is none.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.value.get(key).and_then(Value::as_str).map(str::to_string)
    }

    /// A text that has to be there.
    pub(super) fn needed_text(&self, key: &str) -> Result<String> {
        self.text(key).ok_or_else(|| self.refuse(key, "is no text"))
    }

    /// A number of bytes or the like; `None` where there is none.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.value.get(key).and_then(Value::as_u64)
    }

    /// A number that has to be there.
    pub(super) fn needed_number(&self, key: &str) -> Result<u64> {
        self.number(key).ok_or_else(|| self.refuse(key, "is no whole number"))
    }

    /// The document cannot be used, because of what `key` is.
    pub(super) fn refuse(&self, key: &str, what: &str) -> Error {
        let sentence = format!("{} cannot be used: {}{key} {what}", self.file, self.place);
        Error::new(ErrorKind::Damaged, sentence).at(self.file, None)
    }
}
