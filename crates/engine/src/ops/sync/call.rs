//! The end on another machine: what is run there, and which protocol it turns out to speak.

use std::ffi::{OsStr, OsString};
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use image::{Error, ErrorKind, Result, Task};
use sync::{Wire, diskrsync, native};

use super::{KeepDigests, Protocol, ServeRole, SyncRequest, Way};
use crate::location::Format;
use crate::registry::is_named_container;
use crate::remote::{CommandLine, Limit, LineHook, Peer, harmless};

/// An end on another machine, as it was asked for.
#[derive(Clone, Copy)]
pub(super) struct Far<'a> {
    pub(super) host: &'a OsStr,
    pub(super) path: &'a OsStr,
    pub(super) role: ServeRole,
}

/// An end that has answered.
pub(super) struct Answered {
    pub(super) peer: Peer,
    /// Nothing that it said is missing here.
    pub(super) wire: Wire<'static>,
    pub(super) way: Way,
}

/// What runs an end there, if nothing else was said.
const NATIVE_COMMAND: &str = "blockprint";
const DISKRSYNC_COMMAND: &str = "diskrsync";

/// What `request` asks of `protocol` at the far end `far`.
///
/// # Errors
///
/// `Unsupported`, with the reason, for wishes that diskrsync's protocol has no words for.
pub(super) fn refuse_wishes(request: &SyncRequest, far: Far<'_>) -> Result<()> {
    if asked_protocol(request) != Protocol::Diskrsync {
        return Ok(());
    }
    match beyond_diskrsync(request, far.role) {
        None => Ok(()),
        Some(wish) => {
            let sentence = format!(
                "{wish} is not possible by diskrsync's protocol, which has no words for it (use blockprint on both machines)"
            );
            Err(Error::new(ErrorKind::Unsupported, sentence))
        }
    }
}

/// The protocol that was asked for. A command that was given is run as it is: its name says what it speaks.
fn asked_protocol(request: &SyncRequest) -> Protocol {
    match (request.protocol, &request.ssh.remote_command) {
        (Protocol::Auto, Some(command)) => {
            let program = command.split_whitespace().next_back().unwrap_or_default();
            let name = program.rsplit('/').next().unwrap_or_default();
            match name.starts_with(DISKRSYNC_COMMAND) {
                true => Protocol::Diskrsync,
                false => Protocol::Native,
            }
        }
        (protocol, _) => protocol,
    }
}

/// The first wish that only the native protocol can fulfil.
fn beyond_diskrsync(request: &SyncRequest, role: ServeRole) -> Option<&'static str> {
    let end = &request.end;
    let is_target = role == ServeRole::Target;
    if request.dry_run {
        Some("--dry-run")
    } else if end.since.is_some() {
        Some("--since")
    } else if end.keep_digests != KeepDigests::No {
        Some("--keep-digests")
    } else if is_target && end.atomic {
        Some("--atomic at a target there")
    } else if is_target && end.block_bytes.is_some() && !end.content_decides {
        Some("--block-size at a target there")
    } else {
        None
    }
}

/// Calls `far`, and finds out what it speaks. `is_relayed` if the other end is not here either.
///
/// # Errors
///
/// `Io` if there is no answer, or one that is none.
pub(super) fn call(
    request: &SyncRequest,
    far: Far<'_>,
    is_relayed: bool,
    limit: Option<&Limit>,
    task: &Task,
) -> Result<Answered> {
    let protocol = match asked_protocol(request) {
        // Nothing to fall back on.
        Protocol::Auto if beyond_diskrsync(request, far.role).is_some() => Protocol::Native,
        protocol => protocol,
    };
    let line = command_line(request, protocol, far, is_relayed)?;
    let (lines, role) = (request.remote_lines.clone(), far.role);
    let hook: LineHook = Box::new(move |line| lines.hear(role, line));
    let (peer, mut wire) = Peer::call(&request.ssh, far.host, &line, limit, hook, task)?;
    let mut first = Vec::with_capacity(native::MAGIC.len());
    let read = (&mut wire.input).take(native::MAGIC.len() as u64).read_to_end(&mut first);
    let way = match first.as_slice() {
        magic if magic == native::MAGIC => Way::Native,
        magic if magic == diskrsync::MAGIC => Way::Diskrsync,
        _ => return Err(no_answer(peer, wire, first, read.err(), protocol, task)),
    };
    if way == Way::Diskrsync && protocol == Protocol::Auto {
        let host = peer.host();
        task.note(format!(
            "{host} has no blockprint: its diskrsync is spoken with, in that protocol (slower over long distances, no proof at the end)"
        ));
    }
    if (way, protocol) == (Way::Native, Protocol::Diskrsync)
        || (way, protocol) == (Way::Diskrsync, Protocol::Native)
    {
        let host = peer.host();
        let (there, asked) = match way {
            Way::Diskrsync => ("diskrsync's protocol", "the native one"),
            _ => ("blockprint's native protocol", "diskrsync's"),
        };
        let sentence = format!("{host} speaks {there}, where {asked} was asked for (--protocol)");
        return Err(Error::new(ErrorKind::Unsupported, sentence));
    }
    let Wire { input, output, hangup } = wire;
    let wire = Wire { input: Box::new(Cursor::new(first).chain(input)), output, hangup };
    Ok(Answered { peer, wire, way })
}

