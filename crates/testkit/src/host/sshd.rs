//! A real sshd on loopback, with keys and a configuration of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{TempDir, run, tool};

/// The programs that it needs.
pub const SSHD_TOOLS: [&str; 3] = ["sshd", "ssh", "ssh-keygen"];

/// An sshd that lets in whoever runs the test; ended when dropped. Every host name leads to it.
///
/// `HOME` is a folder without start-up files there, whatever the user's shell reads; commands still begin in the folder
/// that the system calls the user's home.
#[derive(Debug)]
pub struct Sshd {
    folder: TempDir,
    child: Child,
}

/// What is to listen for this long at the latest.
const START: Duration = Duration::from_secs(20);

impl Sshd {
    /// Starts one. Programs are searched there in `search_path`, folders with colons between them.
    #[track_caller]
    pub fn start(search_path: &str) -> Self {
        let folder = TempDir::new("sshd");
        // sshd wants it where it runs as root.
        let _ = fs::create_dir_all("/run/sshd");
        for name in ["host_key", "user_key"] {
            let key = folder.join(name);
            run(tool("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key));
        }
        // Somebody else may take a port between our look and the start.
        for _ in 0..10 {
            let port = free_port();
            write_configurations(folder.path(), port, search_path);
            if let Some(child) = listening(folder.path(), port) {
                return Sshd { folder, child };
            }
        }
        panic!(
            "sshd does not start: {}",
            fs::read_to_string(folder.join("log")).unwrap_or_default()
        )
    }

    /// What ssh has to be told to come here, to be put before the host.
    pub fn flags(&self) -> Vec<String> {
        vec!["-F".to_string(), self.folder.join("client").display().to_string()]
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its own processes and those of its sessions that are still there, by number.
    pub fn sessions(&self) -> Vec<u32> {
        let parent = self.child.id();
        let path = format!("/proc/{parent}/task/{parent}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("it has an address").port()
}

#[track_caller]
fn write_configurations(folder: &Path, port: u16, search_path: &str) {
    let shown = folder.display();
    let public = |name: &str| {
        fs::read_to_string(folder.join(name)).expect("ssh-keygen has made it").trim().to_string()
    };
    let server = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host_key\nPidFile none\n\
         AuthorizedKeysFile {shown}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
         MaxStartups 200\nLogLevel ERROR\nSetEnv PATH={search_path} HOME={shown}\n"
    );
    let client = format!(
        "Host *\n HostName 127.0.0.1\n Port {port}\n IdentityFile {shown}/user_key\n\
         IdentitiesOnly yes\n UserKnownHostsFile {shown}/known_hosts\n\
         GlobalKnownHostsFile /dev/null\n StrictHostKeyChecking yes\n BatchMode yes\n\
         LogLevel ERROR\n"
    );
    let files = [
        ("server", server),
        ("client", client),
        ("authorized_keys", public("user_key.pub")),
        ("known_hosts", format!("[127.0.0.1]:{port} {}", public("host_key.pub"))),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text + "\n").expect("the folder is ours");
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, mode).expect("the file is ours");
    }
}

/// The process once it listens; `None` if it ended before.
#[track_caller]
fn listening(folder: &Path, port: u16) -> Option<Child> {
    // It starts itself again for each connection, by its full path.
    let program: PathBuf = tool("sshd").get_program().into();
    let mut command = tool(&program.to_string_lossy());
    command.args(["-D", "-f"]).arg(folder.join("server")).arg("-E").arg(folder.join("log"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().expect("sshd can be started");
    let start = Instant::now();
    while start.elapsed() < START {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        if child.try_wait().is_ok_and(|status| status.is_some()) {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Needs, require};
    use super::*;

    #[test]
    fn a_command_runs_there_with_its_own_search_path() {
        let Some(_scratch) = require(&Needs::none().tools(&SSHD_TOOLS)) else { return };
        let sshd = Sshd::start("/nowhere:/usr/bin:/bin");
        let mut command = tool("ssh");
        command.args(sshd.flags()).args(["--", "anyhost", "echo \"$PATH\" there"]);
        assert_eq!(run(&mut command), "/nowhere:/usr/bin:/bin there\n", "{}", sshd.log());
    }
}
