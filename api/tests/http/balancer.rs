//! `HAProxy` in front of several instances, as in a deployment.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::postgres::{eventually, free_address};

/// It checks `/readyz` with a threshold of one, and retries nothing: a failed request or connection
/// reaches the client.
const CONFIGURATION: &str = "
global
    stats socket {dir}/stats
    log stderr format raw daemon
defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    retries 0
    timeout connect 2s
    timeout client 30s
    timeout server 30s
    timeout check 10s
    option httpchk GET /readyz
    http-check expect status 200
    default-server check inter 100ms fall 1 rise 1
frontend clients
    bind {address}
    default_backend api
backend api
    balance roundrobin
{servers}";

pub(crate) struct Balancer {
    dir: TempDir,
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Balancer {
    /// Starts it with these backends, and waits until it sends requests to each.
    pub(crate) fn before(instances: &[SocketAddr]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = free_address();
        let servers = instances
            .iter()
            .map(|instance| format!("    server {instance} {instance}\n"));
        let configuration = CONFIGURATION
            .replace("{dir}", &dir.path().display().to_string())
            .replace("{address}", &address.to_string())
            .replace("{servers}", &servers.collect::<String>());
        let path = dir.path().join("haproxy.cfg");
        fs::write(&path, configuration).unwrap();
        // Debian installs it in an administrator's directory.
        let path_of_programs = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
        let process = Command::new("haproxy")
            .env("PATH", path_of_programs)
            .arg("-db")
            .arg("-f")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("HAProxy, which `make setup` installs");
        let mut balancer = Self {
            dir,
            address,
            process,
        };
        for instance in instances {
            balancer.wait_until_used(*instance);
        }
        balancer
    }

    /// Waits until it sends requests to an instance.
    pub(crate) fn wait_until_used(&mut self, instance: SocketAddr) {
        eventually("the balancer uses the instance", || {
            let ended = self.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            self.status(instance).is_ok_and(|status| status == "UP")
        });
    }

    /// Returns the state of an instance.
    fn status(&self, instance: SocketAddr) -> io::Result<String> {
        let mut socket = UnixStream::connect(self.dir.path().join("stats"))?;
        socket.write_all(b"show stat\n")?;
        let mut table = String::new();
        socket.read_to_string(&mut table)?;
        let mut lines = table.trim_start_matches("# ").lines();
        let names = lines.next().unwrap();
        let status = names.split(',').position(|name| name == "status").unwrap();
        let of_instance = |line: &&str| line.starts_with(&format!("api,{instance},"));
        let line = lines.find(of_instance).unwrap();
        Ok(line.split(',').nth(status).unwrap().to_owned())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- balancer\n{}", self.log());
        }
    }
}
