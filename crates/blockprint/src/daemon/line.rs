//! The line to the client: a PAIR socket, messages that wait to go out, and whether anybody is at the other end.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Error, ErrorKind, Result};
use zmq::{Context, DONTWAIT, PollEvents, Socket, SocketEvent};

use super::log;

/// The daemon's end of the line. Only the thread that made it may use it.
pub(super) struct Line {
    socket: Socket,
    monitor: Socket,
    /// Read when [`Wake`] has written.
    woken: UnixStream,
    wake: Arc<UnixStream>,
    waiting: VecDeque<String>,
    presence: Presence,
    /// The socket's, which ends after it.
    _context: Context,
}

/// Wakes whoever waits at the line. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wake(Arc<UnixStream>);

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Nobody yet.
    Awaited,
    Here,
    /// Nobody any more, since then.
    Gone(Instant),
}

/// Where the socket's events are heard.
const MONITOR: &str = "inproc://monitor";
/// Messages that wait, more of which are not kept: of those that only say how far a job is, and of all.
const WAITING_NEWS: usize = 100;
const WAITING_MAX: usize = 10_000;
/// What has been handed over goes out after the end for so long, in milliseconds.
const LINGER_MS: i32 = 500;

impl Line {
    /// Connects to `address`, where nobody has to be yet.
    ///
    /// # Errors
    ///
    /// Where the address makes no sense, and those of the system.
    pub(super) fn connect(address: &str) -> Result<Self> {
        let wrong = |cause: zmq::Error| {
            let sentence = format!("cannot connect to {address}");
            Error::new(ErrorKind::Invalid, sentence)
                .because(io::Error::from_raw_os_error(cause.to_raw()))
        };
        let context = Context::new();
        let socket = context.socket(zmq::PAIR).map_err(wrong)?;
        socket.set_linger(LINGER_MS).map_err(wrong)?;
        let events = SocketEvent::HANDSHAKE_SUCCEEDED.to_raw() | SocketEvent::DISCONNECTED.to_raw();
        socket.monitor(MONITOR, i32::from(events)).map_err(wrong)?;
        let monitor = context.socket(zmq::PAIR).map_err(wrong)?;
        monitor.set_linger(0).map_err(wrong)?;
        monitor.connect(MONITOR).map_err(wrong)?;
        socket.connect(address).map_err(wrong)?;
        let pair = UnixStream::pair().and_then(|(woken, wake)| {
            woken.set_nonblocking(true)?;
            wake.set_nonblocking(true)?;
            Ok((woken, wake))
        });
        let (woken, wake) =
            pair.map_err(|cause| Error::io("cannot make a pair of sockets", cause))?;
        Ok(Line {
            socket,
            monitor,
            woken,
            wake: Arc::new(wake),
            waiting: VecDeque::new(),
            presence: Presence::Awaited,
            _context: context,
        })
    }

    /// Somebody who wakes us.
    pub(super) fn wake(&self) -> Wake {
        Wake(Arc::clone(&self.wake))
    }

    /// Who is at the other end.
    pub(super) fn presence(&self) -> Presence {
        self.presence
    }

    /// Says something as soon as it can be said.
    pub(super) fn say(&mut self, message: String) {
        match self.waiting.len() >= WAITING_MAX {
            true => log::error("the client does not listen: a message is dropped"),
            false => self.waiting.push_back(message),
        }
        self.send();
    }

    /// The same, for what the next message of its kind makes worthless.
    pub(super) fn say_news(&mut self, message: String) {
        if self.waiting.len() < WAITING_NEWS {
            self.say(message);
        }
    }

    /// Drops what waits: nobody will read it.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// Waits until something happens, at most so long.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    pub(super) fn wait(&mut self, at_most: Duration) -> Result<()> {
        self.send();
        let wish = match self.waiting.is_empty() {
            true => zmq::POLLIN,
            false => zmq::POLLIN | zmq::POLLOUT,
        };
        self.poll(wish, at_most)?;
        let mut bytes = [0; 64];
        while matches!(self.woken.read(&mut bytes), Ok(1..)) {}
        self.send();
        self.look_who_is_there();
        Ok(())
    }

    /// Waits until all has been handed over, at most so long.
    pub(super) fn hand_over(&mut self, at_most: Duration) {
        let end = Instant::now() + at_most;
        self.send();
        while !self.waiting.is_empty() && Instant::now() < end {
            if self.poll(zmq::POLLOUT, Duration::from_millis(20)).is_err() {
                return;
            }
            self.send();
        }
    }

    /// A message that has come; `None` if there is none. One of several parts is none of ours, and is passed over.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub(super) fn hear(&self) -> Result<Option<Vec<u8>>> {
        loop {
            match self.socket.recv_multipart(DONTWAIT) {
                Ok(mut parts) if parts.len() == 1 => return Ok(parts.pop()),
                Ok(_) => log::error("a message of several parts has come, and is ignored"),
                Err(zmq::Error::EAGAIN) => return Ok(None),
                Err(zmq::Error::EINTR) => {}
                Err(cause) => return Err(broken(cause)),
            }
        }
    }

    fn send(&mut self) {
        while let Some(message) = self.waiting.front() {
            match self.socket.send(message.as_str(), DONTWAIT) {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(zmq::Error::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn poll(&self, wish: PollEvents, at_most: Duration) -> Result<()> {
        let mut items = [
            self.socket.as_poll_item(wish),
            self.monitor.as_poll_item(zmq::POLLIN),
            zmq::PollItem::from_fd(self.woken.as_raw_fd(), zmq::POLLIN),
        ];
        match zmq::poll(&mut items, i64::try_from(at_most.as_millis()).unwrap_or(i64::MAX)) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(cause) => Err(broken(cause)),
        }
    }

    fn look_who_is_there(&mut self) {
        // The first part of an event is its number, in the machine's order, and a value.
        while let Ok(parts) = self.monitor.recv_multipart(DONTWAIT) {
            let Some(&[low, high, ..]) = parts.first().map(Vec::as_slice) else { continue };
            match SocketEvent::from_raw(u16::from_ne_bytes([low, high])) {
                SocketEvent::HANDSHAKE_SUCCEEDED => self.presence = Presence::Here,
                SocketEvent::DISCONNECTED if self.presence == Presence::Here => {
                    self.presence = Presence::Gone(Instant::now());
                }
                _ => {}
            }
        }
    }
}

impl Wake {
    /// Wakes.
    pub(super) fn wake(&self) {
        // Where there is no room, enough has been written already.
        let _ = (&*self.0).write(&[1]);
    }

    /// Has a signal wake, too.
    ///
    /// # Errors
    ///
    /// Those of sigaction(2).
    pub(super) fn on_signal(&self, signal: i32) -> io::Result<()> {
        signal_hook::low_level::pipe::register(signal, self.0.try_clone()?).map(drop)
    }
}

fn broken(cause: zmq::Error) -> Error {
    let cause = io::Error::from_raw_os_error(cause.to_raw());
    Error::io("the line to the client is broken", cause)
}
