//! PostgreSQL settings that make a restored server recover to the target and affect no other
//! server.
//!
//! They are appended to `postgresql.auto.conf`, which overrides every other settings file, and
//! whose last line about a setting applies. They take effect whatever the restored settings are.

use causeway_core::Timeline;
use causeway_core::backup::RecoveryTarget;
use causeway_core::lsn::SegmentName;

use crate::config::Config;
use crate::display::as_recovery_target;
use crate::error::Error;
use crate::restore::request::{Archiving, Boundary, Purpose, RestoreRequest, TargetAction};

/// Time for which `restore_command` retries while no bucket gives a usable response. Then recovery
/// stops with an error, and the next start continues it.
const RECOVERY_RETRY_SECS: u32 = 600;

/// The same for a standby, which logs a bucket's silence then, and waits on.
const STANDBY_RETRY_SECS: u32 = 60;

/// Name and value of a setting.
type Setting = (&'static str, String);

/// Destination of recovery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    /// Timeline that it follows.
    pub(crate) timeline: Timeline,
    /// Last segment on the way that the buckets listed.
    pub(crate) known_end: Option<SegmentName>,
}

/// Returns the lines to append to `postgresql.auto.conf` of a server of `version` (such as 150018),
/// so that recovery goes to `destination`.
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
            // The number instead of `latest`: PostgreSQL then follows the timeline that was read
            // from the archive. It takes a number without a history file for the end of its search.
            Purpose::Recover(_) => timeline.to_string(),
            // A standby follows every future primary. `wal fetch` supplies a placeholder for
            // missing numbers.
            Purpose::Standby => request
                .timeline
                .map_or_else(|| "latest".to_owned(), |timeline| timeline.to_string()),
        },
    ));
    settings.extend(reset_recovery_settings(version));
    if let Purpose::Recover(action) = request.purpose {
        settings.extend(target(request, action));
        settings.extend(standalone_settings(version));
    }
    if request.archiving == Archiving::Off {
        settings.extend(disabled_archiving(version));
    }
    if matches!(request.purpose, Purpose::Recover(_)) && request.archiving == Archiving::Off {
        // A promoted copy would connect to the publishers of the original's subscriptions and
        // consume their replication slots.
        settings.push(("max_logical_replication_workers", "0".to_owned()));
    }
    let mut text = String::from("\n# Written by `backup-agent restore`.\n");
    for (name, value) in settings {
        text.extend([name, " = '", &escaped(&value), "'\n"]);
    }
    Ok(text)
}

/// Resets the settings that determine the end of recovery and the commands on its way. PostgreSQL
/// refuses to start with two targets, such as one of an earlier restore.
fn reset_recovery_settings(version: u32) -> Vec<Setting> {
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
    // PostgreSQL refuses to start with an unknown name: 16 has removed this one.
    if version < 160_000 {
        empty.push("promote_trigger_file");
    }
    let mut settings: Vec<Setting> = empty
        .into_iter()
        .map(|name| (name, String::new()))
        .collect();
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
    // Without it PostgreSQL shuts down instead of pausing, and the data could not be inspected.
    settings.push(("hot_standby", "on".to_owned()));
    settings
}

/// Resets the settings that tie a copy to other servers: synchronous standbys, the original's
/// primary, and files that a server beside it writes too. An empty file name would be an error in
/// the log.
fn standalone_settings(version: u32) -> Vec<Setting> {
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

fn disabled_archiving(version: u32) -> Vec<Setting> {
    let mut settings = vec![
        ("archive_mode", "off".to_owned()),
        ("archive_command", String::new()),
    ];
    if version >= 150_000 {
        settings.push(("archive_library", String::new()));
    }
    settings
}

/// Returns the `restore_command`. Recovery must stop at every failure that is not the end of the
/// WAL. A standby must not, because such a failure would shut it down: it waits for silent buckets.
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
        Purpose::Standby => {
            format!("wal fetch --restored-on {timeline} --retry-timeout-secs {STANDBY_RETRY_SECS}")
        }
    };
    let from = request.from.as_deref().map_or(String::new(), |endpoint| {
        format!(" --from {}", quoted(endpoint))
    });
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

/// Escapes a value for a quoted string in a settings file (`GUC_scanstr` in
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
                reset_recovery_settings(version),
                standalone_settings(version),
                disabled_archiving(version),
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
