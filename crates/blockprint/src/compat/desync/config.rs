//! desync's configuration, as far as it is about stores in local folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::chunking::Form;
use engine::stores::StoreLocation;
use engine::{Error, Result};
use serde_json::{Map, Value};

use crate::compat::refusal::{nonsense, refuse};
use crate::render::complain;

/// What the file says about stores.
#[derive(Debug, Default)]
pub(super) struct Config {
    path: PathBuf,
    stores: Map<String, Value>,
}

impl Config {
    /// Reads `named`, or `~/.config/desync/config.json` if that is there.
    pub(super) fn read(named: Option<&Path>) -> Result<Self> {
        let path = match (named, std::env::var_os("HOME")) {
            (Some(path), _) => path.to_owned(),
            (None, Some(home)) => PathBuf::from(home).join(".config/desync/config.json"),
            (None, None) => return Ok(Config::default()),
        };
        let shown = path.display().to_string();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(cause) if named.is_none() && cause.kind() == io::ErrorKind::NotFound => {
                return Ok(Config::default());
            }
            Err(cause) => {
                return Err(Error::io(format!("cannot read the configuration {shown}"), cause));
            }
        };
        Config::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &[u8]) -> Result<Self> {
        let shown = path.display().to_string();
        let value: Value = serde_json::from_slice(text)
            .map_err(|cause| nonsense(format!("cannot read the configuration {shown}: {cause}")))?;
        let Value::Object(mut value) = value else {
            return Err(nonsense(format!("the configuration {shown} is no object")));
        };
        let stores = match value.remove("store-options") {
            Some(Value::Object(stores)) => stores,
            None | Some(Value::Null) => Map::new(),
            Some(_) => return Err(nonsense(format!("store-options in {shown} is no object"))),
        };
        Ok(Config { path, stores })
    }

    /// The form in which the store keeps new chunks; refuses what it asks for and is not done here.
    pub(super) fn form(&self, location: &StoreLocation) -> Result<Form> {
        let name = location.to_string();
        let matching: Vec<(&String, &Value)> =
            self.stores.iter().filter(|(key, _)| matches(key, &name)).collect();
        let (key, options) = match matching[..] {
            [] => return Ok(Form::Compressed),
            [(key, options)] => (key, options),
            _ => {
                let keys: Vec<&str> = matching.iter().map(|(key, _)| key.as_str()).collect();
                let shown = self.path.display();
                let keys = keys.join(" and ");
                return Err(nonsense(format!(
                    "in {shown}, {keys} are both about the store {name}"
                )));
            }
        };
        let place = format!("store-options of {key} in {}", self.path.display());
        let Value::Object(options) = options else {
            return Err(nonsense(format!("the {place} are no object")));
        };
        let mut form = Form::Compressed;
        for (option, value) in options {
            match option.as_str() {
                "uncompressed" => {
                    if is_on(value, option, &place)? {
                        form = Form::Plain;
                    }
                }
                "skip-verify" => {
                    if is_on(value, option, &place)? {
                        complain(&format!(
                            "desync: warning: skip-verify in the {place} is not followed: chunks are verified always"
                        ));
                    }
                }
                "encryption" if !is_on(value, option, &place)? => {}
                "encryption" | "encryption-algorithm" | "encryption-key" => {
                    return Err(refuse(format!(
                        "{option} in the {place} is not supported: encrypted stores are not"
                    )));
                }
                // About networks: for a folder they mean nothing, to that tool too.
                "timeout"
                | "error-retry"
                | "error-retry-base-interval"
                | "client-cert"
                | "client-key"
                | "ca-cert"
                | "trust-insecure"
                | "http-auth"
                | "http-cookie" => {}
                _ => return Err(refuse(format!("{option} in the {place} is not supported"))),
            }
        }
        Ok(form)
    }
}

fn is_on(value: &Value, option: &str, place: &str) -> Result<bool> {
    value.as_bool().ok_or_else(|| nonsense(format!("{option} in the {place} is no boolean")))
}

/// Whether a key, which may be a pattern, is about the store; a slash at the end means nothing.
fn matches(key: &str, name: &str) -> bool {
    let bare = |text: &str| match text.trim_end_matches('/') {
        "" => text.to_string(),
        rest => rest.to_string(),
    };
    let (key, name) = (bare(key), bare(name));
    key == name || glob(key.as_bytes(), name.as_bytes())
}

