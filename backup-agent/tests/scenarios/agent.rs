//! A host with backup-agent, its settings and its state, and two buckets.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::Command;

use crate::store::{ACCESS_KEY, SECRET_KEY, Store};

const BUILT: &str = env!("CARGO_BIN_EXE_backup-agent");

/// A host and two regions.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) program: PathBuf,
    pub(crate) near: Store,
    pub(crate) far: Store,
    pub(crate) config: PathBuf,
    settings: String,
}

/// Result of a run of backup-agent.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Run {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn fails_with(self, code: i32, expected: &str) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.contains(expected), "{self:?}");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl World {
    /// Returns two buckets, a key pair, and settings for a data directory that does not exist yet.
    pub(crate) async fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("causeway-")
            .tempdir_in("/tmp")
            .unwrap();
        give_to_postgres(directory.path());
        let program = directory.path().join("backup-agent");
        install(&program);
        let near = Store::start(&directory.path().join("near"), "near");
        let far = Store::start(&directory.path().join("far"), "far");
        let mut world = Self {
            config: directory.path().join("backup-agent.toml"),
            settings: String::new(),
            directory,
            program,
            near,
            far,
        };
        let identity = world.path("identity.txt");
        let made = world.run(&["keygen", "--output", &identity]).await.ok();
        world.settings = world.settings(made.stdout.trim());
        world.configure(str::to_owned);
        world
    }

    fn settings(&self, recipient: &str) -> String {
        let place = |name: &str| self.path(name);
        let bucket = |store: &Store, region: &str| {
            format!(
                "[[buckets]]\nname = \"{}\"\nregion = \"{region}\"\nendpoint = \"http://{}\"\n",
                store.bucket, store.address
            )
        };
        format!(
            "cluster = \"main\"\nrecipients = [\"{recipient}\"]\nidentity-file = \"{}\"\n\
             state-directory = \"{}\"\nrequired-buckets = 1\n{}{}[postgres]\n\
             bin-directory = \"/usr/lib/postgresql/15/bin\"\ndata-directory = \"{}\"\n\
             socket-directory = \"{}\"\n[limits]\npack-mib = 8\narchive-wait-secs = 30\nretry-timeout-secs = 5\n",
            place("identity.txt"),
            place("state"),
            bucket(&self.near, "eu-west-1"),
            bucket(&self.far, "eu-central-1"),
            place("data"),
            self.directory.path().display(),
        )
    }

    /// Configures a standby in `directory`, on port 5433, and its primary.
    pub(crate) fn configure_standby(&self, directory: &str) {
        let data = format!("data-directory = \"{}\"", self.path("data"));
        let there = format!("data-directory = \"{directory}\"\nport = 5433");
        let socket = self.directory.path().display();
        self.configure(|settings| {
            let settings = settings.replace(&data, &there);
            format!("{settings}[postgres.primary]\nhost = \"{socket}\"\n")
        });
    }

    /// Writes the settings, as modified by `change`.
    pub(crate) fn configure(&self, change: impl FnOnce(&str) -> String) {
        fs::write(&self.config, change(&self.settings)).unwrap();
        fs::set_permissions(&self.config, Permissions::from_mode(0o644)).unwrap();
    }

    /// Loses the state directory `name`. A background process may be writing there: the directory
    /// is renamed, because one that is emptied file by file may not be empty at the end.
    pub(crate) fn forget(&self, name: &str) {
        let lost = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        fs::rename(self.path(name), lost.join("lost")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory
            .path()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    /// Returns a command that runs backup-agent with these arguments, as the PostgreSQL user.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = as_postgres(&self.program);
        command.arg("--config").arg(&self.config).args(args);
        let data = self.directory.path().join("data");
        if data.is_dir() {
            command.current_dir(data);
        }
        command
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Run {
        let began = Instant::now();
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(args).output().await.unwrap();
        Run {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            took: began.elapsed(),
        }
    }
}

/// Copies the program to a path where the PostgreSQL user may run it: a checkout may be in a
/// private home directory, and its path may have a blank, which `archive_command` does not support.
fn install(program: &Path) {
    if fs::hard_link(BUILT, program).is_err() {
        fs::copy(BUILT, program).unwrap();
    }
    fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
}

/// Returns a command that runs as the PostgreSQL user: PostgreSQL refuses to run as root, so a test
/// that is run by root switches to `postgres`.
pub(crate) fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("HOME", "/nowhere")
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .kill_on_drop(true);
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

/// Makes a directory writable for the PostgreSQL user.
pub(crate) fn give_to_postgres(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    if let Some((uid, gid)) = postgres_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn postgres_user() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("postgres").unwrap();
    let user = user.expect("root needs a user `postgres` to run these tests");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

/// Waits until `condition` returns a value, and panics with `what` after a timeout.
pub(crate) async fn wait_for<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
