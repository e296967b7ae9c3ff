//! Another machine: a process there, started by the system's ssh, whose input and output are a wire.

mod listen;
mod quote;
mod traffic;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::layers::Throttle;
use image::{Error, ErrorKind, Result, Task};
use sync::{Hangup, Wire};

pub(crate) use listen::LineHook;
use listen::Listening;
pub(crate) use listen::harmless;
pub(crate) use quote::CommandLine;
pub use traffic::WireBytes;
pub(crate) use traffic::{Traffic, wire_over};

/// How a remote end is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssh {
    /// Put before the host.
    pub flags: Vec<OsString>,
    /// The words that start blockprint (or diskrsync) there; by default its own name.
    pub remote_command: Option<String>,
}

/// A process on another machine; ended when dropped.
pub(crate) struct Peer {
    child: Child,
    host: String,
    task: Task,
    listening: Listening,
    traffic: Arc<Traffic>,
}

/// How it ended.
pub(crate) struct Ended {
    /// `None` if it succeeded; else the error that says its exit status and its last words.
    pub(crate) error: Option<Error>,
    /// 127, or 126: the shell there did not find what it was to run.
    pub(crate) not_found: bool,
}

/// How long a process is waited for that should end by itself, after a failure.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same after the user has said that all should stop.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Peer {
    /// Runs `line`, which the shell there reads, on `host`. The wire ends when the process does, and is left when `task`
    /// is cancelled. No more than `limit` goes over it. `hook` is told each line of its standard error.
    ///
    /// # Errors
    ///
    /// If ssh cannot be started here. Whether it reaches the host is known only later.
    pub(crate) fn call(
        ssh: &Ssh,
        host: &OsStr,
        line: &OsStr,
        limit: Option<&Limit>,
        hook: LineHook,
        task: &Task,
    ) -> Result<(Peer, Wire<'static>)> {
        let mut command = Command::new("ssh");
        // Behind `--`, nothing is an option; `Place::parse` has refused hosts that look like one all the same.
        command.args(&ssh.flags).arg("--").arg(host).arg(line);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|cause| {
            let what = match cause.kind() {
                io::ErrorKind::NotFound => "cannot find ssh on this machine (it must be in PATH)",
                _ => "cannot start ssh",
            };
            Error::io(what, cause)
        })?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(Error::new(ErrorKind::Io, "cannot take hold of the pipes of ssh"));
        };
        let shown = host.display().to_string();
        let listening = Listening::start(OwnedFd::from(errors), shown.clone(), hook, task.clone());
        let traffic = Arc::new(Traffic::default());
        // From here on a failure ends the process.
        let peer = Peer {
            child,
            host: shown,
            task: task.clone(),
            listening,
            traffic: Arc::clone(&traffic),
        };
        let wire = wire_over(
            OwnedFd::from(output),
            OwnedFd::from(input),
            Hangup::new(),
            &traffic,
            limit,
            task,
        )?;
        Ok((peer, wire))
    }

    /// The host, for people.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// What went over its wire until now.
    pub(crate) fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Waits until it has ended, which it should do since its wire has been dropped.
    ///
    /// # Errors
    ///
    /// `Cancelled`; then it is ended here.
    pub(crate) fn finish(mut self) -> Result<Ended> {
        let status = self.wait(None)?;
        Ok(self.judge(status))
    }

    /// The same, but gives the process back if that does not end in this time.
    pub(crate) fn finish_within(mut self, time: Duration) -> Result<Ended, Self> {
        match self.wait(Some(Instant::now() + time)) {
            Ok(status) => Ok(self.judge(status)),
            Err(_) => Err(self),
        }
    }

    /// The same after a failure, or when the task was cancelled: it is ended if it does not end soon.
    pub(crate) fn leave(mut self) -> Ended {
        let until = Instant::now() + PATIENCE;
        loop {
            // What was said last has a moment to get there also when the user has lost patience.
            let is_over =
                self.task.is_cancelled() && Instant::now() + PATIENCE > until + LAST_WORDS;
            match self.child.try_wait() {
                Ok(Some(status)) => return self.judge(status),
                Ok(None) if !is_over && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                // It is killed when dropped; that it was says nothing about it.
                _ => return Ended { error: None, not_found: false },
            }
        }
    }

    fn wait(&mut self, until: Option<Instant>) -> Result<ExitStatus> {
        let mut pause = Duration::from_millis(1);
        loop {
            let waited = self.child.try_wait();
            match waited.map_err(|cause| Error::io("cannot wait for ssh", cause))? {
                Some(status) => return Ok(status),
                None => self.task.checkpoint()?,
            }
            if until.is_some_and(|until| Instant::now() > until) {
                return Err(Error::new(ErrorKind::Io, "ssh does not end"));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn judge(&mut self, status: ExitStatus) -> Ended {
        let last_words = self.listening.finish(!status.success());
        if status.success() {
            return Ended { error: None, not_found: false };
        }
        let host = &self.host;
        let words = last_words.map(|words| format!(": {words}")).unwrap_or_default();
        let not_found = matches!(status.code(), Some(126 | 127));
        let sentence = match (status.code(), status.signal()) {
            (Some(255), _) => format!("ssh did not reach {host}, or lost it{words}"),
            (Some(127), _) => format!("{host} has no such program{words}"),
            (Some(126), _) => format!("{host} cannot run the program{words}"),
            (Some(code), _) => {
                format!("the other end on {host} failed (exit status {code}){words}")
            }
            (None, signal) => {
                format!("ssh to {host} was ended by signal {}{words}", signal.unwrap_or(0))
            }
        };
        Ended { error: Some(Error::new(ErrorKind::Io, sentence)), not_found }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Nothing to be done, and nothing left to say, if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.listening.finish(false);
    }
}

/// A budget of bytes a second for both directions of all wires of an operation.
#[derive(Clone)]
pub(crate) struct Limit {
    throttle: Throttle,
    piece_bytes: usize,
}

impl Limit {
    /// At most `bytes_per_s`.
    pub(crate) fn new(bytes_per_s: u64) -> Self {
        const PIECE_BYTES: u64 = 64 << 10;
        // Small enough that nobody sleeps for long, and sees a wish to stop.
        let piece_bytes = (bytes_per_s / 20).clamp(1, PIECE_BYTES) as usize;
        Limit { throttle: Throttle::new(bytes_per_s), piece_bytes }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A child that is no ssh: what a `Peer` makes of any process.
    fn peer(script: &str) -> (Peer, Wire<'static>) {
        let task = Task::silent();
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let errors = child.stderr.take().unwrap().into();
        let listening =
            Listening::start(errors, "there".to_string(), Box::new(|_| false), task.clone());
        let traffic = Arc::new(Traffic::default());
        let wire =
            wire_over(output.into(), input.into(), Hangup::new(), &traffic, None, &task).unwrap();
        (Peer { child, host: "there".to_string(), task, listening, traffic }, wire)
    }

    #[test]
    fn what_goes_over_a_wire_is_counted_and_its_end_is_seen() {
        let (peer, wire) = peer("cat; echo end");
        let Wire { mut input, mut output, .. } = wire;
        output.write_all(b"hello\n").unwrap();
        drop(output);
        let mut text = String::new();
        input.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello\nend\n");
        let traffic = Arc::clone(peer.traffic());
        assert!(peer.finish().unwrap().error.is_none());
        assert_eq!((traffic.sent_bytes(), traffic.received_bytes()), (6, 10));
        assert!(traffic.has_ended());
    }

    #[test]
    fn an_exit_status_has_its_sentence_and_the_last_words() {
        for (code, part) in [
            (255, "ssh did not reach there, or lost it: why"),
            (127, "there has no such program: why"),
            (3, "the other end on there failed (exit status 3): why"),
        ] {
            let (peer, wire) = peer(&format!("echo first >&2; echo why >&2; exit {code}"));
            drop(wire);
            let ended = peer.finish().unwrap();
            assert_eq!(ended.error.unwrap().to_string(), part);
            assert_eq!(ended.not_found, code == 127);
        }
    }

    #[test]
    fn a_peer_that_does_not_end_is_ended_and_leaves_no_zombie() {
        let (peer, wire) = peer("exec sleep 60");
        let process = format!("/proc/{}", peer.child.id());
        assert!(std::path::Path::new(&process).exists());
        drop(wire);
        drop(peer);
        assert!(!std::path::Path::new(&process).exists());
    }

    #[test]
    fn a_cancelled_task_ends_a_wait_on_the_wire() {
        let (peer, wire) = peer("exec sleep 60");
        let Wire { mut input, .. } = wire;
        peer.task.cancel();
        assert_eq!(input.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(peer.finish().map(|_| ()).unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn a_process_that_holds_standard_error_open_is_not_waited_for() {
        let (peer, wire) = peer("sleep 20 & exit 0");
        drop(wire);
        let start = Instant::now();
        assert!(peer.finish().unwrap().error.is_none());
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_limit_is_kept_in_both_directions() {
        let limit = Limit::new(200_000);
        let traffic = Arc::new(Traffic::default());
        let (reader, writer) = io::pipe().unwrap();
        let wire = wire_over(
            reader.into(),
            writer.into(),
            Hangup::new(),
            &traffic,
            Some(&limit),
            &Task::silent(),
        );
        let Wire { mut input, mut output, .. } = wire.unwrap();
        let start = Instant::now();
        output.write_all(&[7; 30_000]).unwrap();
        drop(output);
        let mut all = Vec::new();
        input.read_to_end(&mut all).unwrap();
        // 60,000 bytes at 200,000 a second, less what may be granted ahead.
        assert!(start.elapsed() >= Duration::from_millis(220));
        assert_eq!(all.len(), 30_000);
    }
}
