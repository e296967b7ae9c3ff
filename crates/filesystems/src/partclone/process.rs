//! Partclone as a child: in the C locale, in its own process group, and never outliving us.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use image::{Error, ErrorKind, Result};
use sys::ProcessGroup;
use sys::pipe::{Input, Watch};

use super::{Report, Reports, Variant};

/// Where partclone's programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partclone {
    /// A program is this and `.<variant>`.
    prefix: PathBuf,
    is_stub: bool,
}

/// Where partclone may be, in the order that apart-core looks.
const FOLDERS: [&str; 7] =
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local", "/usr/local/bin", "/usr/local/sbin"];

impl Partclone {
    /// The first of the usual folders that has `partclone.dd`, in the order that apart-core looks.
    pub fn find() -> Option<Self> {
        let mut places = FOLDERS.into_iter().map(|folder| Partclone {
            prefix: Path::new(folder).join("partclone"),
            is_stub: false,
        });
        places.find(|place| place.program(Variant::DD).is_some())
    }

    /// Programs that stand in for partclone, `<prefix>.<variant>`: everything is left to them then.
    pub fn stub(prefix: PathBuf) -> Self {
        Partclone { prefix, is_stub: true }
    }

    /// Whether these are programs that stand in for it.
    pub fn is_stub(&self) -> bool {
        self.is_stub
    }

    /// The program of `variant`, if it is there.
    pub fn program(&self, variant: Variant) -> Option<PathBuf> {
        let program = self.path_of(variant);
        program.is_file().then_some(program)
    }

    /// Starts `partclone.<variant> -c -s <device>` (raw: without `-c`). Its stream comes out of [`Running::stdout`].
    ///
    /// # Errors
    ///
    /// `NotFound` if the variant is not installed; those of starting a program.
    pub fn clone_device(&self, variant: Variant, device: &Path) -> Result<Running> {
        let mut command = self.command(variant);
        if !variant.is_raw() {
            command.arg("-c");
        }
        command.arg("-s").arg(device).stdin(Stdio::null()).stdout(Stdio::piped());
        start(command)
    }

    /// Starts `partclone.<variant> -r -o <device>` (raw: without `-r`). The stream goes into [`Running::stdin`].
    ///
    /// # Errors
    ///
    /// As [`clone_device`](Partclone::clone_device).
    pub fn restore_device(&self, variant: Variant, device: &Path) -> Result<Running> {
        let mut command = self.command(variant);
        if !variant.is_raw() {
            command.arg("-r");
        }
        command.arg("-o").arg(device).stdin(Stdio::piped()).stdout(Stdio::null());
        start(command)
    }

    fn path_of(&self, variant: Variant) -> PathBuf {
        let mut path = self.prefix.clone().into_os_string();
        path.push(".");
        path.push(variant.name());
        path.into()
    }

    fn command(&self, variant: Variant) -> Command {
        let mut command = Command::new(self.path_of(variant));
        // What it says is translated, and we read it.
        command.env("LC_ALL", "C").env_remove("LANGUAGE").stderr(Stdio::piped());
        command
    }
}

/// A partclone at work. Dropped, it is killed with its whole process group, and reaped.
pub struct Running {
    group: ProcessGroup,
    name: String,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    listening: Arc<Listening>,
    listener: Option<JoinHandle<()>>,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// It ended with status 0 and said that all is synced.
    pub success: bool,
    /// Why not, in a sentence, if it said so in words that we know.
    pub reason: Option<String>,
    /// The last lines of what it printed.
    pub last_lines: String,
}

/// Between the thread that reads what partclone says and the one that wants to know.
#[derive(Default)]
struct Listening {
    heard: Mutex<Heard>,
    is_over: Condvar,
    is_abandoned: AtomicBool,
}

#[derive(Default)]
struct Heard {
    /// How much was said.
    bytes: u64,
    reports: Reports,
    has_synced: bool,
    has_ended: bool,
    on_report: Option<Box<dyn Fn(Report) + Send>>,
    /// What was said before anybody listened; the oldest is left out.
    early: VecDeque<Report>,
}

/// So many reports are kept for one who has not listened yet.
const EARLY_REPORTS: usize = 256;

