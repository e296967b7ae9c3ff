//! A graphical program in the place of which tests stand: it starts the daemon, talks to it, and hears what it says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testkit::host::{Needs, Outcome, Program, Running, TempDir, require, skip, tool, try_run};

use crate::support::jobs_folder;

/// A client with PyYAML and libzmq, and the daemon that it started.
pub(crate) struct Client {
    python: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// All that has come, in order.
    pub(crate) heard: Vec<Value>,
    core: Option<Running>,
}

/// An empty folder, if there is a Python with what the client needs.
#[track_caller]
pub(crate) fn require_client(needs: &Needs) -> Option<TempDir> {
    let scratch = require(&needs.clone().tools(&["python3"]))?;
    if let Err(reason) = try_run(python().args(["-c", "import zmq, yaml"])) {
        skip(&format!("python3 has no zmq or no yaml: {reason}"));
        return None;
    }
    Some(scratch)
}

/// The system's own: another may stand before it in the path.
fn python() -> std::process::Command {
    let own = Path::new("/usr/bin/python3");
    tool(if own.exists() { "/usr/bin/python3" } else { "python3" })
}

/// How long anything is waited for before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

impl Client {
    /// Starts both, and waits for the first message.
    #[track_caller]
    pub(crate) fn start(scratch: &TempDir, core: Program) -> Self {
        let mut client = Client::bind(scratch);
        // What comes behind the address is ignored.
        client.core = Some(core.arg(address(scratch)).arg("--more").spawn());
        let started = client.next();
        assert_eq!(
            (started["type"].as_str(), started["status"].as_str()),
            (Some("status"), Some("started"))
        );
        client
    }

    /// Only the client.
    #[track_caller]
    pub(crate) fn bind(scratch: &TempDir) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/client.py");
        let mut command = python();
        command.arg(script).arg(address(scratch)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = command.spawn().unwrap();
        let (input, output) = (python.stdin.take(), python.stdout.take().unwrap());
        let (tell, messages) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let bound: Value = messages.recv_timeout(PATIENCE).unwrap();
        assert_eq!(bound["bound"], true);
        Client { python, input, messages, heard: Vec::new(), core: None }
    }

    /// Says something.
    #[track_caller]
    pub(crate) fn say(&mut self, message: impl AsRef<[u8]>) {
        let line = serde_json::to_string(message.as_ref()).unwrap();
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// The next message, whatever it is.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        match self.next_within(PATIENCE) {
            Some(message) => message,
            None => panic!("nothing comes any more:\n{}", self.report()),
        }
    }

    /// The next message that comes in that time, if one does.
    #[track_caller]
    pub(crate) fn next_within(&mut self, time: Duration) -> Option<Value> {
        let message = match self.messages.recv_timeout(time) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("the client died:\n{}", self.report()),
        };
        assert_eq!(message["parts"], 1);
        let value = message["value"].clone();
        assert!(value["type"].is_string(), "{message}");
        self.heard.push(value.clone());
        Some(value)
    }

    /// The next message of that type; those before are passed over.
    #[track_caller]
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next();
            if message["type"] == kind {
                return message;
            }
        }
    }

    /// All messages of the job that is told of next, up to its end.
    #[track_caller]
    pub(crate) fn job(&mut self) -> Vec<Value> {
        let mut messages = vec![self.next()];
        let id = messages[0]["id"].clone();
        assert!(id.is_string(), "no job: {}", messages[0]);
        while !is_end(&messages[messages.len() - 1]) {
            let message = self.next();
            if message["id"] == id {
                messages.push(message);
            }
        }
        messages
    }

    /// Asks for the disks, and says what they are.
    #[track_caller]
    pub(crate) fn status(&mut self) -> Value {
        self.say("type: status-request");
        let status = self.next_of("status");
        assert_eq!(status["status"], "running");
        status
    }

    /// The daemon.
    pub(crate) fn core(&self) -> &Running {
        self.core.as_ref().unwrap()
    }

    /// Asks the daemon to end, and hears it out.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Vec<Value>, Outcome) {
        self.say("type: kill-request");
        self.goodbye()
    }

    /// Waits for the daemon's end, which comes by itself.
    #[track_caller]
    pub(crate) fn goodbye(mut self) -> (Vec<Value>, Outcome) {
        loop {
            if self.next()["status"] == "dying" {
                break;
            }
        }
        let outcome = self.core.take().unwrap().wait_at_most(PATIENCE);
        assert_eq!(self.next_within(Duration::from_millis(100)), None, "after the last message");
        assert_eq!(outcome.stdout, "");
        (std::mem::take(&mut self.heard), outcome)
    }

    /// Ends the client as a crash does, and says what the daemon does about it.
    #[track_caller]
    pub(crate) fn crash(mut self) -> Running {
        self.python.kill().unwrap();
        self.python.wait().unwrap();
        self.core.take().unwrap()
    }

    fn report(&self) -> String {
        let stderr = self.core.as_ref().map(Running::stderr).unwrap_or_default();
        let heard: Vec<String> = self.heard.iter().map(Value::to_string).collect();
        format!("heard:\n{}\nstandard error of the daemon:\n{stderr}", heard.join("\n"))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

/// Whether it is the last message of a job.
pub(crate) fn is_end(message: &Value) -> bool {
    message["finish"].is_object()
}

/// Where the client listens.
pub(crate) fn address(scratch: &TempDir) -> String {
    format!("ipc://{}", scratch.join("gui.ipc").display())
}

/// The daemon under the name by which clients start it, with its log on standard error.
pub(crate) fn apart_core(scratch: &TempDir) -> Program {
    let link = scratch.join("apart-core");
    if !link.exists() {
        symlink(env!("CARGO_BIN_EXE_blockprint"), &link).unwrap();
    }
    Program::new(link).env("RUST_LOG", "info").env("BLOCKPRINT_JOBS", jobs_folder(scratch))
}

/// The same, with stand-ins for partclone and lsblk.
pub(crate) fn with_stand_ins(scratch: &TempDir) -> Program {
    if !scratch.join("lsblk").exists() {
        stand_in(scratch, "lsblk", &format!("cat <<'END'\n{DISKS}\nEND\n"));
    }
    let core = apart_core(scratch).env("APART_LSBLK_CMD", scratch.join("lsblk"));
    core.env("APART_PARTCLONE_CMD", scratch.join("pcl"))
}

/// A disk of every sort of partition.
pub(crate) const DISKS: &str = r#"{"blockdevices": [
  {"name":"sdy","size":"8000000000","fstype":null,"label":null,"mountpoint":null,"uuid":null,
   "children":[
    {"name":"sdy2","size":4000000000,"fstype":"ext2","label":"2024","mountpoint":null,"uuid":"0123-4567"},
    {"name":"sdy1","size":"1000000","fstype":"vfat","label":"null","mountpoint":"/boot","uuid":"12345678"},
    {"name":"sdy3","size":1000000,"fstype":"f2fs","label":"a\nb\u0001c \"q\" \\ #x: y\u0085\u2028","mountpoint":null,"uuid":"1e3"},
    {"name":"sdy4","size":1000000,"fstype":null,"label":null,"mountpoint":null,"uuid":null},
    {"name":"sdy5","size":1000000,"fstype":"crypto_LUKS","label":null,"mountpoint":null,"uuid":"x",
     "children":[{"name":"vault","size":900000,"fstype":"ext4","label":null,"mountpoint":"/home","uuid":"y"}]}]},
  {"name":"sr0","size":1073741312,"fstype":null,"label":null,"mountpoint":null,"uuid":null},
  {"name":"loop0","size":0,"fstype":"ext4","label":null,"mountpoint":null,"uuid":null}]}"#;