/// What the shell on the far machine is given.
fn command_line(
    request: &SyncRequest,
    protocol: Protocol,
    far: Far<'_>,
    is_relayed: bool,
) -> Result<OsString> {
    let own = request.ssh.remote_command.as_deref();
    let native = |line: CommandLine| native_words(line, own, request, far);
    let diskrsync = |line: CommandLine| diskrsync_words(line, own, request, far, is_relayed);
    match protocol {
        Protocol::Native => native(CommandLine::new()).map(CommandLine::finish),
        Protocol::Diskrsync => diskrsync(CommandLine::new()).map(CommandLine::finish),
        Protocol::Auto => {
            let look = "if command -v blockprint >/dev/null 2>&1; then exec";
            let line = native(CommandLine::new().script(look))?;
            let line = diskrsync(line.script("; else exec"))?.script("; fi");
            // Whatever the shell of the user there is: this much, quoted, it understands.
            let line = CommandLine::new().script("sh -c").word(line.finish())?;
            Ok(line.finish())
        }
    }
}

fn native_words(
    line: CommandLine,
    own: Option<&str>,
    request: &SyncRequest,
    far: Far<'_>,
) -> Result<CommandLine> {
    let end = &request.end;
    let mut line = line.words_of(own.unwrap_or(NATIVE_COMMAND))?.script("sync --serve");
    match far.role {
        ServeRole::Source => {
            line = line.script("source");
            if let Some(clone) = &end.since {
                line = line.script("--since").path(clone)?;
            }
        }
        ServeRole::Target => {
            line = line.script("target");
            if let Some(format) = end.format {
                line = line.script("--format").word(format.name())?;
            }
            if let Some(block_bytes) = end.block_bytes {
                line = line.script("--block-size").word(block_bytes.to_string())?;
            }
            if end.atomic {
                line = line.script("--atomic");
            }
        }
    }
    line = match &end.keep_digests {
        KeepDigests::No => line,
        KeepDigests::Beside => line.script("--keep-digests"),
        KeepDigests::In(folder) => {
            let mut word = OsString::from("--keep-digests=");
            word.push(folder);
            line.word(word)?
        }
    };
    if request.dry_run {
        line = line.script("--dry-run");
    }
    line.script("--").path(far.path)
}

/// As diskrsync itself asks for it; older ones read nothing else.
fn diskrsync_words(
    line: CommandLine,
    own: Option<&str>,
    request: &SyncRequest,
    far: Far<'_>,
    is_relayed: bool,
) -> Result<CommandLine> {
    let line = line.words_of(own.unwrap_or(DISKRSYNC_COMMAND))?;
    let (mut line, shows_sync) = match far.role {
        ServeRole::Source => (line.script("--source"), false),
        ServeRole::Target => {
            let line = line.script("--target");
            let is_raw = match request.end.format {
                Some(format) => format != Format::Spgz,
                // As a blockprint there would take it.
                None => !is_named_container(Path::new(far.path)),
            };
            (if is_raw { line.script(" --no-compress") } else { line }, is_relayed)
        }
    };
    if request.remote_progress {
        line = line.script("--calc-progress");
        if shows_sync {
            line = line.script("--sync-progress");
        }
    }
    if far.path.as_bytes().starts_with(b"-") {
        // It has no end of options in this place.
        let mut path = OsString::from("./");
        path.push(far.path);
        return line.path(path);
    }
    line.path(far.path)
}

/// Why the far end did not say who it is.
fn no_answer(
    peer: Peer,
    wire: Wire<'static>,
    mut first: Vec<u8>,
    failure: Option<io::Error>,
    protocol: Protocol,
    task: &Task,
) -> Error {
    const SHOWN_BYTES: u64 = 160;
    const PATIENCE: Duration = Duration::from_secs(2);
    if let Err(error) = task.checkpoint() {
        return error;
    }
    let host = peer.host().to_string();
    let Wire { mut input, output, hangup } = wire;
    if !first.is_empty() && failure.is_none() && first.len() == native::MAGIC.len() {
        // A login script that greets has the rest of its line there already, or will have soon; one that asks for
        // something waits.
        thread::scope(|scope| {
            let (_is_read, waits) = mpsc::channel::<()>();
            let hangup = &hangup;
            scope.spawn(move || {
                let _ = waits.recv_timeout(PATIENCE);
                hangup.now();
            });
            let mut byte = [0];
            while !first.contains(&b'\n')
                && (first.len() as u64) < SHOWN_BYTES
                && input.read(&mut byte).is_ok_and(|len| len == 1)
            {
                first.push(byte[0]);
            }
        });
        let line = first.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let sentence = format!(
            "{host} answers {:?}, which is no sync protocol: something there, perhaps a login script, writes to standard output, or the command is not the right one",
            harmless(line)
        );
        return Error::new(ErrorKind::Io, sentence);
    }
    drop((input, output));
    let ended = peer.leave();
    let advice = match protocol {
        Protocol::Diskrsync => format!(
            "there is no diskrsync on {host}, or not in the PATH of commands (--remote-command says where)"
        ),
        Protocol::Native => format!(
            "there is no blockprint on {host}, or not in the PATH of commands (--remote-command says where; --protocol diskrsync speaks with a diskrsync)"
        ),
        Protocol::Auto => format!(
            "there is neither blockprint nor diskrsync on {host}, or not in the PATH of commands (--remote-command says where)"
        ),
    };
    match ended.error {
        Some(error) if ended.not_found => {
            Error::new(ErrorKind::NotFound, format!("{advice}: {error}"))
        }
        Some(error) => error,
        None => {
            let sentence = format!("the other end on {host} ended without a word");
            match failure {
                Some(cause) => Error::io(sentence, cause),
                None => Error::new(ErrorKind::Io, sentence),
            }
        }
    }
}
