//! PostgreSQL server that a test starts, breaks and promotes.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// Password of every role.
pub(crate) const PASSWORD: &str = "correct horse";
/// Roles of the schema's owner and of the service.
pub(crate) const OWNER: &str = "api_owner";
pub(crate) const SERVICE: &str = "api_service";

/// Superuser.
pub(crate) const SUPERUSER: &str = "postgres";
/// SQL file that creates those roles.
pub(crate) const ROLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/roles.sql");
/// Database of the tests.
pub(crate) const DATABASE: &str = "postgres";

const INITDB: [&str; 8] = [
    "--no-sync",
    "--wal-segsize=1",
    "--username=postgres",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--pwfile=password",
    "--pgdata=data",
];

/// Timeout of a server's start or of a condition: many times a busy machine's.
const PATIENCE: Duration = Duration::from_mins(1);

/// Settings for tests of the response and not of its time: a busy machine must not look like a
/// failure.
pub(crate) const PATIENT: [(&str, &str); 2] =
    [("REQUEST_TIMEOUT", "60"), ("DB_STATEMENT_TIMEOUT", "60")];

pub(crate) struct Server {
    dir: TempDir,
    pub(crate) address: SocketAddr,
    postmaster: Option<Child>,
}

impl Server {
    /// Starts a primary with the roles of the API.
    pub(crate) fn primary() -> Self {
        let server = Self::without_roles();
        server.make_roles();
        server
    }

    /// Creates the roles, or restores their rights.
    pub(crate) fn make_roles(&self) {
        let passwords =
            [OWNER, SERVICE].map(|role| format!("ALTER ROLE {role} PASSWORD '{PASSWORD}'"));
        let args = ["-f", ROLES, "-c", &passwords[0], "-c", &passwords[1]];
        self.psql(SUPERUSER, &args).unwrap();
    }

    /// Starts a primary with the roles of the API and a system identifier of its own.
    pub(crate) fn of_another_cluster() -> Self {
        let server = Self::on(&init_database().path().join("data"));
        server.make_roles();
        server
    }

    /// Starts a primary with PostgreSQL's defaults.
    pub(crate) fn without_roles() -> Self {
        Self::on(&template())
    }

    /// Starts a primary on a copy of a data directory.
    fn on(data: &Path) -> Self {
        let mut server = Self::new();
        copy_directory(data, &server.data());
        server.configure("fsync = off\nmax_connections = 60\n");
        server.start();
        server
    }

    /// Copies `primary` and starts the copy as its standby.
    pub(crate) fn standby_of(primary: &Self) -> Self {
        let mut server = Self::new();
        let data = server.data();
        run_as_owner(
            server.dir.path(),
            &binary("pg_basebackup"),
            &[
                "--no-sync",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--write-recovery-conf",
                &format!("--dbname={}", primary.connection_string(SUPERUSER)),
                &format!("--pgdata={}", data.display()),
            ],
        );
        server.start();
        server
    }

    fn new() -> Self {
        Self {
            dir: directory_of_owner(),
            address: free_address(),
            postmaster: None,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Adds lines to the server's configuration, effective from its next start.
    pub(crate) fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.auto.conf");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str(lines);
        fs::write(&path, text).unwrap();
    }

    /// Restarts the server with TLS only, under a self-signed certificate for `localhost`, and
    /// returns that.
    pub(crate) fn serve_tls(&mut self) -> PathBuf {
        self.stop();
        let (certificate, key) = sign_certificate(&self.data());
        self.configure(&format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\n",
            certificate.display(),
            key.display()
        ));
        let only_tls = "hostssl all all all scram-sha-256\n";
        fs::write(self.data().join("pg_hba.conf"), only_tls).unwrap();
        self.start();
        certificate
    }

    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let sockets = self.dir.path().display();
        let postmaster = as_owner(Command::new(binary("postgres")))
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.address.port().to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", &format!("unix_socket_directories={sockets}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.postmaster = Some(postmaster);
        eventually("PostgreSQL answers", || self.try_sql("SELECT 1").is_ok());
    }

    /// Returns the server's log since its start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// Kills the postmaster. Its children end themselves.
    pub(crate) fn kill(&mut self) {
        let mut postmaster = self.postmaster.take().expect("the server runs");
        postmaster.kill().unwrap();
        postmaster.wait().unwrap();
    }

    /// Stops the server as an administrator does.
    pub(crate) fn stop(&mut self) {
        let mut postmaster = self.postmaster.take().expect("the server runs");
        kill(pid_of(&postmaster), Signal::SIGINT).unwrap();
        postmaster.wait().unwrap();
    }

    /// Freezes every process of the server, or resumes it.
    pub(crate) fn freeze(&self, signal: Signal) {
        let postmaster = self.postmaster.as_ref().expect("the server runs");
        let path = format!("/proc/{0}/task/{0}/children", postmaster.id());
        kill(pid_of(postmaster), signal).unwrap();
        let children = fs::read_to_string(path).unwrap();
        for child in children.split_whitespace() {
            // A process that has ended needs no signal.
            kill(Pid::from_raw(child.parse().unwrap()), signal).ok();
        }
    }

    /// Makes commits wait for the standbys of these names, `*` for any, or for none.
    pub(crate) fn commits_wait_for(&self, names: &str) {
        self.sql(&format!(
            "ALTER SYSTEM SET synchronous_standby_names = '{names}'"
        ));
        self.sql("SELECT pg_reload_conf()");
        eventually("the setting is in force", || {
            self.sql("SHOW synchronous_standby_names") == names
        });
    }

    /// Returns the API's sessions that have committed this statement, or the one after the first write on a
    /// connection, and wait for a standby. Others may wait too: the deletion of old responses starts within
    /// seconds.
    pub(crate) fn waiting_commits(&self, statement: &str) -> BTreeSet<String> {
        let waiting = self.sql(&format!(
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' \
             AND application_name LIKE 'api/%' \
             AND query ~ '^-- {statement}\\M'"
        ));
        waiting.lines().map(str::to_owned).collect()
    }

    /// Revokes the service's right to delete old responses, which it does at any time: the deletion
    /// would take a connection, and its commit would wait among the tested ones.
    pub(crate) fn forbid_expiry(&self) {
        let forbid = format!("REVOKE EXECUTE ON FUNCTION expire_requests FROM {SERVICE}, PUBLIC");
        self.sql(&forbid);
        let under_way = "SELECT count(*) FROM pg_stat_activity \
                         WHERE state <> 'idle' AND query LIKE '-- requests_expire%'";
        eventually("no answers are being deleted", || {
            self.sql(under_way) == "0"
        });
    }

    /// Promotes a standby.
    pub(crate) fn promote(&self) {
        self.sql("SELECT pg_promote()");
    }

    /// Runs SQL and returns its output.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap()
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.psql(SUPERUSER, &["-c", sql])
    }

    /// Runs SQL as another role, and returns its output, or the error.
    pub(crate) fn sql_as(&self, role: &str, sql: &str) -> Result<String, String> {
        self.psql(role, &["-c", sql])
    }

    /// Runs `psql` as `role`, and returns its output, or the error.
    pub(crate) fn psql(&self, role: &str, args: &[&str]) -> Result<String, String> {
        let output = Command::new(binary("psql"))
            .args([
                "-XAtq",
                "-v",
                "ON_ERROR_STOP=1",
                "-v",
                "VERBOSITY=verbose",
                "-d",
            ])
            .arg(self.connection_string(role))
            .args(args)
            .output()
            .unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn connection_string(&self, role: &str) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!("host={host} port={port} user={role} dbname={DATABASE} password='{PASSWORD}'")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            self.postmaster = None;
            kill(pid_of(&postmaster), Signal::SIGCONT).ok();
            kill(pid_of(&postmaster), Signal::SIGQUIT).ok();
            postmaster.wait().ok();
        }
    }
}