/// Makes a script that stands in for a program. Its arguments are noted, a line each, in `NAME.called`.
pub(crate) fn stand_in(scratch: &TempDir, name: &str, body: &str) -> PathBuf {
    let path = scratch.join(name);
    let text = format!("#!/bin/sh\necho \"$*\" >> \"$0.called\"\n{body}\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What partclone says before its work, as shell.
pub(crate) const HEAD: &str = r"
report() { printf '\r%80s\rElapsed: 00:00:01, Remaining: %s, Completed: %s%%,%s,\n\r%80s\rcurrent block: 1, total block: 2, Complete: 5.00%%\033[A\r' '' $1 $2 $3 '' >&2; }
printf 'Partclone v0.3.23 http://partclone.org\nStarting to clone\nElapsed: 00:00:01, Remaining: 00:00:00, Completed: 100.00%%\nFile system:  EXTFS\n' >&2
report 00:01:39 1.00 0.00byte/min";

/// What it says at a good end, as shell.
pub(crate) const TAIL: &str = r"
printf '\nTotal Time: 00:00:06, Ave. Rate:    1.4GB/min, 100.00%% completed!\nSyncing... OK!\nCloned successfully.\n' >&2";

/// Stand-ins for partclone that copy what they are given: for each variant, `clone` makes the content, and `restored` keeps it.
pub(crate) fn stand_ins_for_partclone(scratch: &TempDir, pace_s: &str) {
    for variant in ["dd", "ext2", "f2fs"] {
        let body = format!(
            r#"{HEAD}
case " $* " in
*" -o "*) cat > "$0.restored" ;;
*) head -c 300000 "{content}" ;;
esac
sleep {pace_s}
report 00:00:07 36.64 1.49GB/min
sleep {pace_s}
report 00:00:00 100.00 Rate:1.35GB/min
case " $* " in
*" -s "*) tail -c +300001 "{content}" ;;
esac
sleep {pace_s}
{TAIL}"#,
            content = scratch.join("content").display(),
        );
        stand_in(scratch, &format!("pcl.{variant}"), &body);
    }
}

/// How a stand-in was called.
pub(crate) fn calls(scratch: &TempDir, name: &str) -> Vec<String> {
    let text = fs::read_to_string(scratch.join(format!("{name}.called"))).unwrap_or_default();
    text.lines().map(str::to_string).collect()
}

/// A moment as the client has it, in seconds.
#[track_caller]
pub(crate) fn moment(value: &Value) -> f64 {
    value["moment"].as_f64().unwrap_or_else(|| panic!("no moment: {value}"))
}
