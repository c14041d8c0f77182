//! A server that hangs: a backup fails and reports it, and does not block the next one.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::agent::{World, as_postgres, wait_for};
use crate::postgres::{BIN, Server};

#[tokio::test(flavor = "multi_thread")]
async fn checkpointer_hangs_then_backup_fails() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.configure(|settings| {
        settings.replace("[limits]", "[limits]\ncheckpoint-timeout-secs = 2")
    });
    let pid = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    let frozen = Frozen::new(server.sql(pid).await.parse().unwrap());
    let failed = world.run(&["backup"]).await;
    failed.fails_with(13, "limits.checkpoint-timeout-secs");
    drop(frozen);

    wait_for("the end of the backup that failed", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'backup-agent'";
        (server.sql(sql).await == "0").then_some(())
    })
    .await;
    world.run(&["backup"]).await.ok();
    server.stop();
}

/// Any statement may wait for a lock, or for a frozen backend.
#[tokio::test(flavor = "multi_thread")]
async fn lock_is_never_released_then_backup_fails() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world
        .configure(|settings| settings.replace("[limits]", "[limits]\nstatement-timeout-secs = 2"));
    let lock = "BEGIN; LOCK pg_tablespace IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(3600)";
    let mut holder = as_postgres(format!("{BIN}/psql"))
        .args(["-XAtq", "-U", "postgres", "-c", lock, "-h"])
        .arg(world.directory.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    wait_for("the lock", async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'";
        (server.sql(sql).await != "0").then_some(())
    })
    .await;
    let failed = world.run(&["backup"]).await;
    failed.fails_with(13, "limits.statement-timeout-secs");

    server
        .sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE mode = 'AccessExclusiveLock'")
        .await;
    holder.wait().await.unwrap();
    world.run(&["backup"]).await.ok();
    server.stop();
}

/// A frozen process, which resumes when this is dropped.
struct Frozen(Pid);

impl Frozen {
    fn new(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        Self(Pid::from_raw(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}
