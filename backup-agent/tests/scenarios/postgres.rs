//! A PostgreSQL server that archives through backup-agent.

use std::fs;
use std::path::{Path, PathBuf};

use crate::agent::{World, as_postgres, wait_for};

pub(crate) const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A running server. It is stopped when this is dropped.
pub(crate) struct Server {
    directory: PathBuf,
    socket: PathBuf,
    port: u16,
}

impl Server {
    /// Creates a cluster with page checksums in the world's data directory, and starts it.
    pub(crate) async fn create(world: &World) -> Self {
        let directory = world.directory.path().join("data");
        let made = as_postgres(format!("{BIN}/initdb"))
            .args(["--no-sync", "--data-checksums", "--wal-segsize=1"])
            .args(["--auth=trust", "--username=postgres", "-D"])
            .arg(&directory)
            .output()
            .await
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let settings = format!(
            "listen_addresses = ''\nfsync = off\narchive_mode = on\n\
             archive_command = '{} --config {} wal push %p'\n\
             autovacuum = off\nmax_wal_senders = 0\nwal_level = replica\n\
             shared_buffers = 16MB\nlog_min_messages = log\n",
            world.program.display(),
            world.config.display()
        );
        let path = directory.join("postgresql.conf");
        let text = fs::read_to_string(&path).unwrap() + &settings;
        fs::write(&path, text).unwrap();
        Self::start(world, &directory, 5432).await
    }

    /// Starts a server on a directory, and waits until recovery has ended.
    pub(crate) async fn start(world: &World, directory: &Path, port: u16) -> Self {
        let server = Self::start_standby(world, directory, port).await;
        wait_for("the end of recovery", async || {
            (server.sql("SELECT pg_is_in_recovery()").await == "f").then_some(())
        })
        .await;
        server
    }

    /// Starts a server on a directory, and waits until it accepts connections.
    pub(crate) async fn start_standby(world: &World, directory: &Path, port: u16) -> Self {
        let server = Self {
            directory: directory.to_owned(),
            socket: world.directory.path().to_owned(),
            port,
        };
        let socket = server.socket.display();
        let started = as_postgres(format!("{BIN}/pg_ctl"))
            .args(["start", "--silent", "--wait", "--timeout=60"])
            .arg("-D")
            .arg(directory)
            .arg("-l")
            .arg(directory.with_extension("log"))
            .arg("-o")
            .arg(format!("-k {socket} -p {port}"))
            .output()
            .await
            .unwrap();
        assert!(started.status.success(), "{started:?}\n{}", server.log());
        server
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.with_extension("log")).unwrap_or_default()
    }

    /// Runs statements, and returns their output.
    pub(crate) async fn sql(&self, sql: &str) -> String {
        let output = as_postgres(format!("{BIN}/psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.socket)
            .args(["-p", &self.port.to_string(), "-c", sql, "postgres"])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends the segment, and waits until it is archived.
    pub(crate) async fn archive_all(&self) {
        // An empty segment would not be ended. Each call is a transaction of its own, so the
        // archived WAL has the commit of the table.
        self.sql("CREATE TABLE IF NOT EXISTS tick (); COMMENT ON TABLE tick IS 'tock'")
            .await;
        let last = self.sql("SELECT pg_walfile_name(pg_switch_wal())").await;
        wait_for("the archiver", async || {
            let sql = "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver";
            (self.sql(sql).await >= last).then_some(())
        })
        .await;
    }

    /// Stops it as in a crash, once it is no longer needed.
    pub(crate) fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&self.directory);
    }
}

fn stop(directory: &Path) {
    if !directory.join("postmaster.pid").exists() {
        return;
    }
    let mut command = as_postgres(format!("{BIN}/pg_ctl"));
    command.args(["stop", "--silent", "--mode=immediate", "-D"]);
    let stopped = command.arg(directory).as_std_mut().output();
    assert!(stopped.is_ok_and(|output| output.status.success()) || std::thread::panicking());
}
