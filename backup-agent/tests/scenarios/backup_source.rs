//! A backup is one of the configured server: of its directory, and of all of its files.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use crate::agent::{World, as_postgres, give_to_postgres, wait_for};
use crate::gate::Gate;
use crate::postgres::Server;

const BIN: &str = "/usr/lib/postgresql/15/bin";

#[tokio::test(flavor = "multi_thread")]
async fn copy_of_the_data_directory_then_refused() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server.sql("CREATE TABLE t AS SELECT 1; CHECKPOINT").await;
    let copy = world.path("copy");
    copied(&world.path("data"), &copy).await;
    let refuse = async |why: &str| {
        at(&world, &copy, "postgres");
        world.run(&["backup"]).await.fails_with(12, why);
        let checked = world.run(&["check"]).await.fails_with(22, "checks failed");
        assert!(
            checked.stdout.contains("FAILED data directory"),
            "{checked:?}"
        );
        assert!(checked.stdout.contains(why), "{checked:?}");
    };

    // Its content is the server's, but it is another directory.
    refuse("a file that the server has just created is not there").await;
    server.sql("CHECKPOINT").await;
    refuse("its last checkpoint is at").await;
    let pid = Path::new(&copy).join("postmaster.pid");
    let text = fs::read_to_string(&pid).unwrap();
    fs::write(&pid, text.replace("\n5432\n", "\n5433\n")).unwrap();
    refuse("another server was started there, on port 5433").await;
    fs::remove_file(&pid).unwrap();
    refuse("no server runs there").await;
    assert!(
        world
            .near
            .keys()
            .iter()
            .all(|key| !key.contains("/backup/"))
    );

    // The directory by another path, as in a container, and by a user who may read no path.
    server
        .sql(
            "CREATE ROLE keeper LOGIN; \
             GRANT EXECUTE ON FUNCTION pg_backup_start(text, bool) TO keeper; \
             GRANT EXECUTE ON FUNCTION pg_backup_stop(bool) TO keeper",
        )
        .await;
    symlink(world.path("data"), world.path("link")).unwrap();
    at(&world, &world.path("link"), "keeper");
    world.run(&["backup"]).await.ok();
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_replaced_during_the_backup_then_refused() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    copied(&world.path("data"), &world.path("copy")).await;
    symlink(world.path("data"), world.path("link")).unwrap();
    at(&world, &world.path("link"), "postgres");
    let gate = Gate::close(&world).await;

    let (running, _) = gate.hold_backup(&world).await;
    // Before that it compares the directory for the first time.
    wait_for("the backup at the gate", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        (server.sql(waiting).await == "1").then_some(())
    })
    .await;
    fs::remove_file(world.path("link")).unwrap();
    symlink(world.path("copy"), world.path("link")).unwrap();
    gate.open().await;

    let (code, rest) = running.ended().await;
    assert_eq!(code, Some(12), "{rest}");
    assert!(rest.contains("the last checkpoint there is of"), "{rest}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn standby_of_an_idle_primary_then_backup_ends_its_segment() {
    let world = World::new().await;
    let primary = with_wal_senders(&world).await;
    primary.sql("CREATE TABLE t AS SELECT 1 AS n").await;
    let standby = world.path("standby");
    pg_basebackup(&world, &["-D", &standby, "-R", "-c", "fast"]).await;
    let standby = Server::start_standby(&world, Path::new(&standby), 5433).await;
    primary.sql("INSERT INTO t VALUES (2)").await;
    let position = primary.sql("SELECT pg_current_wal_lsn()").await;
    wait_for("replay", async || {
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        (standby.sql(&sql).await == "t").then_some(())
    })
    .await;
    let on_standby = |settings: &str| {
        let data = format!("data-directory = \"{}\"", world.path("data"));
        let there = format!(
            "data-directory = \"{}\"\nport = 5433",
            world.path("standby")
        );
        settings.replace(&data, &there)
    };

    world.configure(|settings| on_standby(settings).replace("wait-secs = 30", "wait-secs = 2"));
    let refused = world.run(&["backup"]).await;
    refused.fails_with(19, "an idle primary does not end it");
    let socket = world.directory.path().display();
    world.configure(|settings| {
        format!(
            "{}[postgres.primary]\nhost = \"{socket}\"\n",
            on_standby(settings)
        )
    });
    world.run(&["backup"]).await.ok();
    standby.stop();

    let restored = world.path("restored");
    let mut args = vec!["restore", "--target-directory", &restored];
    args.extend(["--target-action", "promote"]);
    world.configure(str::to_owned);
    world.run(&args).await.ok();
    let restored = Server::start(&world, Path::new(&restored), 5433).await;
    assert_eq!(restored.sql("SELECT sum(n) FROM t").await, "3");
    primary.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_then_same_files_as_pg_basebackup() {
    let world = World::new().await;
    let server = with_wal_senders(&world).await;
    let side = world.directory.path().join("side");
    create_files(&world, &server, &side).await;

    let theirs = world.path("theirs");
    let mapping = |to: &str| format!("{}={}", side.display(), world.path(to));
    pg_basebackup(
        &world,
        &[
            "-D",
            &theirs,
            "-X",
            "none",
            "-c",
            "fast",
            "-T",
            &mapping("theirs-side"),
        ],
    )
    .await;
    world.run(&["backup"]).await.ok();
    let ours = world.path("ours");
    let mapping = mapping("ours-side");
    let mut args = vec!["restore", "--target-directory", &ours];
    args.extend(["--tablespace-mapping", &mapping]);
    world.run(&args).await.ok();

    let written_by_either = [
        "backup_label",
        "backup_manifest",
        "tablespace_map",
        "recovery.signal",
    ];
    let found = |root: &str| -> BTreeSet<String> {
        let mut found = below(Path::new(root), "");
        found.retain(|name| !written_by_either.contains(&name.as_str()));
        found
    };
    assert_eq!(found(&ours), found(&theirs));
    assert!(found(&ours).contains("mine/16384") && found(&ours).len() > 900);
    server.stop();
}

/// Creates relations, some of them in a tablespace at `side`, and files of other programs.
async fn create_files(world: &World, server: &Server, side: &Path) {
    fs::create_dir(side).unwrap();
    give_to_postgres(side);
    server
        .sql(&format!(
            "CREATE TABLESPACE side LOCATION '{}'",
            side.display()
        ))
        .await;
    server
        .sql(
            "CREATE TABLE kept TABLESPACE side AS SELECT generate_series(1, 1000) AS n; \
             CREATE UNLOGGED TABLE fleeting AS SELECT generate_series(1, 1000); \
             CREATE TABLE plain AS SELECT 1",
        )
        .await;
    server.sql("VACUUM").await;
    server.sql("CREATE DATABASE other TABLESPACE side").await;
    let data = Path::new(&world.path("data")).to_owned();
    for path in [
        side.join("lost+found/junk"),
        side.join("PG_13_202007201/5/16400"),
        data.join("base/pgsql_tmp/pgsql_tmp1.0"),
        data.join("pg_internal.init.5"),
        data.join("postgresql.auto.conf.tmp"),
        data.join("mine/16384_init"),
        data.join("mine/16384"),
    ] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "other").unwrap();
        owned(path.parent().unwrap());
        owned(&path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn linked_files_and_directories_then_copy_starts() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let data = Path::new(&world.path("data")).to_owned();
    let elsewhere = world.directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    give_to_postgres(&elsewhere);
    server.sql("CREATE TABLE t AS SELECT 1").await;
    server.stop();
    for name in [
        "postgresql.conf",
        "pg_hba.conf",
        "pg_notify",
        "pg_xact",
        "pg_stat_tmp",
    ] {
        fs::rename(data.join(name), elsewhere.join(name)).unwrap();
        symlink(elsewhere.join(name), data.join(name)).unwrap();
    }
    let server = Server::start(&world, &data, 5432).await;

    world.run(&["backup"]).await.ok();
    // A file that PostgreSQL needs and that cannot be read has not vanished.
    let file = data.join(server.sql("SELECT pg_relation_filepath('t')").await);
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let refused = world.run(&["backup"]).await;
    refused.fails_with(30, file.to_str().unwrap());
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let map = data.join("base/4/PG_VERSION");
    fs::rename(&map, elsewhere.join("map")).unwrap();
    let refused = world.run(&["backup"]).await;
    refused.fails_with(19, "the first is `base/4/PG_VERSION`");
    fs::rename(elsewhere.join("map"), &map).unwrap();
    server.stop();
    fs::remove_dir_all(&elsewhere).unwrap();

    let restored = world.path("restored");
    let mut args = vec!["restore", "--target-directory", &restored];
    args.extend(["--target-action", "promote"]);
    world.run(&args).await.ok();
    let restored = Server::start(&world, Path::new(&restored), 5433).await;
    assert_eq!(restored.sql("SELECT count(*) FROM t").await, "1");
}

/// A directory that cannot be listed, or whose files cannot be read, is not empty.
#[tokio::test(flavor = "multi_thread")]
async fn directory_not_readable_then_refused() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let mine = Path::new(&world.path("data")).join("mine");
    fs::create_dir(&mine).unwrap();
    owned(&mine);
    fs::write(mine.join("file"), "mine").unwrap();
    owned(&mine.join("file"));
    for (mode, named) in [(0o000, "data/mine`"), (0o400, "data/mine/file`")] {
        fs::set_permissions(&mine, Permissions::from_mode(mode)).unwrap();
        let refused = world.run(&["backup"]).await;
        let refused = refused.fails_with(30, named);
        assert!(refused.stderr.contains("Permission denied"), "{refused:?}");
    }
    fs::set_permissions(&mine, Permissions::from_mode(0o700)).unwrap();
    world.run(&["backup"]).await.ok();
    server.stop();
}

