//! Words for a shell on another machine, which must come out as what they were.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use image::{Error, ErrorKind, Result};

/// A line for a POSIX shell, put together word by word.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandLine(Vec<u8>);

impl CommandLine {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One more word. No byte of it means anything to the shell.
    ///
    /// # Errors
    ///
    /// `Invalid` for a word with a NUL, which no program can be given.
    pub(crate) fn word(mut self, word: impl AsRef<OsStr>) -> Result<Self> {
        let word = word.as_ref().as_bytes();
        if word.contains(&0) {
            let shown = String::from_utf8_lossy(word).replace('\0', "\\0");
            let sentence = format!("{shown:?} cannot be sent to another machine: it holds a NUL");
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        self.separate();
        quote(word, &mut self.0);
        Ok(self)
    }

    /// One more word, the name of a file or program: `~/` at its beginning is the home folder there, as people expect.
    pub(crate) fn path(mut self, path: impl AsRef<OsStr>) -> Result<Self> {
        let Some(below) = path.as_ref().as_bytes().strip_prefix(b"~/") else {
            return self.word(path);
        };
        self.separate();
        let below = CommandLine::new().word(OsStr::from_bytes(below))?;
        self.0.extend(b"~/");
        self.0.extend(below.0);
        Ok(self)
    }

    /// The words of `command`, cut at white space, each as [`path`](Self::path).
    pub(crate) fn words_of(self, command: &str) -> Result<Self> {
        command.split_whitespace().try_fold(self, CommandLine::path)
    }

    /// More of the line, written for the shell as it stands.
    pub(crate) fn script(mut self, script: &str) -> Self {
        self.separate();
        self.0.extend(script.as_bytes());
        self
    }

    /// The line.
    pub(crate) fn finish(self) -> OsString {
        OsString::from_vec(self.0)
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push(b' ');
        }
    }
}

/// In single quotes nothing but they themselves is special to a POSIX shell. Plain words stay as they are, so that the
/// line is readable, and what older peers expect.
fn quote(word: &[u8], line: &mut Vec<u8>) {
    let is_plain = |&byte: &u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        line.extend(word);
        return;
    }
    line.push(b'\'');
    for &byte in word {
        match byte {
            b'\'' => line.extend(b"'\\''"),
            _ => line.push(byte),
        }
    }
    line.push(b'\'');
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What `sh` makes of a line: its words, each with a NUL behind it.
    fn words(line: &OsStr) -> Vec<OsString> {
        let mut script = OsString::from("printf '%s\\0' ");
        script.push(line);
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.status.success(), "{line:?}");
        let words = output.stdout.split_inclusive(|&byte| byte == 0);
        words.map(|word| OsString::from_vec(word[..word.len() - 1].to_vec())).collect()
    }

    const NASTY: [&[u8]; 16] = [
        b"plain",
        b"",
        b"two words",
        b"it's",
        b"'",
        b"\"$HOME\"",
        b"$(touch /tmp/never)",
        b"`false`",
        b"line\nbreak\n",
        b"-oProxyCommand=x",
        b"--",
        b"back\\slash\\",
        b"*?[a]{b,c}~",
        b"; exit 3 & | > <",
        b"\xff\xfe not utf-8",
        b"tab\tand \x01 control",
    ];

    #[test]
    fn every_word_arrives_as_it_was() {
        let mut line = CommandLine::new();
        for word in NASTY {
            line = line.word(OsStr::from_bytes(word)).unwrap();
        }
        let expected = NASTY.map(|word| OsStr::from_bytes(word).to_owned());
        assert_eq!(words(&line.finish()), expected);
    }

    #[test]
    fn a_line_in_a_line_arrives_as_it_was() {
        for word in NASTY {
            let word = OsStr::from_bytes(word);
            let inner = CommandLine::new().script("printf %s").word(word).unwrap().finish();
            let outer = CommandLine::new().script("sh -c").word(inner).unwrap().finish();
            let output = Command::new("sh").arg("-c").arg(outer).output().unwrap();
            assert_eq!(OsString::from_vec(output.stdout), word);
        }
    }

    #[test]
    fn plain_words_are_not_quoted_and_a_home_folder_is_found() {
        let line = CommandLine::new().word("--target").unwrap();
        let line = line.script(" --no-compress").path("/srv/a-b_c.img").unwrap();
        assert_eq!(line.finish(), "--target  --no-compress /srv/a-b_c.img");
        let line =
            CommandLine::new().words_of("env A=1 ~/my/bin/x").unwrap().path("~/a b").unwrap();
        assert_eq!(line.clone().finish(), "env A=1 ~/my/bin/x ~/'a b'");
        assert_eq!(CommandLine::new().path("~root").unwrap().finish(), "'~root'");
    }

    #[test]
    fn a_nul_is_refused() {
        let error = CommandLine::new().word(OsStr::from_bytes(b"a\0b")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}