/// `*` and `?` stand for anything but `/`, `[a-z]` for one of these, a backslash takes its meaning from what follows.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let Some((&first, pattern_rest)) = pattern.split_first() else { return name.is_empty() };
    let next = name.split_first().filter(|(byte, _)| **byte != b'/');
    match (first, next) {
        (b'*', _) => {
            glob(pattern_rest, name) || next.is_some_and(|(_, name_rest)| glob(pattern, name_rest))
        }
        (b'?', Some((_, name_rest))) => glob(pattern_rest, name_rest),
        (b'[', Some((&byte, name_rest))) => match one_of(pattern_rest, byte) {
            Some((true, pattern_rest)) => glob(pattern_rest, name_rest),
            _ => false,
        },
        (b'?' | b'[', None) => false,
        (b'\\', _) => match (pattern_rest.split_first(), name.split_first()) {
            (Some((a, pattern_rest)), Some((b, name_rest))) if a == b => {
                glob(pattern_rest, name_rest)
            }
            _ => false,
        },
        _ => name
            .split_first()
            .is_some_and(|(&byte, name_rest)| byte == first && glob(pattern_rest, name_rest)),
    }
}

/// Whether `byte` is in the class that begins `pattern`, and what follows the class; `None` if it has no end.
fn one_of(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (inverted, class) = match pattern.strip_prefix(b"^") {
        Some(class) => (true, class),
        None => (false, pattern),
    };
    let end = class.iter().skip(1).position(|&byte| byte == b']')? + 1;
    let (class, rest) = (&class[..end], &class[end + 1..]);
    let mut found = false;
    let mut at = 0;
    while at < class.len() {
        let last =
            if class.get(at + 1) == Some(&b'-') && at + 2 < class.len() { at + 2 } else { at };
        found |= (class[at]..=class[last]).contains(&byte);
        at = last + 1;
    }
    Some((found != inverted, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str, store: &str) -> Result<Form> {
        let store = StoreLocation::parse(std::ffi::OsStr::new(store));
        Config::parse("config.json".into(), text.as_bytes())?.form(&store)
    }

    #[test]
    fn keys_are_locations_or_patterns_of_them() {
        for (key, name, expected) in [
            ("/srv/store", "/srv/store", true),
            ("/srv/store/", "/srv/store", true),
            ("/srv/store", "/srv/store/", true),
            ("/srv/*", "/srv/store", true),
            ("/srv/*", "/srv/a/b", false),
            ("/srv/st?re", "/srv/store", true),
            ("/srv/[a-t]tore", "/srv/store", true),
            ("/srv/[^a-t]tore", "/srv/store", false),
            ("/srv/[x]tore", "/srv/store", false),
            ("/srv/[x", "/srv/x", false),
            ("/srv/\\*", "/srv/*", true),
            ("/srv/\\*", "/srv/x", false),
            ("*", "", true),
            ("/srv/stores", "/srv/store", false),
        ] {
            assert_eq!(matches(key, name), expected, "{key} {name}");
        }
    }

    #[test]
    fn what_a_store_asks_for_is_followed_or_refused_by_name() {
        let one =
            |options: &str| form(&format!("{{\"store-options\":{{\"/s\":{options}}}}}"), "/s");
        assert_eq!(one("{}").unwrap(), Form::Compressed);
        assert_eq!(one("{\"uncompressed\":true}").unwrap(), Form::Plain);
        assert_eq!(one("{\"uncompressed\":true,\"timeout\":1}").unwrap(), Form::Plain);
        assert_eq!(one("{\"encryption\":false}").unwrap(), Form::Compressed);
        for option in [
            "encryption\":true",
            "encryption-key\":\"00\"",
            "encryption-algorithm\":\"x\"",
            "new\":1",
        ] {
            let error = one(&format!("{{\"{option}}}")).unwrap_err().to_string();
            assert!(error.starts_with(option.split('"').next().unwrap()), "{error}");
        }
        for text in ["[]", "{", "{\"store-options\":[]}", "{\"store-options\":{\"/s\":1}}"] {
            assert!(form(text, "/s").is_err(), "{text}");
        }
        assert!(one("{\"uncompressed\":1}").is_err());
        let twice = "{\"store-options\":{\"/s\":{},\"/*\":{}}}";
        assert!(form(twice, "/s").unwrap_err().to_string().contains("/* and /s"));
        assert_eq!(form(twice, "/t").unwrap(), Form::Compressed);
    }
}
