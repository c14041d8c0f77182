//! The settings with which PostgreSQL recovers as far as was asked, and acts on no other server.
//!
//! They are appended to `postgresql.auto.conf`, which outweighs every other settings file, and in
//! which the last line about a setting counts. So whatever the restored settings say, in that file or
//! another, what is named here is in force.

use causeway_core::Timeline;
use causeway_core::backup::RecoveryTarget;
use causeway_core::lsn::SegmentName;

use crate::config::Config;
use crate::display::as_recovery_target;
use crate::error::Error;
use crate::restore::request::{Archiving, Boundary, Purpose, RestoreRequest, TargetAction};

/// For how long `restore_command` retries while no bucket gives an answer that counts. After that
/// recovery stops with an error, and is continued by the next start.
const RECOVERY_RETRY_SECS: u32 = 600;

/// The same for a standby, to which PostgreSQL comes back by itself.
const STANDBY_RETRY_SECS: u32 = 60;

/// A setting, and what it has to be.
type Setting = (&'static str, String);

/// Where recovery goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    /// The timeline that it follows.
    pub(crate) timeline: Timeline,
    /// The last segment on the way that the buckets listed.
    pub(crate) known_end: Option<SegmentName>,
}

/// Returns what is appended to `postgresql.auto.conf` of a server of `version` (such as 150018), so
/// that recovery goes to `destination`.
pub(crate) fn settings(
    config: &Config,
    request: &RestoreRequest,
    destination: Destination,
    version: u32,
) -> Result<String, Error> {
    let timeline = destination.timeline;
    let restore_command = restore_command(config, request, destination)?;
    let mut settings = vec![("restore_command", restore_command)];
    settings.push((
        "recovery_target_timeline",
        match request.purpose {
            // The number, so that PostgreSQL goes where this archive was read to go, whatever it finds
            // between: it takes a number without a history file for the end of the search.
            Purpose::Recover(_) => timeline.to_string(),
            // A standby follows every primary to come. `wal fetch` answers for numbers that are missing.
            Purpose::Standby => request
                .timeline
                .map_or_else(|| "latest".to_owned(), |timeline| timeline.to_string()),
        },
    ));
    settings.extend(no_inherited_recovery(version));
    if let Purpose::Recover(action) = request.purpose {
        settings.extend(target(request, action));
        settings.extend(alone(version));
    }
    if request.archiving == Archiving::Off {
        settings.extend(not_archiving(version));
    }
    if matches!(request.purpose, Purpose::Recover(_)) && request.archiving == Archiving::Off {
        // A copy that is promoted would connect to the publishers of the original's subscriptions,
        // and consume their replication slots.
        settings.push(("max_logical_replication_workers", "0".to_owned()));
    }
    let mut text = String::from("\n# Written by `backup-agent restore`.\n");
    for (name, value) in settings {
        text.extend([name, " = '", &escaped(&value), "'\n"]);
    }
    Ok(text)
}

/// Resets what decides where recovery ends and what is run on its way. PostgreSQL refuses to start
/// with two targets, such as one of an earlier restore.
fn no_inherited_recovery(version: u32) -> Vec<Setting> {
    let mut empty = vec![
        "recovery_target",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_xid",
        "recovery_end_command",
        "archive_cleanup_command",
        "primary_slot_name",
    ];
    // An unknown name stops the server: 16 has no longer this one.
    if version < 160_000 {
        empty.push("promote_trigger_file");
    }
    let mut settings: Vec<Setting> = empty.into_iter().map(|name| (name, String::new())).collect();
    settings.push(("recovery_target_inclusive", "on".to_owned()));
    settings.push(("recovery_min_apply_delay", "0".to_owned()));
    settings
}

