//! `backup-agent check`: everything that a backup, a push or a restore would stumble over.

use std::time::Duration;

use bytes::Bytes;
use ha_core::Timeline;
use ha_runtime::shutdown::Tasks;
use ha_runtime::telemetry::chain;
use serde::Serialize;

use crate::base_backup::Session;
use crate::buckets::{BRIEF, Buckets};
use crate::catalog::{self, Depth};
use crate::cli;
use crate::config::Config;
use crate::control_file;
use crate::error::Failure;
use crate::layout::Layout;
use crate::object_store::{Bucket, Created};
use crate::output;
use crate::reach::{self, GapText, Overview};
use crate::wal_archive::WalArchive;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Checked {
    format: u32,
    checks: Vec<Check>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Check {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, outcome: Result<(), String>) -> Self {
        Self {
            name: name.into(),
            ok: outcome.is_ok(),
            why: outcome.err(),
        }
    }
}

pub(super) async fn run(config: &Config, args: &cli::Check) -> Result<(), Failure> {
    let mut checks = vec![Check::new("settings", Ok(()))];
    if config.has_identity() {
        let identity = config.identity().map(drop);
        checks.push(Check::new("identity", identity.map_err(|it| chain(&it))));
    }
    let buckets = Buckets::new(config, BRIEF).await;
    for bucket in buckets.all() {
        let listed = bucket.list(&Layout::clusters(&config.cluster), "~").await;
        let outcome = listed.map(drop).map_err(|it| chain(&it));
        checks.push(Check::new(format!("bucket {}", bucket.name()), outcome));
    }
    for bucket in buckets.all() {
        let name = format!("conditional write in bucket {}", bucket.name());
        checks.push(Check::new(name, conditional_write(config, bucket).await));
    }
    checks.extend(archive(config, &buckets).await);
    let notes = buckets.health().check();
    let name = format!("state directory {}", config.state_directory.display());
    checks.push(Check::new(name, notes.map_err(|it| it.to_string())));
    checks.extend(server(config).await);

    let all = checks.len();
    let failed = checks.iter().filter(|it| !it.ok).count();
    if args.json {
        output::json(&Checked { format: 1, checks })?;
    } else {
        for check in &checks {
            let word = if check.ok { "ok    " } else { "FAILED" };
            let why = check.why.as_ref().map(|it| format!(": {it}"));
            output::line(&format!("{word} {}{}", check.name, why.unwrap_or_default()));
        }
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::ChecksFailed { failed, all })
}

/// Nothing is overwritten only where the store honours `If-None-Match`: of two writes of one key, the
/// second must be refused. The object stays, because a node may delete nothing; it is always the same.
async fn conditional_write(config: &Config, bucket: &Bucket) -> Result<(), String> {
    let key = Layout::write_check(&config.cluster);
    let body = Bytes::from_static(b"written by `backup-agent check`\n");
    for _ in 0..2 {
        match bucket.create(&key, &body).await {
            Ok(Created::AlreadyThere) => return Ok(()),
            Ok(Created::New) => {}
            Err(error) => return Err(chain(&error)),
        }
    }
    Err(
        "it overwrote an object in spite of `If-None-Match: *`: use a store that honours it"
            .to_owned(),
    )
}

/// Looks at what is stored for the cluster: backups that cannot be looked at, and gaps in the WAL that
/// follows them.
async fn archive(config: &Config, buckets: &Buckets) -> Vec<Check> {
    let Ok(system_id) = control_file::system_id(&config.postgres.data_directory) else {
        // Named by the check of the data directory.
        return Vec::new();
    };
    match look(config, buckets, system_id).await {
        Ok(checks) => checks,
        Err(error) => vec![Check::new("archive", Err(chain(&error)))],
    }
}

