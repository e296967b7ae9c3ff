//! What a process says on its standard error: passed on line by line, the last line kept for an error.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use image::Task;
use sys::pipe::Input;

/// Is told each line; true if it wants nobody else to hear of it.
pub(crate) type LineHook = Box<dyn Fn(&str) -> bool + Send>;

/// A thread that listens.
pub(super) struct Listening {
    thread: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    speaker: Arc<Mutex<Speaker>>,
}

/// A line that is longer is cut, in bytes.
const LINE_BYTES_MAX: usize = 1000;
/// More lines are not passed on.
const LINES_MAX: u64 = 1000;
/// After the end of the process, so long its last words are waited for: something that it left behind may hold its
/// standard error open for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// After that, so much is still read of what is there, in bytes: as much as a pipe holds.
const REST_BYTES_MAX: usize = 1 << 20;

impl Listening {
    /// Listens to `errors` of a process on `host`. Lines that `hook` does not take go to `task`.
    pub(super) fn start(errors: OwnedFd, host: String, hook: LineHook, task: Task) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let speaker = Arc::new(Mutex::new(Speaker { host, hook, task, held: None, lines: 0 }));
        let thread = thread::spawn({
            let (is_over, speaker) = (Arc::clone(&is_over), Arc::clone(&speaker));
            move || {
                let watch = Arc::new(move || match is_over.load(Ordering::Relaxed) {
                    true => Err(io::ErrorKind::ConnectionAborted.into()),
                    false => Ok(()),
                });
                listen(Input::new(errors, watch), &speaker);
            }
        });
        Listening { thread: Some(thread), is_over, speaker }
    }

    /// The process has ended: gives its last line if it is for an error, else passes it on like the others.
    pub(super) fn finish(&mut self, is_for_error: bool) -> Option<String> {
        let thread = self.thread.take()?;
        let until = Instant::now() + LAST_WORDS;
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        self.is_over.store(true, Ordering::Relaxed);
        let _ = thread.join();
        let mut speaker = self.speaker.lock().unwrap_or_else(PoisonError::into_inner);
        if is_for_error {
            return speaker.held.take().map(|line| without_name(&line).to_string());
        }
        speaker.pass_on_held();
        None
    }
}

/// What is known of the lines that came.
struct Speaker {
    host: String,
    hook: LineHook,
    task: Task,
    /// The last line that is neither a note nor a warning: perhaps the reason why it failed.
    held: Option<String>,
    lines: u64,
}

impl Speaker {
    fn hear(&mut self, line: &[u8]) {
        let line = harmless(line);
        if line.is_empty() || (self.hook)(&line) {
            return;
        }
        self.lines += 1;
        if self.lines > LINES_MAX {
            if self.lines == LINES_MAX + 1 {
                self.task.note(format!("{}: says more than is shown", self.host));
            }
            self.held = Some(line);
            return;
        }
        self.pass_on_held();
        if let Some(warning) = line.strip_prefix("warning: ") {
            self.task.warn(format!("{}: {warning}", self.host));
        } else if let Some(note) = line.strip_prefix("note: ") {
            self.task.note(format!("{}: {note}", self.host));
        } else {
            self.held = Some(line);
        }
    }

    fn pass_on_held(&mut self) {
        if let Some(line) = self.held.take()
            && self.lines <= LINES_MAX
        {
            self.task.note(format!("{}: {line}", self.host));
        }
    }
}

fn listen(mut input: Input, speaker: &Mutex<Speaker>) {
    let mut buf = [0; 4096];
    let mut line = Vec::new();
    let hear = |line: &mut Vec<u8>| {
        speaker.lock().unwrap_or_else(PoisonError::into_inner).hear(line);
        line.clear();
    };
    let mut hear_all = |bytes: &[u8]| {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => hear(&mut line),
                _ if line.len() < LINE_BYTES_MAX => line.push(byte),
                _ => {}
            }
        }
    };
    while let Ok(len @ 1..) = input.read(&mut buf) {
        hear_all(&buf[..len]);
    }
    // Nobody waits for more, but what the process said before it ended is there, however late it is read.
    for _ in 0..REST_BYTES_MAX / buf.len() {
        match input.read_ready(&mut buf) {
            Ok(len @ 1..) => hear_all(&buf[..len]),
            _ => break,
        }
    }
    hear(&mut line);
}

