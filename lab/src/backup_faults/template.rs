//! Files of a small server, created once and copied for each history.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::sandbox::LAB_TIMEOUT;
use crate::cluster::files::{give_to_postgres, write};
use crate::cluster::postgres::bin_directory;
use crate::cluster::program::{Program, RunAs};

/// Minimal settings: segments of 1 MB, and commit timestamps.
const SETTINGS: &str = "
listen_addresses = ''
fsync = off
wal_level = replica
track_commit_timestamp = on
autovacuum = off
max_connections = 20
max_wal_senders = 0
max_worker_processes = 2
max_parallel_workers = 0
shared_buffers = 4MB
min_wal_size = 2MB
max_wal_size = 64MB
checkpoint_timeout = 1h
wal_retrieve_retry_interval = 100ms
jit = off
log_line_prefix = '%m [%p] '
timezone = 'UTC'
";

/// One database, and the two tables that each transaction writes to.
const STATEMENTS: &str = "\
update pg_database set datistemplate = false;

drop database template0;

drop database template1;

create table ledger (n bigint primary key, note text not null);

alter table ledger alter note set storage external;

create table counter (n bigint not null);

insert into counter values (0);

";

/// 10 MB of incompressible data, so that a pack is larger than one part of an upload.
const BALLAST: &str = "\
create table ballast as select (select string_agg(sha512((i * 1000 + j)::text::bytea), '') from generate_series(1, 100) j) as noise from generate_series(1, 1600) i;

";

/// Templates. Dropping this value removes them.
#[derive(Debug)]
pub(super) struct ServerTemplates {
    directory: PathBuf,
}

impl ServerTemplates {
    /// Creates both templates.
    pub(super) async fn create() -> anyhow::Result<Self> {
        let directory = PathBuf::from(format!(
            "/tmp/causeway-backup-faults-{}",
            std::process::id()
        ));
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("could not create `{}`", directory.display()))?;
        give_to_postgres(&directory)?;
        let templates = Self { directory };
        create_database(&templates.path(false), STATEMENTS).await?;
        super::sandbox::copy_directory(&templates.path(false), &templates.path(true)).await?;
        run_single_user(&templates.path(true), BALLAST).await?;
        Ok(templates)
    }

    /// Returns the directory of the template with or without ballast.
    pub(super) fn path(&self, ballast: bool) -> PathBuf {
        self.directory
            .join(if ballast { "ballast" } else { "small" })
    }
}

impl Drop for ServerTemplates {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, "templates not removed");
        }
    }
}

async fn create_database(data: &Path, statements: &str) -> anyhow::Result<()> {
    let shown = data.display().to_string();
    let arguments = [
        "--pgdata",
        &shown,
        "--username=postgres",
        "--data-checksums",
        "--wal-segsize=1",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ];
    program("initdb", &arguments, data)?
        .run(None, LAB_TIMEOUT)
        .await?;
    let path = data.join("postgresql.conf");
    let text = std::fs::read_to_string(&path)?;
    write(&path, &(text + SETTINGS))?;
    run_single_user(data, statements).await
}

async fn run_single_user(data: &Path, statements: &str) -> anyhow::Result<()> {
    let shown = data.display().to_string();
    let arguments = ["--single", "-D", &shown, "-j", "postgres"];
    let run = program("postgres", &arguments, data)?;
    let output = run.run(Some(statements), LAB_TIMEOUT).await?;
    if output.contains("ERROR") {
        bail!("could not create the template: {output}");
    }
    Ok(())
}

fn program(name: &str, arguments: &[&str], data: &Path) -> anyhow::Result<Program> {
    Ok(Program {
        name: name.to_owned(),
        executable: bin_directory()?.join(name),
        arguments: arguments.iter().map(Into::into).collect(),
        environment: BTreeMap::new(),
        run_as: RunAs::Postgres,
        stdin: None,
        log: data.with_extension("log"),
    })
}