/// How often somebody who waits looks whether to go on.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the last words of a partclone that has ended are waited for. They are there already, unless something that it
/// started keeps the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn start(command: Command) -> Result<Running> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut group = ProcessGroup::spawn(command).map_err(|cause| {
        let what = match cause.kind() {
            io::ErrorKind::NotFound => format!("{name} is not installed"),
            _ => format!("cannot start {name}"),
        };
        Error::io(what, cause).at(&name, None)
    })?;
    let child = group.child_mut();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let listening = Arc::new(Listening::default());
    let listener = stderr.map(|stderr| listen_to(stderr, &listening)).transpose();
    let listener =
        listener.map_err(|cause| Error::io(format!("cannot listen to {name}"), cause))?;
    Ok(Running { group, name, stdin, stdout, listening, listener })
}

fn listen_to(stderr: ChildStderr, listening: &Arc<Listening>) -> io::Result<JoinHandle<()>> {
    let watched = Arc::clone(listening);
    let watch: Watch = Arc::new(move || match watched.is_abandoned.load(Ordering::Relaxed) {
        true => Err(io::ErrorKind::ConnectionAborted.into()),
        false => Ok(()),
    });
    let mut input = Input::new(OwnedFd::from(stderr), watch);
    let listening = Arc::clone(listening);
    thread::Builder::new().name("partclone".to_string()).spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(read @ 1..) = input.read(&mut buf) {
            listening.lock().hear(&buf[..read]);
        }
        listening.lock().has_ended = true;
        listening.is_over.notify_all();
    })
}

impl Listening {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of what it says, as long as more of it comes within `time`.
    fn wait_while_speaking(&self, time: Duration) {
        let mut heard = self.lock();
        loop {
            let before = heard.bytes;
            let wait = self.is_over.wait_timeout_while(heard, time, |heard| !heard.has_ended);
            heard = wait.unwrap_or_else(PoisonError::into_inner).0;
            if heard.has_ended || heard.bytes == before {
                return;
            }
        }
    }
}

impl Heard {
    fn hear(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for report in self.reports.feed(bytes) {
            self.has_synced |= report == Report::Synced;
            match &self.on_report {
                Some(on_report) => on_report(report),
                None => {
                    if self.early.len() == EARLY_REPORTS {
                        self.early.pop_front();
                    }
                    self.early.push_back(report);
                }
            }
        }
    }
}

impl Running {
    /// Its standard output, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Its standard input, once.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.group.pid()
    }

    /// Calls `on_report` for each thing that it says and that it has said already, from now on from a thread of its own.
    /// It must be quick, and not call this again.
    pub fn listen(&mut self, on_report: Box<dyn Fn(Report) + Send>) {
        let mut heard = self.listening.lock();
        heard.early.drain(..).for_each(&on_report);
        heard.on_report = Some(on_report);
    }

    /// Kills its process group, and waits.
    pub fn kill(&mut self) {
        self.group.kill();
    }

    /// Waits for its end, looking at `is_cancelled` several times a second: then it is killed. What it reads and writes
    /// must be taken from it before: its standard input is closed here if that has not been done.
    ///
    /// # Errors
    ///
    /// `Cancelled`. That partclone failed is no error here.
    pub fn wait(mut self, is_cancelled: &dyn Fn() -> bool) -> Result<Ended> {
        drop((self.stdin.take(), self.stdout.take()));
        let status = loop {
            if let Some(status) = self.group.wait_at_most(LOOK_EVERY) {
                break status;
            }
            if is_cancelled() {
                self.kill();
                return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
            }
        };
        self.listening.wait_while_speaking(LAST_WORDS);
        Ok(self.judge(status))
    }

    /// What it has given as the reason of a failure until now. It sleeps for three seconds before it ends then.
    pub(crate) fn reason(&self) -> Option<String> {
        self.listening.lock().reports.reason()
    }

    /// Tells, whenever it is called, whether there is such a reason.
    pub(crate) fn failure(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let listening = Arc::clone(&self.listening);
        move || listening.lock().reports.reason().is_some()
    }

    /// How it ended, if it does within `time`.
    pub(crate) fn wait_at_most(&self, time: Duration) -> Option<Ended> {
        let status = self.group.wait_at_most(time)?;
        self.listening.wait_while_speaking(LAST_WORDS);
        Some(self.judge(status))
    }

    fn judge(&self, status: ExitStatus) -> Ended {
        let heard = self.listening.lock();
        let success = status.success() && heard.has_synced;
        let reason = if success { None } else { heard.reports.reason() };
        let mut last_lines = heard.reports.last_lines();
        if status.code().is_none() {
            last_lines = format!("{last_lines}\n{} was ended: {status}", self.name);
        }
        Ended { success, reason, last_lines: last_lines.trim_start().to_string() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.group.kill();
        self.listening.is_abandoned.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
