//! A helper program as a child of ours: at the head of a process group of its own, killed as a whole, never outliving us.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process_group,
    set_parent_process_death_signal, waitid,
};

/// A child and all that it starts, as long as those stay in its process group.
///
/// When this process ends, in whatever way, the kernel kills the child. When this is dropped, the whole group is
/// killed, also what the child left behind, and the child is reaped. Until then it stays a zombie after its end, so
/// that its number, which is also that of the group, is nobody else's.
#[derive(Debug)]
pub struct ProcessGroup {
    child: Child,
    pid: Pid,
    end: Arc<End>,
    keeper: Option<JoinHandle<()>>,
}

/// How the child ended, once it has.
#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    is_known: Condvar,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProcessGroup {
    /// Starts `command`.
    ///
    /// # Errors
    ///
    /// Those of fork and exec: `NotFound` if there is no such program.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let ours = getpid();
        command.process_group(0);
        // SAFETY: between fork and exec only system calls are made that are safe in a handler of signals (prctl,
        // getppid); nothing is allocated: an `io::Error` of a number is a number.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // The parent may have died before the signal was asked for.
                match getppid() == Some(ours) {
                    true => Ok(()),
                    false => Err(io::Error::from(Errno::SRCH)),
                }
            });
        }
        // The signal comes when the *thread* ends that forked. So this one forks, and lives as long as the child.
        let end = Arc::new(End::default());
        let (sender, receiver) = mpsc::sync_channel(1);
        let told = Arc::clone(&end);
        let keeper = thread::Builder::new().name("child".to_string()).spawn(move || {
            let started = command.spawn();
            let pid = started.as_ref().ok().map(Pid::from_child);
            // The one who waits for it does not go away meanwhile.
            let _ = sender.send(started);
            if let Some(pid) = pid {
                *told.lock() = Some(see_end(pid));
                told.is_known.notify_all();
            }
        })?;
        let child = receiver.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
        let pid = Pid::from_child(&child);
        Ok(ProcessGroup { child, pid, end, keeper: Some(keeper) })
    }

    /// The child, for its pipes. It must not be waited for.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The number of the child and of the group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, if it has.
    pub fn status(&self) -> Option<ExitStatus> {
        *self.end.lock()
    }

    /// Waits until the child has ended, but no longer than `time`.
    pub fn wait_at_most(&self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        let mut status = self.end.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if status.is_some() || left.is_zero() {
                return *status;
            }
            let woken = self.end.is_known.wait_timeout(status, left);
            status = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Kills all of the group, and waits until the child is dead: a moment, but for ever if it hangs in a device that
    /// does not answer.
    pub fn kill(&self) {
        // Nobody left to kill is what was wanted.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let mut status = self.end.lock();
        while status.is_none() {
            status = self.end.is_known.wait(status).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        let _ = self.child.wait();
    }
}

/// Waits for the end of a child, and leaves it a zombie.
fn see_end(pid: Pid) -> ExitStatus {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Ok(Some(status)) => {
                let raw = match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => code << 8,
                    (None, signal) => signal.unwrap_or(0),
                };
                return ExitStatus::from_raw(raw);
            }
            Ok(None) | Err(Errno::INTR) => {}
            // Whoever ignores SIGCHLD has no zombies: that it is gone is all that can be known.
            Err(_) => return ExitStatus::from_raw(libc::SIGKILL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::path::{Path, PathBuf};
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str) -> ProcessGroup {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        ProcessGroup::spawn(command).unwrap()
    }

    fn first_line(group: &mut ProcessGroup) -> String {
        let mut line = String::new();
        let pipe = group.child_mut().stdout.take().unwrap();
        BufReader::new(pipe).read_line(&mut line).unwrap();
        line.trim().to_string()
    }

    fn process(pid: &str) -> PathBuf {
        Path::new("/proc").join(pid)
    }

    /// Whether it is gone, or nothing but a zombie that waits for its parent.
    fn is_over(pid: &str) -> bool {
        let stat = std::fs::read_to_string(process(pid).join("stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    }

    fn comes_true(condition: impl Fn() -> bool) -> bool {
        (0..500).any(|_| {
            condition() || {
                thread::sleep(Duration::from_millis(10));
                false
            }
        })
    }

    #[test]
    fn how_a_child_ended_is_known() {
        let ended = shell("exit 3").wait_at_most(Duration::from_secs(60));
        assert_eq!(ended.unwrap().code(), Some(3));
        let killed = shell("kill -9 $$").wait_at_most(Duration::from_secs(60));
        assert_eq!(killed.unwrap().signal(), Some(9));
    }

    #[test]
    fn who_runs_has_no_status() {
        let group = shell("exec sleep 60");
        assert_eq!(group.wait_at_most(Duration::from_millis(20)), None);
        group.kill();
        assert_eq!(group.status().unwrap().signal(), Some(9));
    }

    #[test]
    fn what_the_child_started_dies_with_it() {
        let mut group = shell("sleep 60 & echo $!; wait");
        let grandchild = first_line(&mut group);
        let child = group.pid().to_string();
        assert!(process(&grandchild).exists());
        drop(group);
        assert!(!process(&child).exists(), "it is reaped");
        assert!(comes_true(|| is_over(&grandchild)));
    }

    #[test]
    fn what_the_child_left_behind_dies_when_the_group_is_dropped() {
        let mut group = shell("sleep 60 & echo $!");
        let grandchild = first_line(&mut group);
        assert!(group.wait_at_most(Duration::from_secs(60)).unwrap().success());
        assert!(process(&grandchild).exists());
        drop(group);
        assert!(comes_true(|| is_over(&grandchild)));
    }

    #[test]
    fn a_child_does_not_die_with_the_thread_that_started_it() {
        let group = thread::spawn(|| shell("exec sleep 60")).join().unwrap();
        assert_eq!(group.wait_at_most(Duration::from_millis(50)), None);
    }

    /// The child of a test process that is killed: this test runs itself, and kills what it ran.
    #[test]
    fn a_child_dies_when_we_are_killed() {
        const MARK: &str = "BLOCKPRINT_TEST_CHILD_OF_THE_KILLED";
        if std::env::var_os(MARK).is_some() {
            let mut group = shell("echo $$; exec sleep 60");
            println!("child={}", first_line(&mut group));
            thread::sleep(Duration::from_secs(60));
            return;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "--nocapture", "child::tests::a_child_dies_when_we_are_killed"]);
        command.env(MARK, "1").stdout(Stdio::piped());
        let mut test = command.spawn().unwrap();
        let mut lines = BufReader::new(test.stdout.take().unwrap()).lines();
        let child = lines
            .find_map(|line| line.unwrap().split_once("child=").map(|(_, pid)| pid.to_string()))
            .unwrap();
        assert!(process(&child).exists());
        test.kill().unwrap();
        test.wait().unwrap();
        assert!(comes_true(|| is_over(&child)));
    }

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_missing() {
        let error = ProcessGroup::spawn(Command::new("/no/such/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
