//! Walks over directories with files of PostgreSQL and of other programs.

use std::os::unix::fs::symlink;
use std::sync::mpsc;

use tempfile::TempDir;

use super::*;

#[test]
fn data_directory_then_same_files_as_pg_basebackup() {
    let root = directory_with(&[
        "PG_VERSION",
        "postmaster.pid",
        "pg_wal/000000010000000000000001",
        "pg_replslot/b/state",
        "base/5/1259",
        "base/5/1259_fsm",
        "base/5/1259.1",
        "base/5/16384",
        "base/5/16384_init",
        "base/5/16384_vm",
        "base/5/16384_backup",
        "base/5/t3_16390",
        "base/5/pg_internal.init.77",
        "base/pgsql_tmp/pgsql_tmp1.0",
        "global/pg_control",
        "global/pg_filenode.map",
        "mine/16384",
        "mine/16384_init",
        "mine/t3_16390",
        "pg_stat_private/global.stat",
    ]);
    let scope = WalkScope {
        emptied: vec!["pg_stat_private".to_owned()],
        ..scope(&root)
    };

    let (files, walked) = walked(&scope).unwrap();

    let taken = [
        "PG_VERSION",
        "base/5/1259",
        "base/5/1259.1",
        "base/5/1259_fsm",
        "base/5/16384_backup",
        "base/5/16384_init",
        "global/pg_filenode.map",
        "mine/16384",
        "mine/16384_init",
        "mine/t3_16390",
    ];
    assert_eq!(paths(&files), taken);
    let made = |path: &str| {
        walked
            .directories
            .iter()
            .filter(|found| *found == path)
            .count()
    };
    for path in EMPTIED
        .into_iter()
        .chain(["pg_wal", "pg_wal/archive_status", "pg_stat_private"])
    {
        assert_eq!(made(path), 1, "{path}");
    }
    assert_eq!(made("pg_replslot/b"), 0);
    assert_eq!(first_page("base/5/1259_vm.2"), Some(262_144));
    assert_eq!(first_page("pg_xact/0000"), None);
    assert_eq!(first_page("mine/1259"), None);
}

#[test]
fn tablespace_then_only_directory_of_this_version_taken() {
    let root = directory_with(&[
        "pg_tblspc/16400/PG_15_202209061/5/16401",
        "inside/PG_15_202209061/5/7",
    ]);
    let elsewhere = directory_with(&[
        "PG_15_202209061/5/16400",
        "PG_13_202007201/5/16400",
        "lost+found/junk",
    ]);
    let link = |oid: &str, to: &Path| symlink(to, root.path().join("pg_tblspc").join(oid)).unwrap();
    link("16399", elsewhere.path());
    link("16402", &root.path().join("inside"));

    let (files, walked) = walked(&scope(&root)).unwrap();

    let taken = [
        "pg_tblspc/16399/PG_15_202209061/5/16400",
        "pg_tblspc/16400/PG_15_202209061/5/16401",
        "pg_tblspc/16402/PG_15_202209061/5/7",
    ];
    assert_eq!(paths(&files), taken);
    assert!(files.iter().all(|file| file.first_page == Some(0)));
    let mut oids: Vec<u32> = walked
        .tablespaces
        .iter()
        .map(|tablespace| tablespace.oid)
        .collect();
    oids.sort_unstable();
    assert_eq!(oids, [16399, 16402]);
    assert!(walked.directories.contains(&"inside".to_owned()));
}

#[test]
fn links_then_content_stored_in_their_place() {
    let root = directory_with(&["PG_VERSION"]);
    let elsewhere = directory_with(&["postgresql.conf", "notify/0000", "xact/0000", "log/today"]);
    let link = |name: &str, to: &str| {
        symlink(elsewhere.path().join(to), root.path().join(name)).unwrap();
    };
    link("postgresql.conf", "postgresql.conf");
    link("pg_notify", "notify");
    link("pg_xact", "xact");
    link("log", "log");
    link("nothing.conf", "nowhere");
    symlink(".", root.path().join("circle")).unwrap();
    symlink("itself", root.path().join("itself")).unwrap();
    symlink("/", root.path().join("everything")).unwrap();
    let scope = WalkScope {
        log_directory: Some("log".to_owned()),
        ..scope(&root)
    };

    let (files, found) = walked(&scope).unwrap();

    assert_eq!(
        paths(&files),
        ["PG_VERSION", "pg_xact/0000", "postgresql.conf"]
    );
    for path in ["pg_notify", "pg_xact", "log"] {
        assert!(found.directories.contains(&path.to_owned()), "{path}");
    }
    for (link, to) in [("pg_stat", "/nowhere"), ("pg_twophase", "..")] {
        symlink(to, root.path().join(link)).unwrap();
        let error = walked(&scope).unwrap_err();
        assert!(error.to_string().contains(link), "{error}");
        fs::remove_file(root.path().join(link)).unwrap();
    }
}

#[test]
fn anything_but_a_vanished_file_then_error() {
    let root = directory_with(&["PG_VERSION"]);
    // ENAMETOOLONG: a file name has at most 255 bytes.
    symlink("x".repeat(300), root.path().join("base")).unwrap();
    let error = walked(&scope(&root)).unwrap_err().to_string();
    assert!(
        error.contains("could not follow") && error.contains("base"),
        "{error}"
    );

    let gone = WalkScope {
        root: root.path().join("not-there"),
        ..WalkScope::default()
    };
    assert!(walked(&gone).is_err(), "an empty backup of nothing");
}

fn directory_with(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("pg_tblspc")).unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    root
}

fn scope(root: &TempDir) -> WalkScope {
    WalkScope {
        root: root.path().to_owned(),
        version_directory: "PG_15_202209061".to_owned(),
        ..WalkScope::default()
    }
}

/// Returns the files, sorted by path, and the rest.
fn walked(scope: &WalkScope) -> Result<(Vec<PlannedFile>, WalkResult), Error> {
    let (out, files) = mpsc::sync_channel(1000);
    let walked = walk(scope, &out)?;
    drop(out);
    let mut files: Vec<PlannedFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((files, walked))
}

fn paths(files: &[PlannedFile]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}
