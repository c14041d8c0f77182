//! Redis server that a test starts, breaks and inspects.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::FromRedisValue;
use tempfile::TempDir;

use crate::postgres::{eventually, free_address};

/// Password of the administrator, if there is one.
pub(crate) const ADMIN: &str = "staple";

pub(crate) struct Redis {
    dir: TempDir,
    pub(crate) address: SocketAddr,
    /// Port for TLS, if enabled.
    pub(crate) tls_address: Option<SocketAddr>,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// Starts a server without a password.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with passwords: [`ADMIN`] for its administrator, and `password` for the user
    /// `api`, who has only the service's rights.
    pub(crate) fn guarded(password: &str) -> Self {
        let password = format!(">{password}");
        let user = [
            "--user", "api", "on", &password, "~user:*", "~users:*", "+mget", "+set", "+incrby",
        ];
        Self::with(&[&["--requirepass", ADMIN], &user[..]].concat())
    }

    /// Starts a server with TLS as well, under a certificate for `localhost`, and returns its CA
    /// certificate.
    pub(crate) fn with_tls() -> (Self, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let path = |name: &str| dir.path().join(name).display().to_string();
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
        ])
        .args(["-keyout", &path("key"), "-out", &path("request")])
        .done();
        fs::write(dir.path().join("names"), "subjectAltName=DNS:localhost").unwrap();
        openssl(&["x509", "-req", "-days", "2", "-CAcreateserial"])
            .args(["-in", &path("request"), "-out", &path("certificate")])
            .args(["-CA", &path("authority"), "-CAkey", &path("authority.key")])
            .args(["-extfile", &path("names")])
            .done();
        let address = free_address();
        let mut redis = Self::with_dir(
            dir,
            &[
                "--tls-port",
                &address.port().to_string(),
                "--tls-cert-file",
                "certificate",
                "--tls-key-file",
                "key",
                "--tls-auth-clients",
                "no",
            ],
        );
        redis.tls_address = Some(address);
        (redis, authority)
    }

    fn with(settings: &[&str]) -> Self {
        Self::with_dir(tempfile::tempdir().unwrap(), settings)
    }

    fn with_dir(dir: TempDir, settings: &[&str]) -> Self {
        let mut redis = Self {
            dir,
            address: free_address(),
            tls_address: None,
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
            process: None,
        };
        redis.start_again();
        redis
    }

    /// Starts the server with its last snapshot, and waits until it responds.
    pub(crate) fn start_again(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).unwrap();
        let process = Command::new("redis-server")
            .current_dir(self.dir.path())
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &self.address.port().to_string()])
            .args(&self.settings)
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("`redis-server`, which scripts/setup installs");
        self.process = Some(process);
        eventually("Redis answers", || {
            self.try_run::<String>(&["PING"]).is_ok()
        });
    }

    /// Kills the server. Data that it did not save is lost.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("the server runs");
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Freezes the server, or resumes it.
    pub(crate) fn freeze(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the server runs");
        kill(Pid::from_raw(process.id().try_into().unwrap()), signal).unwrap();
    }

    /// Runs a command.
    pub(crate) fn run<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.try_run(command).unwrap()
    }

    fn try_run<T: FromRedisValue>(&self, command: &[&str]) -> redis::RedisResult<T> {
        let has_password = self
            .settings
            .iter()
            .any(|setting| setting == "--requirepass");
        let login = if has_password {
            format!(":{ADMIN}@")
        } else {
            String::new()
        };
        let client = redis::Client::open(format!("redis://{login}{}", self.address))?;
        let mut connection = client.get_connection()?;
        let mut all = redis::Cmd::new();
        all.arg(command);
        all.query(&mut connection)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// Creates a CA in `dir`, and returns its certificate.
pub(crate) fn authority(dir: &Path) -> PathBuf {
    let (certificate, key) = (dir.join("authority"), dir.join("authority.key"));
    openssl(&[
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
    ])
    .args(["-subj", "/CN=authority"])
    .arg("-keyout")
    .arg(&key)
    .arg("-out")
    .arg(&certificate)
    .done();
    certificate
}

fn openssl(args: &[&str]) -> Command {
    let mut openssl = Command::new("openssl");
    openssl.args(args);
    openssl
}

trait Done {
    fn done(&mut self);
}

impl Done for Command {
    fn done(&mut self) {
        let output = self.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
