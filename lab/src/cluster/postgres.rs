//! First node's database, and the PostgreSQL settings of every node.
//!
//! Only the guard starts the platform's servers. The first database is created in single-user mode,
//! and standbys are cloned by their own agents.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::unistd::User;

use crate::cluster::files::{give_to_postgres, restrict, write};
use crate::cluster::program::{Program, RunAs, postgres_user};
use crate::cluster::secrets::LabSecrets;
use crate::cluster::topology::{NodeSpec, Topology};

/// Timeout of initdb and single-user mode on a busy machine. They take two seconds on an idle one.
const TIMEOUT: Duration = Duration::from_secs(90);

/// Returns the directory of PostgreSQL's programs: `CAUSEWAY_PG_BIN`, or the release that the tests
/// run against by default, or another installed one.
///
/// # Errors
///
/// When PostgreSQL is not installed.
pub fn bin_directory() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("CAUSEWAY_PG_BIN") {
        return Ok(PathBuf::from(named));
    }
    let debian = |version: u32| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"));
    let here = |path: &PathBuf| path.join("initdb").exists();
    match [15, 16, 17, 18].map(debian).into_iter().find(here) {
        Some(found) => Ok(found),
        None => bail!(
            "there is no PostgreSQL in `/usr/lib/postgresql`: run `make` once, or name the directory \
             of `initdb` in `CAUSEWAY_PG_BIN`"
        ),
    }
}

/// Creates a node's directories and PostgreSQL settings, as an installation does.
///
/// # Errors
///
/// When they cannot be created.
pub fn install(topology: &Topology, spec: &NodeSpec) -> anyhow::Result<()> {
    for directory in [
        spec.directory.clone(),
        spec.settings(),
        spec.sockets(),
        spec.guard(),
        spec.state(),
        spec.textfiles(),
        spec.data(),
    ] {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("could not create `{}`", directory.display()))?;
        give_to_postgres(&directory)?;
    }
    restrict(&spec.data(), 0o700)?;
    write_settings(topology, spec)?;
    let settings = spec.settings();
    write(&settings.join("pg_hba.conf"), CLIENT_AUTHENTICATION)?;
    write(&settings.join("pg_ident.conf"), &user_map()?)
}

/// Writes `postgresql.conf`.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_settings(topology: &Topology, spec: &NodeSpec) -> anyhow::Result<()> {
    let path = spec.settings().join("postgresql.conf");
    write(&path, &configuration(topology, spec))
}

/// Creates the platform's first database on a node: the cluster, its roles, and the database `app`
/// with the tables of the lab's clients.
///
/// # Errors
///
/// When initdb or a statement fails.
pub async fn create(
    topology: &Topology,
    spec: &NodeSpec,
    secrets: &LabSecrets,
) -> anyhow::Result<()> {
    let bin = bin_directory()?;
    let data = spec.data();
    let program = |name: &str, arguments: Vec<String>| Program {
        name: format!("{name} of {}", spec.node),
        executable: bin.join(name),
        arguments: arguments.into_iter().map(Into::into).collect(),
        environment: BTreeMap::new(),
        run_as: RunAs::Postgres,
        stdin: None,
        log: topology.logs().join(format!("initdb-{}.log", spec.node)),
    };
    let data = data.display().to_string();
    let initdb = [
        "--pgdata",
        &data,
        "--username=postgres",
        "--data-checksums",
        "--auth=scram-sha-256",
        "--auth-local=peer",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ];
    let initdb = initdb.map(str::to_owned).to_vec();
    let initdb = program("initdb", initdb);
    // initdb requires a superuser password only with scram for local connections; these use peer.
    initdb.run(None, TIMEOUT).await?;

    for (database, statements) in [("postgres", roles(secrets)), ("app", TABLES.to_owned())] {
        let arguments = ["--single", "-D", &data, "-j", database];
        let single_user = program("postgres", arguments.map(str::to_owned).to_vec());
        let output = single_user.run(Some(&statements), TIMEOUT).await?;
        if output.contains("ERROR") {
            bail!("could not create the first database: {output}");
        }
    }
    Ok(())
}

/// Network connections authenticate by password, and local ones by peer.
const CLIENT_AUTHENTICATION: &str = "\
# Written by the lab, read by PostgreSQL.
local  all          postgres                peer  map=lab
local  all          all                     scram-sha-256
host   replication  replicator  127.0.0.0/8 scram-sha-256
host   all          all         127.0.0.0/8 scram-sha-256
";