/// Sets another data directory and user.
fn at(world: &World, directory: &str, user: &str) {
    let data = format!("data-directory = \"{}\"", world.path("data"));
    let there = format!("data-directory = \"{directory}\"\nuser = \"{user}\"");
    world.configure(|settings| settings.replace(&data, &there));
}

pub(crate) async fn copied(from: &str, to: &str) {
    let copied = as_postgres("cp").args(["-a", from, to]).output().await;
    let copied = copied.unwrap();
    assert!(copied.status.success(), "{copied:?}");
}

/// Returns a server that accepts replication connections.
pub(crate) async fn with_wal_senders(world: &World) -> Server {
    let server = Server::create(world).await;
    let setting = "ALTER SYSTEM SET max_wal_senders = 4";
    server.sql(setting).await;
    server.stop();
    Server::start(world, Path::new(&world.path("data")), 5432).await
}

pub(crate) async fn pg_basebackup(world: &World, args: &[&str]) {
    let mut command = as_postgres(format!("{BIN}/pg_basebackup"));
    command.arg("-h").arg(world.directory.path());
    let made = command.args(["-U", "postgres"]).args(args).output().await;
    let made = made.unwrap();
    assert!(made.status.success(), "{made:?}");
}

/// Returns all files and directories below a directory, with links followed.
fn below(root: &Path, path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root.join(path)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let path = if path.is_empty() {
            name
        } else {
            format!("{path}/{name}")
        };
        if root.join(&path).is_dir() {
            found.extend(below(root, &path));
        }
        found.insert(path);
    }
    found
}

fn owned(path: &Path) {
    let user = nix::unistd::User::from_name("postgres").unwrap();
    if let Some(user) = user.filter(|_| nix::unistd::geteuid().is_root()) {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}
