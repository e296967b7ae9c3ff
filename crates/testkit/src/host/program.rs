//! Runs the built program and judges what it said and how it ended.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{TempDir, tool};

/// One call of the program, being put together.
#[derive(Debug)]
pub struct Program {
    command: Command,
}

impl Program {
    /// A call of the program at `path`, which a test gives as `env!("CARGO_BIN_EXE_blockprint")`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        Program { command: tool(&path.to_string_lossy()) }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// In this working folder.
    #[must_use]
    pub fn current_dir(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The command as it stands, for what this type does not offer.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.spawn().wait()
    }

    /// Starts it. What it says goes to files, so that it never waits for us to read, and a process it leaves
    /// behind cannot hold us up by keeping a pipe open.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let folder = TempDir::new("program");
        let file = |name| File::create(folder.join(name)).expect("the folder is new and empty");
        self.command.stdout(file("stdout")).stderr(file("stderr"));
        let started = Instant::now();
        let line = format!("{:?}", self.command);
        let child =
            self.command.spawn().unwrap_or_else(|cause| panic!("cannot start {line}: {cause}"));
        Running { child: Some(child), line, started, folder }
    }
}

/// The program while it runs; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Option<Child>,
    line: String,
    started: Instant,
    folder: TempDir,
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Sends it a signal by name: `INT`, `TERM`, `KILL`. Nothing happens if it has ended by then.
    pub fn signal(&self, name: &str) {
        let _ = tool("sh")
            .args(["-c", "kill -s \"$0\" \"$1\""])
            .arg(name)
            .arg(self.pid().to_string())
            .output();
    }

    /// What it has written to standard error until now.
    pub fn stderr(&self) -> String {
        self.said("stderr")
    }

    /// What it has written to standard output until now.
    pub fn stdout(&self) -> String {
        self.said("stdout")
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        let mut child = self.child.take().expect("a running program has a process");
        let status = child.wait().expect("a child can be waited for");
        self.outcome(status)
    }

    /// Waits until it ends, but panics, with what it said, if it does not in that time.
    #[track_caller]
    pub fn wait_at_most(mut self, time: Duration) -> Outcome {
        let mut child = self.child.take().expect("a running program has a process");
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                return self.outcome(status);
            }
            if start.elapsed() > time {
                self.child = Some(child);
                panic!("{} runs longer than {time:?} and said:\n{}", self.line, self.stderr());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        Outcome {
            line: self.line.clone(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            status,
            elapsed: self.started.elapsed(),
        }
    }

    fn said(&self, name: &str) -> String {
        let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a call of the program ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The call, for messages.
    pub line: String,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// From start to end.
    pub elapsed: Duration,
}

impl Outcome {
    /// Panics, with all it said, unless it succeeded.
    #[track_caller]
    pub fn expect_ok(self) -> Self {
        self.expect_exit(0)
    }

    /// Panics, with all it said, unless it ended with that exit code.
    #[track_caller]
    pub fn expect_exit(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Panics, with all it said, unless it said `part` on standard error.
    #[track_caller]
    pub fn expect_error(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "it does not say {part:?}:\n{self}");
        self
    }

    /// The number of the signal that ended it, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Its standard output, a JSON value on each line. Panics on a line that is none.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &str| match serde_json::from_str(line) {
            Ok(value) => value,
            Err(cause) => panic!("this line is no JSON ({cause}): {line}\n{self}"),
        };
        self.stdout.lines().map(parse).collect()
    }

    /// The events of that kind among its JSON lines: `progress`, `note`, `warning`, `error`, `result`.
    #[track_caller]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let mut lines = self.json_lines();
        lines.retain(|line| line["event"] == kind);
        lines
    }

    /// The one result among its JSON lines.
    #[track_caller]
    pub fn result(&self) -> Value {
        let mut results = self.events("result");
        assert_eq!(results.len(), 1, "one result was expected:\n{self}");
        results.remove(0)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Outcome { line, stdout, stderr, status, .. } = self;
        write!(f, "{line}\nended with {status}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::run;
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[test]
    fn what_a_program_said_and_how_it_ended_is_kept() {
        let outcome = shell("echo out; echo err >&2; exit 4").run().expect_exit(4);
        assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn events_are_told_apart_by_kind() {
        let script =
            r#"echo '{"event":"note","text":"a"}'; echo '{"event":"result","frozen_ms":2.5}'"#;
        let outcome = shell(script).run().expect_ok();
        assert_eq!(outcome.result()["frozen_ms"], 2.5);
        assert_eq!(outcome.events("note").len(), 1);
    }

    #[test]
    fn a_killed_program_tells_its_signal() {
        let running = shell("exec sleep 60").spawn();
        running.signal("TERM");
        assert_eq!(running.wait().signal(), Some(15));
    }

    #[test]
    fn a_program_that_leaves_a_child_behind_is_not_waited_for() {
        let outcome = shell("sleep 3 & exit 0").run().expect_ok();
        assert!(outcome.elapsed < Duration::from_secs(2), "{:?}", outcome.elapsed);
    }

    #[test]
    fn a_dropped_program_is_killed() {
        let running = shell("exec sleep 60").spawn();
        let process = PathBuf::from(format!("/proc/{}", running.pid()));
        assert!(process.exists());
        drop(running);
        assert!(!process.exists());
    }

    #[test]
    #[should_panic(expected = "no JSON")]
    fn a_line_that_is_no_json_is_found() {
        shell("echo '{\"event\":'").run().json_lines();
    }

    #[test]
    #[should_panic(expected = "runs longer than")]
    fn a_program_that_hangs_is_found() {
        shell("exec sleep 60").spawn().wait_at_most(Duration::from_millis(50));
    }

    #[test]
    fn tools_and_programs_share_a_search_path() {
        assert!(run(tool("sh").args(["-c", "echo $PATH"])).contains("/usr/sbin"));
    }
}
