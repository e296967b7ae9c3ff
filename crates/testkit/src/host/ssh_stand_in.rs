//! What stands in for ssh where a test asks for no network, or for a slow one: the command runs on this machine.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use super::{TempDir, run, tool};

/// A folder with a program `ssh`, to be put first into PATH. It drops the options and the host, joins the rest with
/// spaces, as ssh does, and runs it with `sh -c`.
#[derive(Debug)]
pub struct SshStandIn {
    folder: TempDir,
    carried: Arc<Carried>,
}

/// What a relay carried, in bytes.
#[derive(Debug, Default)]
struct Carried {
    there: AtomicU64,
    back: AtomicU64,
}

impl SshStandIn {
    /// The process gets the pipes themselves.
    #[track_caller]
    pub fn direct() -> Self {
        Self::with_script("exec sh -c \"$*\"\n")
    }

    /// What goes in either direction arrives `delay` later, and is counted. Bandwidth is not limited.
    ///
    /// Each call makes four named pipes and tells their folder; threads of this process carry the bytes between them.
    #[track_caller]
    pub fn delayed(delay: Duration) -> Self {
        const SCRIPT: &str = r#"d=$(mktemp -d "$here/call.XXXXXX") || exit 255
mkfifo "$d/there.in" "$d/there.out" "$d/back.in" "$d/back.out" || exit 255
echo "$d" >"$here/calls"
exec 3<&0
cat <&3 >"$d/there.in" &
carry=$!
sh -c "$*" <"$d/there.out" >"$d/back.in" 3<&- &
far=$!
cat "$d/back.out"
wait $far
status=$?
kill $carry 2>/dev/null
exit $status
"#;
        let stand_in = Self::with_script(SCRIPT);
        let calls = stand_in.folder.join("calls");
        run(tool("mkfifo").arg(&calls));
        // Held for writing too, so that it never ends.
        let calls = OpenOptions::new().read(true).write(true).open(calls).expect("it is there");
        let carried = Arc::clone(&stand_in.carried);
        thread::spawn(move || {
            for folder in BufReader::new(calls).lines() {
                let Ok(folder) = folder.map(PathBuf::from) else { return };
                if folder.as_os_str().is_empty() {
                    return;
                }
                for name in ["there", "back"] {
                    let (folder, carried) = (folder.clone(), Arc::clone(&carried));
                    thread::spawn(move || {
                        let count = if name == "there" { &carried.there } else { &carried.back };
                        carry(&folder, name, delay, count);
                    });
                }
            }
        });
        stand_in
    }

    #[track_caller]
    fn with_script(last: &str) -> Self {
        let folder = TempDir::new("ssh");
        let here = folder.path().display();
        // `mkfifo` and `cat` are found wherever the test has set PATH to.
        let script = format!(
            "#!/bin/sh\nhere='{here}'\nPATH=$PATH:/usr/bin:/bin\n\
             while [ $# -gt 0 ] && [ \"$1\" != -- ]; do shift; done\n\
             host=$2\nshift 2 || exit 255\n\
             printf '%s %s\\n' \"$host\" \"$*\" >>\"$here/log\"\n{last}"
        );
        let path = folder.join("ssh");
        fs::write(&path, script).expect("the folder is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        SshStandIn { folder, carried: Arc::default() }
    }

    /// A search path with it first, then `folders`, then that of this process.
    pub fn search_path(&self, folders: &[&Path]) -> OsString {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let mut all = vec![self.folder.path().to_path_buf()];
        all.extend(folders.iter().map(|folder| folder.to_path_buf()));
        all.extend(std::env::split_paths(&own));
        std::env::join_paths(all).expect("folders of tests have no colon")
    }

    /// The calls until now: host and command line of each.
    pub fn calls(&self) -> Vec<String> {
        let log = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).lines().map(str::to_string).collect()
    }

    /// Bytes that a relay has carried: to the far ends, and back.
    pub fn carried_bytes(&self) -> (u64, u64) {
        (self.carried.there.load(Ordering::Relaxed), self.carried.back.load(Ordering::Relaxed))
    }
}

impl Drop for SshStandIn {
    fn drop(&mut self) {
        // An empty line ends the thread that waits for calls.
        if let Ok(mut calls) =
            OpenOptions::new().read(true).write(true).open(self.folder.join("calls"))
        {
            let _ = calls.write_all(b"\n");
        }
    }
}

/// Carries bytes from `NAME.in` to `NAME.out`, each of them `delay` later.
fn carry(folder: &Path, name: &str, delay: Duration, count: &AtomicU64) {
    const PIECES: usize = 1024;
    let open =
        |end: &str, options: &OpenOptions| options.open(folder.join(format!("{name}.{end}"))).ok();
    let Some(mut from) = open("in", OpenOptions::new().read(true)) else { return };
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(PIECES);
    let Some(to) = open("out", OpenOptions::new().write(true)) else { return };
    thread::spawn(move || {
        let mut to: File = to;
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let mut buf = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buf) {
        count.fetch_add(len as u64, Ordering::Relaxed);
        if sender.send((Instant::now() + delay, buf[..len].to_vec())).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn say(stand_in: &SshStandIn, words: &[&str], input: &[u8]) -> (Vec<u8>, Option<i32>) {
        let mut command = Command::new("ssh");
        command.env("PATH", stand_in.search_path(&[])).args(words);
        // `Command` searches its own PATH only if that was set on it.
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.stdout, output.status.code())
    }

    #[test]
    fn words_behind_the_host_are_joined_and_run_by_a_shell() {
        let stand_in = SshStandIn::direct();
        let words = ["-p", "22", "--", "host", "echo 'a  b'", "$((1 + 2)); cat; exit 7"];
        assert_eq!(say(&stand_in, &words, b"in"), (b"a  b 3\nin".to_vec(), Some(7)));
        assert_eq!(stand_in.calls(), ["host echo 'a  b' $((1 + 2)); cat; exit 7"]);
    }

    #[test]
    fn a_slow_one_is_late_by_a_round_trip_and_counts() {
        let stand_in = SshStandIn::delayed(Duration::from_millis(100));
        let start = Instant::now();
        assert_eq!(
            say(&stand_in, &["--", "host", "cat; echo end; exit 3"], b"hello\n"),
            (b"hello\nend\n".to_vec(), Some(3))
        );
        assert!(start.elapsed() >= Duration::from_millis(200));
        assert_eq!(stand_in.carried_bytes(), (6, 10));
    }
}
