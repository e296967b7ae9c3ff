//! Neither end is here: calls both, and carries what they say from one to the other.

use std::io::{self, Read, Write};
use std::thread;

use image::ranges::RangeSet;
use image::{Error, ErrorKind, Phase, Result, Task};
use sync::Wire;
use sync::native::{Heard, Overhear, Report};

use super::call::{self, Far};
use super::play::Done;
use super::{Protocol, SyncRequest, Way, WireBytes};
use crate::remote::{Limit, Peer};

/// How much is carried at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Lets the source at `from` and the target at `to` sync.
pub(super) fn relay(
    request: &SyncRequest,
    from: Far<'_>,
    to: Far<'_>,
    limit: Option<&Limit>,
    task: &Task,
) -> Result<Done> {
    let call_both = |request: &SyncRequest| {
        let target = call::call(request, to, true, limit, task)?;
        let source = call::call(request, from, true, limit, task)?;
        Ok((source, target))
    };
    let (mut source, mut target) = call_both(request)?;
    if source.way != target.way {
        let (one, other) = (source.peer.host().to_string(), target.peer.host().to_string());
        task.note(format!(
            "{one} and {other} speak different protocols: both are asked for diskrsync's"
        ));
        // They have not heard anything yet, and end without having done anything.
        drop((source, target));
        let mut request = request.clone();
        request.protocol = Protocol::Diskrsync;
        (source, target) = call_both(&request)?;
    }
    let way = source.way;
    let (carried, there, back) = carry_both(source.wire, target.wire, task);
    task.checkpoint()?;
    finish(source.peer, target.peer, carried, way, there, back)
}

fn carry_both(
    source: Wire<'static>,
    target: Wire<'static>,
    task: &Task,
) -> (io::Result<()>, Heard, Heard) {
    let (source_hangup, target_hangup) = (source.hangup.clone(), target.hangup.clone());
    task.begin(Phase::Sync, 0);
    thread::scope(|scope| {
        let there = scope.spawn(move || carry(source.input, target.output));
        let (back, from_target) = carry(target.input, source.output);
        if back.is_err() {
            // Nobody reads what the target says, or it cannot be asked: the source would wait for ever.
            source_hangup.now();
            target_hangup.now();
        }
        let (there, from_source) = there.join().unwrap_or_else(|_| {
            (Err(io::Error::other("the thread that carries has panicked")), Heard::default())
        });
        (there.and(back), from_source, from_target)
    })
}

/// Carries until the end of `input`, which `output` is told by being dropped.
fn carry(
    mut input: Box<dyn Read + Send>,
    mut output: Box<dyn Write + Send>,
) -> (io::Result<()>, Heard) {
    let mut overhear = Overhear::new();
    let mut buf = vec![0; PIECE_BYTES];
    let mut pass = || loop {
        match input.read(&mut buf)? {
            0 => return Ok(()),
            len => {
                overhear.push(&buf[..len]);
                output.write_all(&buf[..len])?;
                output.flush()?;
            }
        }
    };
    let carried = pass();
    (carried, overhear.finish())
}

fn finish(
    source: Peer,
    target: Peer,
    carried: io::Result<()>,
    way: Way,
    there: Heard,
    back: Heard,
) -> Result<Done> {
    let (source_host, target_host) = (source.host().to_string(), target.host().to_string());
    let (from, to) = (source.traffic().bytes(), target.traffic().bytes());
    // An end that is done leaves after a moment. Where we were slow, what the other one said last, which is no more than
    // that it was there, does not find it any more.
    let carried = match way == Way::Native && back.report.root.is_some() {
        true => Ok(()),
        false => carried,
    };
    let has_failed = there.error.is_some() || back.error.is_some() || carried.is_err();
    let (source, target) = match has_failed {
        true => (source.leave(), target.leave()),
        false => (source.finish()?, target.finish()?),
    };
    if way == Way::Native {
        for (host, heard) in [(&source_host, there.error), (&target_host, back.error)] {
            if let Some(error) = heard {
                let sentence = format!("{host} says: {error}");
                return Err(Error::new(error.kind(), sentence));
            }
        }
    }
    for ended in [source, target] {
        if let Some(error) = ended.error {
            return Err(error);
        }
    }
    carried.map_err(|cause| {
        let sentence = format!("cannot carry data between {source_host} and {target_host}");
        Error::io(sentence, cause)
    })?;
    if way == Way::Native && back.report.root.is_none() {
        let sentence = format!("{target_host} ended without saying that all is done");
        return Err(Error::new(ErrorKind::Damaged, sentence));
    }
    let report = match way {
        Way::Native => Report { target_bytes: back.report.target_bytes, ..there.report },
        _ => Report::default(),
    };
    let wire = WireBytes {
        received_bytes: from.received_bytes + to.received_bytes,
        sent_bytes: from.sent_bytes + to.sent_bytes,
        relayed_bytes: from.received_bytes,
    };
    Ok(Done { way, report, repaired: RangeSet::new(), wire })
}
