//! PostgreSQL servers for tests of operations on their data directories.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::lease::SystemId;
use causeway_runtime::shutdown::Tasks;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::agent::standby_setup::StandbySetup;
use crate::config::{AgentSettings, GuardSettings, HostSettings, NodeSettings, PostgresSettings};

/// Content of the guard's placeholder for a reserved timeline.
const RESERVED: &str = "# Reserved by failover-ctl: this timeline was never written.\n";

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

/// Returns the directory of `initdb` and `pg_ctl`, of another release with `CAUSEWAY_PG_BIN`. The tests of `wal` need
/// these only, the others `pg_rewind` and `pg_basebackup` too.
fn servers() -> PathBuf {
    std::env::var_os("CAUSEWAY_PG_BIN").map_or_else(|| BIN.into(), PathBuf::from)
}

/// Nodes in one directory. Each server has its own Unix socket.
pub(crate) struct Nodes {
    pub(crate) root: TempDir,
}

/// Node whose server is stopped when this is dropped.
pub(crate) struct TestNode {
    pub(crate) name: &'static str,
    pub(crate) root: PathBuf,
}

impl Nodes {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("follow-")
            .tempdir_in("/tmp")
            .unwrap();
        give(root.path());
        Self { root }
    }

    /// Returns a node with directories and no database.
    pub(crate) fn node(&self, name: &'static str) -> TestNode {
        let root = self.root.path().join(name);
        for directory in [&root, &root.join("state"), &root.join("run")] {
            fs::create_dir(directory).unwrap();
            give(directory);
        }
        fs::create_dir(root.join("data")).unwrap();
        give(&root.join("data"));
        fs::set_permissions(root.join("data"), Permissions::from_mode(0o700)).unwrap();
        for secret in ["replicator.password", "rewinder.password"] {
            fs::write(root.join(secret), "x").unwrap();
        }
        let node = TestNode { name, root };
        node.configure("");
        node
    }

    /// Returns a primary with the roles, and a table.
    pub(crate) fn primary(&self, name: &'static str) -> TestNode {
        let node = self.node(name);
        let mut initdb = as_postgres(servers().join("initdb"));
        initdb.args([
            "--no-sync",
            "--encoding=UTF8",
            "--wal-segsize=1",
            "--auth=trust",
        ]);
        initdb.args(["--username=postgres", "-D"]).arg(node.data());
        assert_success(&initdb.output().unwrap());
        node.start();
        node.sql(
            "create role replicator login replication; create role rewinder login; \
             grant execute on function pg_ls_dir(text, boolean, boolean) to rewinder; \
             grant execute on function pg_stat_file(text, boolean) to rewinder; \
             grant execute on function pg_read_binary_file(text) to rewinder; \
             grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to rewinder; \
             create table kept (t text)",
        );
        node
    }
}

impl TestNode {
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    fn config_file(&self) -> PathBuf {
        self.root.join("postgresql.conf")
    }

    /// Writes the server's settings, with `more`.
    pub(crate) fn configure(&self, more: &str) {
        let text = format!(
            "listen_addresses = ''\nunix_socket_directories = '{root}'\nfsync = off\nautovacuum = off\n\
             wal_level = replica\nwal_log_hints = on\nwal_keep_size = 64\nmax_connections = 20\n\
             shared_buffers = 8MB\nmin_wal_size = 2MB\nmax_wal_size = 64MB\ncheckpoint_timeout = 1h\n\
             wal_retrieve_retry_interval = 200ms\ndata_directory = '{root}/data'\n\
             hba_file = '{root}/data/pg_hba.conf'\nident_file = '{root}/data/pg_ident.conf'\n{more}\n\
             include_if_exists '{root}/state/replication.conf'\n",
            root = self.root.display()
        );
        fs::write(self.config_file(), text).unwrap();
    }

    pub(crate) fn settings(&self) -> NodeSettings {
        NodeSettings {
            name: self.name.parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            zone: "eu-west-1a".to_owned(),
            address: self.root.to_str().unwrap().to_owned(),
            port: 5432,
            agent: "127.0.0.1:1".parse().unwrap(),
            instance_id: None,
        }
    }

    pub(crate) fn host(&self) -> HostSettings {
        let text = format!(
            "bin-directory = \"{BIN}\"\nconfig-file = \"{root}/postgresql.conf\"\n\
             data-directory = \"{root}/data\"\nsocket-directory = \"{root}\"\nsslmode = \"disable\"\n\
             replication-user = \"replicator\"\nreplication-password-file = \"{root}/replicator.password\"\n\
             rewind-user = \"rewinder\"\nrewind-password-file = \"{root}/rewinder.password\"\n",
            root = self.root.display()
        );
        let postgres: PostgresSettings = toml::from_str(&text).unwrap();
        let guard = format!("runtime-directory = \"{}/run\"", self.root.display());
        let guard: GuardSettings = toml::from_str(&guard).unwrap();
        let agent = format!("state-directory = \"{}/state\"", self.root.display());
        let agent: AgentSettings = toml::from_str(&agent).unwrap();
        HostSettings {
            node: self.settings(),
            postgres,
            guard,
            agent,
        }
    }

