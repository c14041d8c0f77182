//! `backup-agent check`: verifies every precondition of a backup, a push and a restore.

mod archive;
mod outcome;
mod textfile;

use std::time::Duration;

use bytes::Bytes;
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::chain;
use serde::Serialize;

use crate::base_backup::session::Session;
use crate::cli;
use crate::command::check::outcome::CheckOutcome;
use crate::config::Config;
use crate::error::Error;
use crate::output;
use crate::storage::bucket::{Bucket, CreateOutcome};
use crate::storage::buckets::{BRIEF, Buckets};
use crate::storage::object_keys::ObjectKeys;
use crate::unit_user::unit_user_note;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct CheckOutput {
    format: u32,
    checks: Vec<CheckOutcome>,
}

pub(super) async fn run(config: &Config, args: &cli::CheckArgs) -> Result<(), Error> {
    let checks = vec![CheckOutcome::new("settings", Ok(()))];
    if args.settings_only {
        return print(args, checks);
    }
    if args.before_install {
        // What is learned about the buckets is not kept: nothing is left on the host.
        let scratch = tempfile::tempdir().map_err(Error::io("create", &std::env::temp_dir()))?;
        let mut config = config.clone();
        scratch.path().clone_into(&mut config.state_directory);
        config.metrics_textfile = None;
        return check_all(&config, args, checks).await;
    }
    check_all(config, args, checks).await
}

async fn check_all(
    config: &Config,
    args: &cli::CheckArgs,
    mut checks: Vec<CheckOutcome>,
) -> Result<(), Error> {
    if args.judges_files() {
        checks.extend(unit_user_note().map(|note| CheckOutcome::noted("user", note)));
    }
    let is_identity_due = !args.before_install || config.identity_exists();
    if config.has_identity() && is_identity_due {
        let identity = config.identity().map(drop);
        checks.push(CheckOutcome::new(
            "identity",
            identity.map_err(|error| chain(&error)),
        ));
    }
    let buckets = Buckets::new(config, BRIEF).await;
    for bucket in buckets.all() {
        let listed = bucket
            .list(&ObjectKeys::cluster_prefix(&config.cluster), "~")
            .await;
        let outcome = listed.map(drop).map_err(|error| chain(&error));
        checks.push(CheckOutcome::new(
            format!("bucket {}", bucket.name()),
            outcome,
        ));
    }
    for bucket in buckets.all() {
        let name = format!("conditional write in bucket {}", bucket.name());
        checks.push(CheckOutcome::new(
            name,
            conditional_write(config, bucket).await,
        ));
    }
    if args.before_install {
        checks.push(archive::check_name_unused(config, &buckets).await);
    } else {
        checks.extend(archive::checks(config, &buckets).await);
        let notes = buckets.health().check();
        let name = format!("state directory {}", config.state_directory.display());
        checks.push(CheckOutcome::new(
            name,
            notes.map_err(|error| error.to_string()),
        ));
        checks.extend(config.metrics_textfile.as_deref().map(textfile::check));
        checks.extend(server(config).await);
    }
    print(args, checks)
}

/// Prints the checks, and fails if any has failed.
fn print(args: &cli::CheckArgs, checks: Vec<CheckOutcome>) -> Result<(), Error> {
    let all = checks.len();
    let failed = checks.iter().filter(|check| !check.ok).count();
    if args.json {
        output::json(&CheckOutput { format: 1, checks })?;
    } else {
        for check in &checks {
            let word = if check.ok { "ok    " } else { "FAILED" };
            let why = check.why.as_ref();
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            output::line(&format!("{word} {}{why}", check.name));
        }
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Error::ChecksFailed { failed, all })
}

/// Checks that the store supports `If-None-Match`, which prevents overwriting: of two writes of one
/// key the second must be refused. The object remains, because a node may delete nothing; it is
/// always the same.
async fn conditional_write(config: &Config, bucket: &Bucket) -> Result<(), String> {
    let key = ObjectKeys::write_check(&config.cluster);
    let body = Bytes::from_static(b"written by `backup-agent check`\n");
    for _ in 0..2 {
        match bucket.create(&key, &body).await {
            Ok(CreateOutcome::AlreadyThere) => return Ok(()),
            Ok(CreateOutcome::New) => {}
            Err(error) => return Err(chain(&error)),
        }
    }
    Err(
        "it overwrote an object despite `If-None-Match: *`: use a store that supports it"
            .to_owned(),
    )
}

async fn server(config: &Config) -> Vec<CheckOutcome> {
    let tasks = Tasks::new();
    let session = Session::connect(&config.postgres.server, config.limits.server, &tasks).await;
    let checks = match &session {
        Ok(session) => connected(config, session).await,
        Err(error) => vec![CheckOutcome::new("PostgreSQL", Err(chain(error)))],
    };
    drop(session);
    tasks.stop(Duration::from_secs(1)).await;
    checks
}

async fn connected(config: &Config, session: &Session) -> Vec<CheckOutcome> {
    let mut checks = vec![CheckOutcome::new("PostgreSQL", Ok(()))];
    let same = session.verify_directory(&config.postgres.data_directory);
    let outcome = same.await.map_err(|error| chain(&error));
    checks.push(CheckOutcome::new("data directory", outcome));
    if let Some(directory) = &config.postgres.bin_directory {
        let outcome = programs(directory, session.version());
        checks.push(CheckOutcome::new("programs", outcome));
    }
    let mode = expect(session, "archive_mode", |value| value != "off");
    checks.push(CheckOutcome::new("archive_mode", mode.await));
    let command = expect(session, "archive_command", |value| {
        value.contains("wal push") && value.contains("%p")
    });
    checks.push(CheckOutcome::new("archive_command", command.await));
    let archiver = session.failing_segment().await;
    let archiver = match archiver {
        Ok(None) => Ok(()),
        Ok(Some(name)) => Err(format!("`{name}` is not archived: the last attempt failed")),
        Err(error) => Err(chain(&error)),
    };
    checks.push(CheckOutcome::new("archiver", archiver));
    checks
}

async fn expect(
    session: &Session,
    name: &str,
    is_right: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let value = session.setting(name).await.map_err(|error| chain(&error))?;
    if is_right(&value) {
        return Ok(());
    }
    Err(format!("it is `{value}`"))
}

/// Compares the server's major version with that of the programs that should be installed beside
/// it.
fn programs(directory: &std::path::Path, server_version: u32) -> Result<(), String> {
    let path = directory.join("postgres");
    let asked = std::process::Command::new(&path).arg("--version").output();
    let answer = asked.map_err(|error| format!("`{}`: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let major = server_version / 10_000;
    let is_same = text
        .split_whitespace()
        .any(|part| part.split('.').next() == Some(&major.to_string()) && part.contains('.'));
    if is_same {
        return Ok(());
    }
    Err(format!(
        "`{}` is `{}`, and the server has version {major}",
        path.display(),
        text.trim()
    ))
}
