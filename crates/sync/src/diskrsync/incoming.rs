//! What the other end sends, taken in pieces whose length is known.

use std::io::{self, Read};

use image::{Error, ErrorKind, Result, Task};

/// The stream from the other end.
pub(super) struct Incoming<'a> {
    input: Box<dyn Read + Send + 'a>,
    task: &'a Task,
    peer: &'static str,
    buffer: Box<[u8]>,
    /// The part of the buffer that came and was not taken.
    start: usize,
    end: usize,
}

/// Many digests or replies, and little beside a piece of data.
const BUFFER_BYTES: usize = 16 << 10;

impl<'a> Incoming<'a> {
    /// What `peer` sends.
    pub(super) fn new(
        input: Box<dyn Read + Send + 'a>,
        peer: &'static str,
        task: &'a Task,
    ) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into();
        Incoming { input, task, peer, buffer, start: 0, end: 0 }
    }

    /// Who sends it.
    pub(super) fn peer(&self) -> &'static str {
        self.peer
    }

    /// Whether so many bytes can be taken without waiting.
    pub(super) fn has(&self, len: usize) -> bool {
        self.end - self.start >= len
    }

    /// Fills `to`. If the stream ends before, `place` says where that is, from how many bytes came.
    pub(super) fn take(
        &mut self,
        to: &mut [u8],
        place: impl FnOnce(usize) -> String,
    ) -> Result<()> {
        let got = self.take_some(to)?;
        if got < to.len() {
            let sentence = format!("{} ended the connection {}", self.peer, place(got));
            return Err(Error::new(ErrorKind::Io, sentence).at(self.peer, None));
        }
        Ok(())
    }

    /// The next byte; `None` at the end of the stream.
    pub(super) fn take_byte(&mut self) -> Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.take_some(&mut byte)? == 1).then_some(byte[0]))
    }

    /// Fills `to`, or what of it there is before the end of the stream; gives its length.
    fn take_some(&mut self, to: &mut [u8]) -> Result<usize> {
        let mut got = 0;
        while got < to.len() {
            let rest = &mut to[got..];
            if self.start == self.end && rest.len() >= BUFFER_BYTES {
                match self.read(|input, _| input.read(rest))? {
                    0 => break,
                    len => got += len,
                }
                continue;
            }
            if self.start == self.end {
                self.start = 0;
                self.end = self.read(|input, buffer| input.read(buffer))?;
                if self.end == 0 {
                    break;
                }
            }
            let len = rest.len().min(self.end - self.start);
            rest[..len].copy_from_slice(&self.buffer[self.start..self.start + len]);
            self.start += len;
            got += len;
        }
        Ok(got)
    }

    fn read(
        &mut self,
        mut read: impl FnMut(&mut dyn Read, &mut [u8]) -> io::Result<usize>,
    ) -> Result<usize> {
        loop {
            self.task.checkpoint()?;
            match read(&mut *self.input, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let sentence = format!("cannot receive from {}", self.peer);
                    return Err(Error::io(sentence, error).at(self.peer, None));
                }
                Ok(len) => return Ok(len),
            }
        }
    }
}