/// Returns the operating system users that may log in as superuser: PostgreSQL's own, and the
/// lab's.
fn user_map() -> anyhow::Result<String> {
    let oneself = User::from_uid(nix::unistd::Uid::effective())?
        .context("the user who runs the lab has no name")?;
    let mut lines = vec!["# Written by the lab, read by PostgreSQL.".to_owned()];
    let users = postgres_user()?.into_iter().chain([oneself]);
    lines.extend(users.map(|user| format!("lab  {}  postgres", user.name)));
    Ok(lines.join("\n") + "\n")
}

fn configuration(topology: &Topology, spec: &NodeSpec) -> String {
    let settings = spec.settings();
    let archive = format!(
        "{} --config {} wal push \"%p\"",
        topology.programs().join("backup-agent").display(),
        settings.join("backup-agent.toml").display(),
    );
    format!(
        "\
# Written by the lab, read by PostgreSQL on node {node}.
listen_addresses = '{address}'
port = {port}
unix_socket_directories = '{sockets}'
hba_file = '{hba}'
ident_file = '{ident}'
max_connections = 100
shared_buffers = 64MB
password_encryption = scram-sha-256

fsync = on
# After a crash one call per file system makes sure of its files, instead of one per file: with some
# thousand small files that is seconds.
recovery_init_sync_method = syncfs
wal_level = replica
wal_log_hints = on
hot_standby = on
max_wal_senders = 10
wal_keep_size = 512MB
# A dead peer is noticed within five seconds, and how far a standby is within one.
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 500ms
tcp_keepalives_idle = 5
tcp_keepalives_interval = 2
tcp_keepalives_count = 3
tcp_user_timeout = 10s

archive_mode = on
archive_command = '{archive}'
archive_timeout = 60

shared_preload_libraries = 'pg_stat_statements'

log_line_prefix = '%m [%p] %q%u@%d '
log_checkpoints = off
timezone = 'UTC'

# Without guard there is no such file, and without it PostgreSQL does not start.
include '{guard}'
",
        node = spec.node,
        address = spec.postgres().ip(),
        port = spec.postgres().port(),
        sockets = spec.sockets().display(),
        hba = settings.join("pg_hba.conf").display(),
        ident = settings.join("pg_ident.conf").display(),
        guard = spec.guard().join("guard.conf").display(),
    )
}

/// Returns the roles for replication, rewind and the application. `pg_rewind` needs only these four
/// functions (PostgreSQL's documentation of `pg_rewind`, Notes).
fn roles(secrets: &LabSecrets) -> String {
    let statements = [
        format!(
            "create role replicator login replication password '{}'",
            secrets.replicator.reveal()
        ),
        format!(
            "create role rewinder login password '{}'",
            secrets.rewinder.reveal()
        ),
        // A rewind then does not wait for the new primary's first checkpoint.
        "grant pg_checkpoint to rewinder".to_owned(),
        "grant execute on function pg_ls_dir(text, boolean, boolean) to rewinder".to_owned(),
        "grant execute on function pg_stat_file(text, boolean) to rewinder".to_owned(),
        "grant execute on function pg_read_binary_file(text) to rewinder".to_owned(),
        "grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to rewinder"
            .to_owned(),
        format!("create role app login password '{}'", secrets.app.reveal()),
        "create database app owner app".to_owned(),
    ];
    single_user(&statements)
}

const TABLES: &str = "\
create table ledger (n bigint primary key, at timestamptz not null default now());

create table lab_probe (node text primary key, n bigint not null) with (fillfactor = 20);

alter table ledger owner to app;

alter table lab_probe owner to app;

";

/// Returns statements in the format of single-user mode with `-j`: each ends with a semicolon, a
/// newline and an empty line.
fn single_user(statements: &[String]) -> String {
    let mut text = statements.join(";\n\n");
    text.push_str(";\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_guard_then_postgresql_cannot_start() {
        let topology = Topology::new(7, None).unwrap();
        let text = configuration(&topology, &topology.nodes[0]);

        assert_eq!(
            text.lines().last(),
            Some("include '/tmp/causeway-lab-7/node-a/guard/guard.conf'")
        );
    }
}
