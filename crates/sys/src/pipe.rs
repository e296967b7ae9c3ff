//! Pipes and sockets to another process, whose waits end when somebody wants to leave.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Asked again and again while a read or a write waits: an error ends the wait, and is what the call fails with.
pub type Watch = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// What comes from another process. A plain file or a terminal will do, too.
pub struct Input {
    file: File,
    watch: Watch,
}

/// What goes to another process. When it is dropped, the other process sees the end.
///
/// A pipe that is full lets the one who writes to it wait in the system, where no watch reaches. So a pipe or socket
/// is switched to not waiting (`O_NONBLOCK`), and back when this is dropped: whoever has inherited it too notices.
pub struct Output {
    /// `None` only while it is dropped.
    file: Option<File>,
    is_socket: bool,
    /// What its flags were, if they were changed.
    flags: Option<OFlags>,
    watch: Watch,
}

/// Takes standard input and output away from this process, whose own are `/dev/null` from then on: nothing that is
/// printed by mistake gets between what two programs say to each other, and dropping them closes them.
///
/// # Errors
///
/// Those of dup(2) and open(2); also where one of them is closed.
pub fn take_stdio() -> io::Result<(OwnedFd, OwnedFd)> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    Ok((input, output))
}

/// How often somebody who waits asks the watch, in nanoseconds.
const LOOK_EVERY_NS: i64 = 100_000_000;

/// What a pipe is asked to hold, in bytes: what Linux lets everybody ask for.
const PIPE_BYTES: usize = 1 << 20;

impl Input {
    /// Reads from `fd`; nobody else may read from it meanwhile.
    pub fn new(fd: OwnedFd, watch: Watch) -> Self {
        widen(&fd);
        Input { file: File::from(fd), watch }
    }

    /// Reads what is there already, without waiting and without asking the watch. Gives 0 where there is nothing, and at
    /// the end.
    ///
    /// # Errors
    ///
    /// Those of poll(2) and read(2).
    pub fn read_ready(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
            0 => Ok(0),
            _ => self.file.read(buf),
        }
    }
}