async fn look(config: &Config, buckets: &Buckets, system_id: u64) -> Result<Vec<Check>, Failure> {
    let archive = WalArchive::new(config, buckets, system_id);
    let catalog = catalog::list(buckets, archive.layout()).await?;
    let identity = if config.has_identity() {
        config.identity().ok()
    } else {
        None
    };
    let mut wrong: Vec<String> = catalog
        .unreadable
        .iter()
        .map(|it| {
            format!(
                "backup {} in bucket `{}`: {}",
                it.id,
                it.bucket,
                chain(&it.why)
            )
        })
        .collect();
    if let Some((newest, identity)) = catalog.backups.last().zip(identity.as_ref()) {
        let id = &newest.summary.id;
        let opened = catalog::manifest(buckets, archive.layout(), identity, id, Depth::Files).await;
        wrong.extend(
            opened
                .err()
                .map(|it| format!("backup {id}: {}", chain(&it))),
        );
    }
    let unreadable = Check::new("manifests", all_right(&wrong));
    wrong.clear();
    // What a bucket that did not answer holds is not known, and a check that did not look is not passed.
    wrong.extend(
        catalog
            .silent
            .iter()
            .map(|name| format!("bucket `{name}` did not list its backups")),
    );
    if let Some(newest) = catalog.backups.last() {
        let answered = buckets.all().iter().map(Bucket::name);
        let answered = answered.filter(|it| !catalog.silent.iter().any(|silent| silent == it));
        for name in answered.filter(|it| !newest.buckets.iter().any(|holder| holder == it)) {
            let any = catalog
                .backups
                .iter()
                .any(|it| it.buckets.iter().any(|it| it == name));
            wrong.push(if any {
                format!(
                    "bucket `{name}` lacks the newest, {}: `backup-agent wal backfill` copies it",
                    newest.summary.id
                )
            } else {
                format!("bucket `{name}` has none: `backup-agent wal backfill --all` copies everything to it")
            });
        }
    }
    let copies = Check::new("backups in every bucket", all_right(&wrong));
    wrong.clear();
    let summaries = catalog.summaries();
    let overview = Overview::new(&archive, buckets, identity.as_ref(), &summaries).await?;
    for entry in &catalog.backups {
        let gaps = overview
            .iter()
            .flat_map(|it| it.gaps(&entry.summary, &entry.buckets));
        let texts = gaps.map(|(place, gap)| format!("{} in {place}", GapText(gap)));
        wrong.extend(texts);
    }
    wrong.dedup();
    let gaps = Check::new("WAL without a gap", all_right(&wrong));
    wrong.clear();
    let known = archive.histories().await?;
    let (written, _) = reach::written_timelines(buckets, archive.layout()).await?;
    let lost = written
        .iter()
        .filter(|it| **it > Timeline::FIRST && !known.contains(it));
    wrong.extend(lost.map(|it| {
        format!("timeline {it} has WAL, and its history is in no bucket: archive it again from a node's `pg_wal`")
    }));
    let histories = Check::new("histories", all_right(&wrong));
    Ok(vec![unreadable, copies, gaps, histories])
}

fn all_right(wrong: &[String]) -> Result<(), String> {
    if wrong.is_empty() {
        return Ok(());
    }
    Err(wrong.join("; "))
}

async fn server(config: &Config) -> Vec<Check> {
    let tasks = Tasks::new();
    let session = Session::connect(&config.postgres.server, &tasks).await;
    let checks = match &session {
        Ok(session) => connected(config, session).await,
        Err(error) => vec![Check::new("PostgreSQL", Err(chain(error)))],
    };
    drop(session);
    tasks.stop(Duration::from_secs(1)).await;
    checks
}

async fn connected(config: &Config, session: &Session) -> Vec<Check> {
    let mut checks = vec![Check::new("PostgreSQL", Ok(()))];
    let same = session.verify_directory(&config.postgres.data_directory);
    let outcome = same.await.map_err(|it| chain(&it));
    checks.push(Check::new("data directory", outcome));
    if let Some(directory) = &config.postgres.bin_directory {
        let outcome = programs(directory, session.version());
        checks.push(Check::new("programs", outcome));
    }
    let mode = expect(session, "archive_mode", |it| it != "off");
    checks.push(Check::new("archive_mode", mode.await));
    let command = expect(session, "archive_command", |it| {
        it.contains("wal push") && it.contains("%p")
    });
    checks.push(Check::new("archive_command", command.await));
    let archiver = session.failing_segment().await;
    let archiver = match archiver {
        Ok(None) => Ok(()),
        Ok(Some(name)) => Err(format!("`{name}` is not archived: its last try failed")),
        Err(error) => Err(chain(&error)),
    };
    checks.push(Check::new("archiver", archiver));
    checks
}

async fn expect(
    session: &Session,
    name: &str,
    is_right: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let value = session.setting(name).await.map_err(|it| chain(&it))?;
    if is_right(&value) {
        return Ok(());
    }
    Err(format!("it is `{value}`"))
}

/// Compares the server's major version with that of the programs beside which it should have been
/// installed.
fn programs(directory: &std::path::Path, server_version: u32) -> Result<(), String> {
    let path = directory.join("postgres");
    let asked = std::process::Command::new(&path).arg("--version").output();
    let answer = asked.map_err(|it| format!("`{}`: {it}", path.display()))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let major = server_version / 10_000;
    let is_same = text
        .split_whitespace()
        .any(|it| it.split('.').next() == Some(&major.to_string()) && it.contains('.'));
    if is_same {
        return Ok(());
    }
    Err(format!(
        "`{}` is `{}`, and the server has version {major}",
        path.display(),
        text.trim()
    ))
}