    pub(crate) fn follower(&self, primary: &Self) -> StandbySetup {
        StandbySetup {
            host: self.host(),
            primary: primary.settings(),
            system_id: crate::data_directory::read_control_file(&primary.data())
                .map_or(SystemId(0), |control| control.system_id),
            tasks: Tasks::new(),
        }
    }

    /// Copies `primary` and follows it, and waits until it streams.
    pub(crate) async fn become_standby_of(&self, primary: &Self) {
        let follower = self.follower(primary);
        follower
            .prepare(DataDirectoryState::Empty, false)
            .await
            .unwrap();
        follower.write_replication_settings().unwrap();
        self.start_standby();
        self.wait_until_streaming();
    }

    pub(crate) fn wait_until_streaming(&self) {
        let receiving = "select count(*) from pg_stat_wal_receiver where status = 'streaming'";
        self.until(receiving, "1");
    }

    /// Starts the server, and waits until it accepts queries.
    pub(crate) fn start(&self) {
        self.chown_to_postgres();
        assert_success(&self.pg_ctl("start", &["--wait", "--timeout=60"]));
    }

    /// Makes the files that the test wrote, as root, the server user's.
    pub(crate) fn chown_to_postgres(&self) {
        let mut owned = Command::new("chown");
        owned.args(["-R", "--reference"]).arg(self.data());
        assert_success(&owned.arg(&self.root).output().unwrap());
    }

    /// Freezes the checkpointer, as a slow disk does.
    pub(crate) fn freeze_checkpointer(&self) {
        let of = "select pid from pg_stat_activity where backend_type = 'checkpointer'";
        let process = Pid::from_raw(self.sql(of).parse().unwrap());
        kill(process, Signal::SIGSTOP).unwrap();
    }

    /// Starts the server as a standby with the agent's settings.
    pub(crate) fn start_standby(&self) {
        fs::write(self.data().join("standby.signal"), "").unwrap();
        self.start();
    }

    pub(crate) fn crash(&self) {
        assert_success(&self.pg_ctl("stop", &["--mode=immediate"]));
    }

    pub(crate) fn shut_down(&self) {
        assert_success(&self.pg_ctl("stop", &["--mode=fast"]));
    }

    fn pg_ctl(&self, what: &str, arguments: &[&str]) -> Output {
        let mut command = as_postgres(servers().join("pg_ctl"));
        command
            .arg(what)
            .args(arguments)
            .arg("--silent")
            .arg("-D")
            .arg(self.data());
        command.arg("-l").arg(self.root.join("log"));
        let config = format!("-c config_file={}", self.config_file().display());
        command.arg("-o").arg(config).output().unwrap()
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = self.try_sql(sql);
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn try_sql(&self, sql: &str) -> Output {
        let mut command = as_postgres(format!("{BIN}/psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]);
        command
            .arg(&self.root)
            .args(["-c", sql, "postgres"])
            .output()
            .unwrap()
    }

    /// Promotes onto timeline `number`, with the lower ones reserved.
    pub(crate) fn promote(&self, own: u32, number: u32) {
        for reserved in own + 1..number {
            let path = self.data().join(format!("pg_wal/{reserved:08X}.history"));
            fs::write(path, RESERVED).unwrap();
        }
        self.sql("select pg_promote()");
        assert_eq!(self.timeline(), number);
    }

    pub(crate) fn timeline(&self) -> u32 {
        let name = self.sql("select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
        u32::from_str_radix(&name, 16).unwrap()
    }

    /// Waits until a query returns `answer`.
    pub(crate) fn until(&self, sql: &str, answer: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        let mut last = String::new();
        while Instant::now() < deadline {
            last = String::from_utf8_lossy(&self.try_sql(sql).stdout)
                .trim()
                .to_owned();
            if last == answer {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = fs::read_to_string(self.root.join("log"));
        let log = log.unwrap_or_else(|error| format!("no log: {error}"));
        panic!("`{sql}` is `{last}` and not `{answer}`:\n{log}");
    }

    /// Returns the checksum of every file in the data directory.
    pub(crate) fn checksums(&self) -> String {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("find . -type f -exec cksum {} + | sort -k3; find . | sort");
        let output = command.current_dir(self.data()).output().unwrap();
        assert_success(&output);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.pg_ctl("stop", &["--mode=immediate"]);
        }
    }
}

/// Returns whether any file below `directory` contains `text`.
pub(crate) fn holds(directory: &Path, text: &str) -> bool {
    let mut command = Command::new("grep");
    let found = command
        .args(["-rlaF", text])
        .arg(directory)
        .output()
        .unwrap();
    found.status.success()
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Returns a command run as `postgres` when the test runs as root, since PostgreSQL refuses root.
pub(crate) fn as_postgres(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/tmp").env("LC_ALL", "C");
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

pub(crate) fn postgres_user() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres").unwrap();
    let user = user.expect("root needs a user `postgres` to run these tests");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

pub(crate) fn give(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    if let Some((uid, gid)) = postgres_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}