/// Creates a self-signed certificate for `localhost`, and its key, in `directory`.
pub(crate) fn sign_certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join("host.crt"), directory.join("host.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&key);
    (certificate, key)
}

/// Observation of a condition.
pub(crate) trait Seen {
    /// Returns whether it holds, or else the observation.
    fn verdict(self) -> Result<(), String>;
}

impl Seen for bool {
    fn verdict(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "it does not".to_owned())
    }
}

impl Seen for Result<(), String> {
    fn verdict(self) -> Result<(), String> {
        self
    }
}

/// Waits until `condition` holds, and panics with the last observation otherwise.
#[track_caller]
pub(crate) fn eventually<S: Seen>(what: &str, mut condition: impl FnMut() -> S) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(seen) = condition().verdict() {
        assert!(
            Instant::now() < deadline,
            "not within {PATIENCE:?}: {what}; seen last: {seen}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns an address without a listener, whose port no other test gets while this one runs: a server that
/// is stopped must not be replaced by another test's.
pub(crate) fn free_address() -> SocketAddr {
    static TAKEN: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    // Servers bind a port that a socket of this kind has, unless it listens.
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    TAKEN.lock().unwrap().push(socket);
    address
}

/// Returns the data directory that servers copy, in a third of the time that `initdb` takes. They have one system
/// identifier. It outlives the run.
fn template() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (binary("initdb"), INITDB, PASSWORD).hash(&mut hasher);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{:x}", hasher.finish()));
    if !kept.exists() {
        let copy = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let data = copy.path().join("data");
        copy_directory(&init_database().path().join("data"), &data);
        // Another test may have been faster: a directory that is not empty is not replaced.
        fs::rename(data, &kept).ok();
    }
    kept
}

/// Returns a directory with a new database in `data`.
fn init_database() -> TempDir {
    let directory = directory_of_owner();
    let password = directory.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    chown(&password);
    run_as_owner(directory.path(), &binary("initdb"), &INITDB);
    directory
}

/// Copies a directory with its owners and modes.
fn copy_directory(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success(), "{} not copied", from.display());
}

/// Returns an empty directory in which PostgreSQL may write.
fn directory_of_owner() -> TempDir {
    let directory = tempfile::Builder::new()
        .prefix("api-test-")
        .tempdir_in("/tmp")
        .unwrap();
    chown(directory.path());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

fn run_as_owner(directory: &Path, program: &Path, arguments: &[&str]) {
    let output = as_owner(Command::new(program))
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} failed: {errors}",
        program.display()
    );
}

/// PostgreSQL refuses to run as root: it then runs as the user `postgres`.
fn owner() -> Option<User> {
    let is_root = nix::unistd::geteuid().is_root();
    is_root.then(|| {
        User::from_name("postgres")
            .unwrap()
            .expect("a user `postgres`")
    })
}

pub(crate) fn as_owner(mut command: Command) -> Command {
    if let Some(owner) = owner() {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    command
}

pub(crate) fn chown(path: &Path) {
    if let Some(owner) = owner() {
        std::os::unix::fs::chown(path, Some(owner.uid.as_raw()), Some(owner.gid.as_raw())).unwrap();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

/// Returns the path of a PostgreSQL program, in `PG_BIN` or in Debian's directory.
fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("PG_BIN").map(PathBuf::from);
    dir.unwrap_or_else(|| PathBuf::from("/usr/lib/postgresql/15/bin"))
        .join(name)
}