impl Output {
    /// Writes to `fd`.
    ///
    /// # Errors
    ///
    /// Those of fcntl(2) and fstat(2).
    pub fn new(fd: OwnedFd, watch: Watch) -> io::Result<Self> {
        widen(&fd);
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        let is_socket = kind.is_socket();
        let mut flags = None;
        if is_socket || kind.is_fifo() {
            let old = fcntl_getfl(&file)?;
            if !old.contains(OFlags::NONBLOCK) {
                fcntl_setfl(&file, old | OFlags::NONBLOCK)?;
                flags = Some(old);
            }
        }
        Ok(Output { file: Some(file), is_socket, flags, watch })
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

/// Where it is no pipe, or not permitted, it stays as it is.
fn widen(fd: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(fd, PIPE_BYTES);
}

/// Waits until `fd` is ready for `what`, or has failed, which the next call will tell.
fn wait(fd: impl AsFd, what: PollFlags, watch: &Watch) -> io::Result<()> {
    let time = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY_NS };
    loop {
        watch()?;
        let mut fds = [PollFd::new(&fd, what)];
        match poll(&mut fds, Some(&time)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(cause) => return Err(cause.into()),
        }
    }
}

/// Whether a call is to be made again.
fn is_passing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Read for Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            wait(&self.file, PollFlags::IN, &self.watch)?;
            match self.file.read(buf) {
                // Somebody who shares it may have been quicker.
                Err(cause) if is_passing(&cause) => {}
                answer => return answer,
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (self.watch)()?;
        loop {
            match self.file()?.write(buf) {
                Err(cause) if is_passing(&cause) => {
                    wait(self.file()?, PollFlags::OUT, &self.watch)?;
                }
                answer => return answer,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        if let Some(flags) = self.flags {
            let _ = fcntl_setfl(&file, flags);
        }
        if self.is_socket {
            // One socket is often both directions: that the other one stays open must not hide this end.
            let _ = UnixStream::from(OwnedFd::from(file)).shutdown(Shutdown::Write);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn no_watch() -> Watch {
        Arc::new(|| Ok(()))
    }

    fn flagged(flag: &Arc<AtomicBool>) -> Watch {
        let flag = Arc::clone(flag);
        Arc::new(move || match flag.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        })
    }

    fn socket_pair() -> (OwnedFd, OwnedFd) {
        let (one, other) = UnixStream::pair().unwrap();
        (one.into(), other.into())
    }

    fn pipe() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = io::pipe().unwrap();
        (reader.into(), writer.into())
    }

    #[test]
    fn bytes_come_through_pipes_and_sockets_and_then_the_end() {
        for (reader, writer) in [pipe(), socket_pair()] {
            let kept = reader.try_clone().unwrap();
            let mut input = Input::new(reader, no_watch());
            let mut output = Output::new(writer, no_watch()).unwrap();
            let bytes: Vec<u8> =
                (0..5_000_000_u32).map(|number| ((number * 7) >> 3) as u8).collect();
            thread::scope(|scope| {
                let bytes = &bytes;
                scope.spawn(move || output.write_all(bytes).unwrap());
                let mut all = Vec::new();
                input.read_to_end(&mut all).unwrap();
                assert!(all == *bytes);
            });
            drop(kept);
        }
    }

    #[test]
    fn whoever_waits_leaves_when_the_watch_says_so() {
        for (reader, writer) in [pipe(), socket_pair()] {
            let flag = Arc::new(AtomicBool::new(false));
            let mut input = Input::new(reader, flagged(&flag));
            let mut output = Output::new(writer, flagged(&flag)).unwrap();
            let kind = thread::scope(|scope| {
                let writing = scope.spawn(move || {
                    let error = output.write_all(&vec![1; 64 << 20]).unwrap_err();
                    (error.kind(), output)
                });
                thread::sleep(Duration::from_millis(50));
                flag.store(true, Ordering::Relaxed);
                let (kind, _output) = writing.join().unwrap();
                assert_eq!(input.read(&mut [0]).unwrap_err().kind(), kind);
                kind
            });
            assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        }
    }

    #[test]
    fn a_reader_with_nothing_to_read_leaves_too() {
        let (reader, _writer) = pipe();
        let flag = Arc::new(AtomicBool::new(false));
        let mut input = Input::new(reader, flagged(&flag));
        thread::scope(|scope| {
            let reading = scope.spawn(move || input.read(&mut [0]).unwrap_err().kind());
            flag.store(true, Ordering::Relaxed);
            assert_eq!(reading.join().unwrap(), io::ErrorKind::ConnectionAborted);
        });
    }

    #[test]
    fn what_is_there_is_read_without_waiting() {
        let (reader, writer) = pipe();
        let watch: Watch = Arc::new(|| Err(io::ErrorKind::ConnectionAborted.into()));
        let mut input = Input::new(reader, watch);
        let mut writer = File::from(writer);
        let mut buf = [0; 8];
        assert_eq!(input.read_ready(&mut buf).unwrap(), 0);
        writer.write_all(b"rest").unwrap();
        assert_eq!(input.read(&mut buf).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(input.read_ready(&mut buf).unwrap(), 4);
        drop(writer);
        assert_eq!(input.read_ready(&mut buf).unwrap(), 0);
    }

    #[test]
    fn an_inherited_pipe_waits_again_when_we_are_gone() {
        let (_reader, writer) = pipe();
        let shared = writer.try_clone().unwrap();
        let output = Output::new(writer, no_watch()).unwrap();
        assert!(fcntl_getfl(&shared).unwrap().contains(OFlags::NONBLOCK));
        drop(output);
        assert!(!fcntl_getfl(&shared).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn a_plain_file_is_read_and_written() {
        let scratch = testkit::host::TempDir::new("pipe");
        let path = scratch.join("file");
        let mut output = Output::new(File::create(&path).unwrap().into(), no_watch()).unwrap();
        output.write_all(b"plain").unwrap();
        drop(output);
        let mut text = String::new();
        let mut input = Input::new(File::open(&path).unwrap().into(), no_watch());
        input.read_to_string(&mut text).unwrap();
        assert_eq!(text, "plain");
    }

    #[test]
    fn nobody_there_is_a_broken_pipe() {
        for (reader, writer) in [pipe(), socket_pair()] {
            drop(reader);
            let mut output = Output::new(writer, no_watch()).unwrap();
            assert_eq!(output.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }
}
