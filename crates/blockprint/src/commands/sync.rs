//! `blockprint sync`.

use std::process::ExitCode;

use engine::Result;
use engine::location::{Format, Location, Place};
use engine::ops::sync::{
    self, EndRequest, KeepDigests, Protocol, RemoteLines, ServeRequest, ServeRole, Served,
    SyncReport, SyncRequest,
};
use engine::remote::Ssh;

use crate::args::{Common, FormatArg, ProgressArg, ProtocolArg, ServeArg, SyncArgs};
use crate::render::{Face, Report, Wanted, json, text};
use crate::{debug, exit};

pub(super) fn run(args: SyncArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let end = end(&args, common);
    if let Some(role) = args.serve {
        return Ok(serve(role, &args, end, common));
    }
    let ssh = Ssh { flags: args.ssh_flags(), remote_command: args.remote_command };
    let request = SyncRequest {
        source: Place::parse(&args.source)?,
        target: Place::parse(&args.target.unwrap_or_default())?,
        stores: args.stores.into(),
        end,
        protocol: match args.protocol {
            ProtocolArg::Auto => Protocol::Auto,
            ProtocolArg::Native => Protocol::Native,
            ProtocolArg::Diskrsync => Protocol::Diskrsync,
        },
        ssh,
        remote_progress: false,
        remote_lines: RemoteLines::default(),
        compress_wire: !args.no_compress_wire,
        limit_bytes_per_s: common.limit,
        used_only: args.used_only,
        dry_run: args.dry_run,
    };
    let report = face.run(|task| sync::perform(sync::plan(request, task)?, task))?;
    face.report(&report, if report.dry_run { Wanted::Always } else { Wanted::UnlessQuiet });
    Ok(ExitCode::SUCCESS)
}

/// The end that was called. Standard output is the wire: nothing else may be said there.
fn serve(role: ServeArg, args: &SyncArgs, end: EndRequest, common: &Common) -> ExitCode {
    let face = Face::new(&Common { json: false, progress: ProgressArg::None, ..*common });
    let request = ServeRequest {
        role: match role {
            ServeArg::Source => ServeRole::Source,
            ServeArg::Target => ServeRole::Target,
        },
        location: Location::parse(&args.source),
        end,
        diskrsync: args.protocol == ProtocolArg::Diskrsync,
        dry_run: args.dry_run,
    };
    match face.run(|task| sync::serve(request, task)) {
        Ok(Served::Done) => ExitCode::SUCCESS,
        // The other end says it to its user.
        Ok(Served::Told(kind)) => exit::code(kind),
        Err(error) => {
            face.error(&error);
            exit::code(error.kind())
        }
    }
}

fn end(args: &SyncArgs, common: &Common) -> EndRequest {
    EndRequest {
        format: args.format.map(|format| match format {
            FormatArg::Raw => Format::Raw,
            FormatArg::Spgz => Format::Spgz,
        }),
        block_bytes: args.block_size,
        content_decides: false,
        atomic: args.atomic,
        keep_digests: match &args.keep_digests {
            None => KeepDigests::No,
            Some(None) => KeepDigests::Beside,
            Some(Some(folder)) => KeepDigests::In(folder.clone()),
        },
        since: args.since.clone(),
        threads: common.threads(),
        checkpoint_every: debug::checkpoint_every(),
        steps: debug::steps(),
    }
}

impl Report for SyncReport {
    fn text(&self) -> String {
        text::sync(self)
    }
    fn json(&self) -> serde_json::Value {
        json::sync(self)
    }
}