/// A line of another machine must not steer our terminal.
pub(crate) fn harmless(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let replace = |sign: char| match sign {
        '\t' => ' ',
        sign if sign.is_control() => char::REPLACEMENT_CHARACTER,
        sign => sign,
    };
    text.chars().map(replace).collect::<String>().trim().to_string()
}

/// In an error of ours, it is clear who speaks.
fn without_name(line: &str) -> &str {
    ["blockprint: ", "diskrsync: "].iter().find_map(|name| line.strip_prefix(name)).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use image::{Listener, Phase};

    use super::*;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl Listener for Heard {
        fn began(&self, _: Phase, _: u64) {}
        fn noted(&self, sentence: &str) {
            self.0.lock().unwrap().push(format!("note {sentence}"));
        }
        fn warned(&self, sentence: &str) {
            self.0.lock().unwrap().push(format!("warning {sentence}"));
        }
    }

    fn hear(said: &[u8], is_for_error: bool) -> (Vec<String>, Option<String>) {
        let heard = Heard::default();
        let task = Task::new(Box::new(heard.clone()), Arc::default());
        let (reader, mut writer) = io::pipe().unwrap();
        let mut listening = Listening::start(
            reader.into(),
            "host".to_string(),
            Box::new(|line| line == "taken"),
            task,
        );
        writer.write_all(said).unwrap();
        drop(writer);
        let last = listening.finish(is_for_error);
        let lines = heard.0.lock().unwrap().clone();
        (lines, last)
    }

    #[test]
    fn lines_are_passed_on_as_what_they_are_and_the_last_one_is_kept_for_the_error() {
        let said = b"note: a\nwarning: b\ntaken\nplain\r\n\nblockprint: cannot open x";
        let expected = ["note host: a", "warning host: b", "note host: plain"];
        let (lines, last) = hear(said, true);
        assert_eq!(lines, expected);
        assert_eq!(last.as_deref(), Some("cannot open x"));
        let (lines, last) = hear(said, false);
        assert_eq!(lines.last().unwrap(), "note host: blockprint: cannot open x");
        assert_eq!(last, None);
    }

    #[test]
    fn what_was_said_before_the_end_is_heard_also_if_nobody_had_time_to_listen() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"note: one\nwhy").unwrap();
        let heard = Heard::default();
        let task = Task::new(Box::new(heard.clone()), Arc::default());
        let hook: LineHook = Box::new(|_| false);
        let speaker = Speaker { host: "host".to_string(), hook, task, held: None, lines: 0 };
        let speaker = Mutex::new(speaker);
        // It is over, and somebody else holds the writing end.
        let watch = Arc::new(|| Err(io::ErrorKind::ConnectionAborted.into()));
        listen(Input::new(reader.into(), watch), &speaker);
        assert_eq!(*heard.0.lock().unwrap(), ["note host: one"]);
        assert_eq!(speaker.into_inner().unwrap().held.as_deref(), Some("why"));
        drop(writer);
    }

    #[test]
    fn a_line_cannot_steer_the_terminal_nor_be_endless() {
        let mut said = b"\x1b[2Jred\x07\n".to_vec();
        said.extend(vec![b'x'; 100_000]);
        let (lines, last) = hear(&said, true);
        assert_eq!(lines, ["note host: \u{fffd}[2Jred\u{fffd}"]);
        assert_eq!(last.unwrap().len(), LINE_BYTES_MAX);
    }

    #[test]
    fn endless_lines_are_not_all_shown() {
        let (lines, last) = hear(&b"again\n".repeat(5000), true);
        assert_eq!(lines.len() as u64, LINES_MAX);
        assert_eq!(lines.last().unwrap(), "note host: says more than is shown");
        assert_eq!(last.as_deref(), Some("again"));
    }
}
