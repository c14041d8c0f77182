//! The settings with which PostgreSQL recovers as far as was asked, and no farther.

use clap::ValueEnum;
use ha_core::Timeline;
use ha_core::backup::Target;

use crate::config::Config;
use crate::error::{Failure, as_recovery_target};
use crate::restore::Order;

/// How long each `restore_command` of a restored server waits for buckets that are all away.
/// PostgreSQL takes every failure for the end of the log, and would end recovery there.
const RETRY_TIMEOUT_SECS: u32 = 60;

/// What a restored server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To recover to a target, and then to do this.
    Recover(Action),
    /// To follow a primary.
    Standby,
}

/// What is done once the target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Accept writes, on a new timeline.
    Promote,
    /// Wait, readable, until someone looks and calls `pg_wal_replay_resume()`.
    Pause,
    /// Stop.
    Shutdown,
}

/// Whether a restored server archives its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Archiving {
    /// As the restored settings say.
    Preserve,
    /// Not at all: a copy made for a look must not add a timeline to the cluster's archive.
    Off,
}

/// Returns what is appended to `postgresql.auto.conf`, so that recovery goes towards `timeline`.
pub(crate) fn settings(
    config: &Config,
    order: &Order,
    timeline: Timeline,
) -> Result<String, Failure> {
    let mut text = String::from("\n# Written by `backup-agent restore`.\n");
    let mut set = |name: &str, value: &str| {
        text.extend([name, " = '", &value.replace('\'', "''"), "'\n"]);
    };
    set("restore_command", &restore_command(config, order)?);
    let timeline = match order.purpose {
        // The number, so that PostgreSQL goes where this archive was read to go, whatever it finds
        // between: it takes a number without a history file for the end of the search.
        Purpose::Recover(_) => timeline.to_string(),
        // A standby follows every primary to come. `wal fetch` answers for numbers that are missing.
        Purpose::Standby => order
            .timeline
            .map_or_else(|| "latest".to_owned(), |it| it.to_string()),
    };
    set("recovery_target_timeline", &timeline);
    if order.archiving == Archiving::Off {
        set("archive_mode", "off");
    }
    // The restored settings may still name the target of an earlier restore, and PostgreSQL refuses
    // to start with two.
    for name in ["", "_lsn", "_name", "_time", "_xid"] {
        set(&format!("recovery_target{name}"), "");
    }
    let Purpose::Recover(action) = order.purpose else {
        return Ok(text);
    };
    match &order.target {
        Target::Latest => return Ok(text),
        Target::Lsn(lsn) => set("recovery_target_lsn", &lsn.to_string()),
        Target::Name(name) => set("recovery_target_name", name),
        Target::Time(time) => set("recovery_target_time", &as_recovery_target(*time)),
        Target::Xid(xid) => set("recovery_target_xid", &xid.to_string()),
    }
    let action = match action {
        Action::Promote => "promote",
        Action::Pause => "pause",
        Action::Shutdown => "shutdown",
    };
    set("recovery_target_action", action);
    Ok(text)
}

fn restore_command(config: &Config, order: &Order) -> Result<String, Failure> {
    let program =
        std::env::current_exe().map_err(Failure::io("find", "/proc/self/exe".as_ref()))?;
    let from = order
        .from
        .as_deref()
        .map_or(String::new(), |it| format!(" --from {}", quoted(it)));
    Ok(format!(
        "{} --config {} wal fetch --retry-timeout-secs {RETRY_TIMEOUT_SECS}{from} \"%f\" \"%p\"",
        quoted(&program.display().to_string()),
        quoted(&config.path.display().to_string()),
    ))
}

/// Quotes for a shell, and doubles `%`, which PostgreSQL would replace.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_or_postgresql_would_read_into_a_path_is_quoted() {
        assert_eq!(quoted("/opt/it's 100%"), r"'/opt/it'\''s 100%%'");
    }
}
