//! A filesystem on a block device that cannot be frozen: the least that FUSE takes for one, with an empty root.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread::{self, JoinHandle};

use testkit::host::{TempDir, run, tool, try_run};

/// `linux/fuse.h`: the requests that get an answer other than "not known".
const GETATTR: u32 = 3;
const OPENDIR: u32 = 27;
const INIT: u32 = 26;
const RELEASEDIR: u32 = 29;
/// Those that get none at all.
const SILENT: [u32; 2] = [2, 42];
const ENOSYS: i32 = 38;

/// It, mounted; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct FuseMount {
    folder: TempDir,
    server: Option<JoinHandle<()>>,
}

impl FuseMount {
    /// Mounts an empty root as if it lay on `device`.
    #[track_caller]
    pub(crate) fn new(device: &Path) -> Self {
        let folder = TempDir::new("fuse");
        let mut kernel = OpenOptions::new().read(true).write(true).open("/dev/fuse").unwrap();
        let mut command = tool("mount");
        // The descriptor goes along as standard input.
        command.stdin(Stdio::from(kernel.try_clone().unwrap()));
        command.args(["-i", "-t", "fuseblk"]);
        command.args(["-o", "fd=0,rootmode=40000,user_id=0,group_id=0,max_read=131072"]);
        run(command.arg(device).arg(folder.path()));
        let server = Some(thread::spawn(move || serve(&mut kernel)));
        FuseMount { folder, server }
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        let _ = try_run(tool("umount").arg(self.folder.path()));
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Answers until it is unmounted, which ends the reading with an error.
fn serve(kernel: &mut File) {
    let mut request = vec![0; 256 << 10];
    while let Ok(count) = kernel.read(&mut request) {
        let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        if count < 40 || SILENT.contains(&number(4)) {
            continue;
        }
        let (error, body) = match number(4) {
            INIT => (0, words(&[7, 31, 0, 0, 0, 131072, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            GETATTR => (0, attributes()),
            OPENDIR => (0, vec![0; 16]),
            RELEASEDIR => (0, Vec::new()),
            _ => (-ENOSYS, Vec::new()),
        };
        let mut answer = words(&[16 + body.len() as u32, error as u32]);
        answer.extend(&request[8..16]);
        answer.extend(body);
        let _ = kernel.write(&answer);
    }
}

/// `struct fuse_attr_out` of a folder.
fn attributes() -> Vec<u8> {
    let mut fields = [0; 26];
    // The inode number, then mode, links, and block size.
    (fields[4], fields[19], fields[20], fields[24]) = (1, 0o40755, 2, 4096);
    words(&fields)
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