fn target(request: &RestoreRequest, action: TargetAction) -> Vec<Setting> {
    let mut settings = Vec::new();
    match &request.target {
        RecoveryTarget::Latest => {}
        RecoveryTarget::Immediate => settings.push(("recovery_target", "immediate".to_owned())),
        RecoveryTarget::Lsn(lsn) => settings.push(("recovery_target_lsn", lsn.to_string())),
        RecoveryTarget::Name(name) => settings.push(("recovery_target_name", name.clone())),
        RecoveryTarget::Time(time) => {
            settings.push(("recovery_target_time", as_recovery_target(*time)));
        }
        RecoveryTarget::Xid(xid) => settings.push(("recovery_target_xid", xid.to_string())),
    }
    if request.boundary == Boundary::Exclusive {
        settings.push(("recovery_target_inclusive", "off".to_owned()));
    }
    let action = match action {
        TargetAction::Promote => "promote",
        TargetAction::Pause => "pause",
        TargetAction::Shutdown => "shutdown",
    };
    settings.push(("recovery_target_action", action.to_owned()));
    // PostgreSQL shuts down instead of pausing where nobody could look.
    settings.push(("hot_standby", "on".to_owned()));
    settings
}

/// Resets what ties a copy to other servers: the standbys without which no commit returns, the primary
/// that the original followed, and files that a server beside it writes too. An empty name of a file
/// would be an error in the log.
fn alone(version: u32) -> Vec<Setting> {
    let mut settings = vec![
        ("synchronous_standby_names", String::new()),
        ("primary_conninfo", String::new()),
        ("external_pid_file", "postmaster.external.pid".to_owned()),
        ("log_directory", "log".to_owned()),
    ];
    if version < 150_000 {
        settings.push(("stats_temp_directory", "pg_stat_tmp".to_owned()));
    }
    settings
}

fn not_archiving(version: u32) -> Vec<Setting> {
    let mut settings = vec![
        ("archive_mode", "off".to_owned()),
        ("archive_command", String::new()),
    ];
    if version >= 150_000 {
        settings.push(("archive_library", String::new()));
    }
    settings
}

/// A recovery has to stop at every failure that is not the end of the WAL, and a standby must not:
/// PostgreSQL asks again by itself there, and would shut it down.
fn restore_command(
    config: &Config,
    request: &RestoreRequest,
    destination: Destination,
) -> Result<String, Error> {
    let Destination {
        timeline,
        known_end,
    } = destination;
    let program = std::env::current_exe().map_err(Error::io("find", "/proc/self/exe".as_ref()))?;
    let fetch = match request.purpose {
        Purpose::Recover(_) => {
            let known_end = known_end.map_or_else(String::new, |end| format!(" --known-end {end}"));
            format!(
                "wal fetch --recovery --target-timeline {timeline}{known_end} \
                 --retry-timeout-secs {RECOVERY_RETRY_SECS}"
            )
        }
        Purpose::Standby => format!("wal fetch --retry-timeout-secs {STANDBY_RETRY_SECS}"),
    };
    let from = request
        .from
        .as_deref()
        .map_or(String::new(), |endpoint| format!(" --from {}", quoted(endpoint)));
    let path = |path: &std::path::Path| path.to_str().map(quoted);
    let Some((program, settings)) = path(&program).zip(path(&config.path)) else {
        let text = "the paths of this program and of its settings must be UTF-8";
        return Err(Error::Refused(text.to_owned()));
    };
    Ok(format!(
        "{program} --config {settings} {fetch}{from} \"%f\" \"%p\""
    ))
}

/// Quotes for a shell, and doubles `%`, which PostgreSQL would replace.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%"))
}

/// Escapes as a settings file wants it between quotes (`GUC_scanstr` in
/// `src/backend/utils/misc/guc-file.l`).
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', r"\\")
        .replace('\'', "''")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_and_settings_file_then_each_quoted() {
        assert_eq!(quoted("/opt/it's 100%"), r"'/opt/it'\''s 100%%'");
        assert_eq!(escaped(r"'/opt/it'\''s'"), r"''/opt/it''\\''''s''");
    }

    #[test]
    fn setting_unknown_to_a_release_then_left_out() {
        let has = |version, name| {
            let all = [
                no_inherited_recovery(version),
                alone(version),
                not_archiving(version),
            ];
            all.concat().iter().any(|(setting, _)| *setting == name)
        };
        for (name, from, before) in [
            ("promote_trigger_file", 0, 160_000),
            ("stats_temp_directory", 0, 150_000),
            ("archive_library", 150_000, u32::MAX),
        ] {
            for version in [130_020, 140_018, 150_018, 160_009, 170_005, 180_000] {
                let known = from <= version && version < before;
                assert_eq!(has(version, name), known, "{name} in {version}");
            }
        }
    }
}
