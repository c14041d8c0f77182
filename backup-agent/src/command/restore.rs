//! `backup-agent restore`.

use std::time::Duration;

use causeway_core::backup::RecoveryTarget;
use causeway_runtime::byte_size;
use jiff::Timestamp;
use serde::Serialize;
use tracing::warn;

use crate::cli;
use crate::config::Config;
use crate::display;
use crate::error::Error;
use crate::output;
use crate::restore;
use crate::restore::request::{
    Archiving, Purpose, RestoreRequest, TargetAction, boundary, check_restore_point, target_action,
};
use crate::restore::target_directories;
use crate::storage::buckets::{Buckets, LONG};
use crate::storage::catalog;
use crate::storage::health_report::FilledDirectory;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RestoreOutput {
    format: u32,
    backup: super::list::BackupEntry,
    files: u64,
    directory: String,
    timeline: u32,
    when_recovered: &'static str,
    archiving: bool,
    notes: Vec<String>,
    reach: crate::archive::reach::ReachOutput,
}

pub(super) async fn run(config: &Config, args: cli::RestoreArgs) -> Result<(), Error> {
    let (json, system_id) = (args.json, args.system_id);
    let request = request(args)?;
    let buckets = Buckets::new(config, LONG).await;
    let buckets = buckets.only(request.from.as_deref())?;
    let system_id = catalog::system_id(config, &buckets, system_id).await?;
    let began_at = Timestamp::now().as_second();
    let restored = restore::restore(config, &buckets, system_id, &request).await;
    let restored = restored.inspect_err(|_| {
        if restore::is_interrupted(&request.directory) {
            warn!(directory = %request.directory.display(), "restore interrupted, the same command resumes it");
        }
    })?;
    buckets.health().record_restore(FilledDirectory {
        path: request.directory.clone(),
        system_id,
        began_at,
    });
    if json {
        return output::json(&RestoreOutput {
            format: 1,
            backup: super::list::BackupEntry::new(&restored.summary, &[]),
            files: restored.files,
            directory: request.directory.display().to_string(),
            timeline: restored.timeline.get(),
            when_recovered: action_after_recovery(request.purpose),
            archiving: request.archiving == Archiving::Preserve,
            notes: restored.notes,
            reach: restored.reach.output(),
        });
    }
    for line in result_lines(&request, &restored) {
        output::line(&line);
    }
    Ok(())
}

/// Returns the request of `args`, or refuses options without effect and options that would harm
/// another server's files.
fn request(args: cli::RestoreArgs) -> Result<RestoreRequest, Error> {
    let target = RecoveryTarget::from(args.target);
    let (purpose, usual) = if args.standby {
        (Purpose::Standby, Archiving::Preserve)
    } else {
        let action = target_action(&target, args.target_action)?;
        (Purpose::Recover(action), Archiving::Off)
    };
    let boundary = boundary(&target, args.target_exclusive)?;
    check_restore_point(&target)?;
    let directory = target_directories::absolute(&args.target_directory)?;
    let tablespace_directory = args.tablespace_directory;
    let request = RestoreRequest {
        directory,
        target,
        boundary,
        backup: args.backup,
        timeline: args.target_timeline,
        purpose,
        archiving: args.archive_mode.unwrap_or(usual),
        from: args.from,
        tablespaces: args.tablespace_mapping,
        tablespace_directory,
        retry_timeout: Duration::from_secs(args.retry_timeout_secs),
    };
    target_directories::check(&request)?;
    Ok(request)
}

fn action_after_recovery(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Recover(TargetAction::Promote) => "promote",
        Purpose::Recover(TargetAction::Pause) => "pause",
        Purpose::Recover(TargetAction::Shutdown) => "shutdown",
        Purpose::Standby => "follow",
    }
}

/// Returns the result of the restore, and the behavior of the copy when it is started.
fn result_lines(request: &RestoreRequest, restored: &restore::RestoredBackup) -> Vec<String> {
    let summary = &restored.summary;
    let mut lines = vec![format!(
        "backup {} restored to `{}`: {} files, {}",
        summary.id,
        request.directory.display(),
        restored.files,
        byte_size::format(summary.raw_bytes),
    )];
    lines.push(match request.purpose {
        Purpose::Standby => {
            "when started, it is a standby: it replays the archived WAL and is never promoted automatically"
                .to_owned()
        }
        Purpose::Recover(action) => {
            let (target, timeline) = (target(&request.target), restored.timeline);
            let then = match action {
                TargetAction::Promote => "is promoted: it accepts writes, on a new timeline",
                TargetAction::Pause => {
                    "pauses, readable; `select pg_wal_replay_resume()` promotes it"
                }
                TargetAction::Shutdown => "stops",
            };
            format!("when started, it replays WAL of timeline {timeline} to {target}, and then {then}")
        }
    });
    if request.archiving == Archiving::Off {
        lines.push(
            "it does not archive its own WAL (`archive_mode = off` in postgresql.auto.conf)"
                .to_owned(),
        );
    }
    lines.extend(restored.notes.iter().cloned());
    lines
}

fn target(target: &RecoveryTarget) -> String {
    match target {
        RecoveryTarget::Latest => "the end of the archive".to_owned(),
        RecoveryTarget::Immediate => "the end of the backup".to_owned(),
        RecoveryTarget::Time(time) => display::timestamp(*time),
        RecoveryTarget::Lsn(lsn) => format!("position {lsn}"),
        RecoveryTarget::Name(name) => format!("restore point `{name}`"),
        RecoveryTarget::Xid(xid) => format!("transaction {xid}"),
    }
}
