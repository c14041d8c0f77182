//! Scanner of WAL records, compared with the output of `pg_waldump` for a real server's WAL.

use std::fs;
use std::path::Path;

use causeway_core::wal::WalScanner;

use crate::agent::{World, as_postgres, give_to_postgres};
use crate::postgres::Server;

#[tokio::test(flavor = "multi_thread")]
async fn wal_scanned_then_same_records_as_pg_waldump() {
    let world = World::new().await;
    let place = world.directory.path().join("tablespace");
    fs::create_dir(&place).unwrap();
    give_to_postgres(&place);
    let (oid, last_commit) = write_wal(&world, &place).await;

    let pg_wal = world.directory.path().join("data/pg_wal");
    let names = segments(&pg_wal);
    let mut scanner = WalScanner::new();
    let (mut starts, mut ends, mut spaces) = (Vec::new(), Vec::new(), Vec::new());
    for name in &names {
        // The scanner's state can be stored between two segments.
        let kept = serde_json::to_string(&scanner).unwrap();
        assert!(kept.len() < 10_000, "{}", kept.len());
        scanner = serde_json::from_str(&kept).unwrap();
        for part in fs::read(pg_wal.join(name)).unwrap().chunks(100_001) {
            scanner.push(part, |record| {
                starts.push(record.start.to_string());
                ends.extend(record.transaction_end());
                let space = record.created_tablespace();
                spaces.extend(
                    space.map(|(oid, path)| (oid, String::from_utf8_lossy(path).into_owned())),
                );
            });
        }
    }

    let expected = waldump(&pg_wal, &names[0]).await;
    assert!(expected.len() > 4000, "{}", expected.len());
    for (found, line) in starts.iter().zip(&expected) {
        let padded = found
            .split_once('/')
            .map(|(high, low)| format!("lsn: {high}/{low:0>8}"));
        assert!(line.contains(&padded.unwrap()), "{found} and {line}");
    }
    assert_eq!(starts.len(), expected.len());
    assert_eq!(
        scanner.last_record().map(|record| record.to_string()),
        starts.last().cloned()
    );
    let newest = ends.iter().map(|time| time.as_micros()).max().unwrap();
    assert_eq!(newest, last_commit);
    assert_eq!(spaces, [(oid, place.display().to_string())]);
}

/// Writes WAL with a tablespace at `place`. Returns its OID and the time of the last commit.
async fn write_wal(world: &World, place: &Path) -> (u32, i64) {
    let server = Server::create(world).await;
    let path = world.directory.path().join("data/postgresql.conf");
    let settings = "track_commit_timestamp = on\narchive_mode = off\nwal_keep_size = '64MB'\n";
    fs::write(&path, fs::read_to_string(&path).unwrap() + settings).unwrap();
    server.stop();
    let server = Server::start(world, &world.directory.path().join("data"), 5432).await;
    server
        .sql("CREATE TABLE t AS SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 4000) g")
        .await;
    // Records across many pages and across the end of a segment, an early end of one, and aborts.
    server
        .sql("SELECT pg_logical_emit_message(false, 'x', repeat('y', 3000000))")
        .await;
    server.sql("SELECT pg_switch_wal()").await;
    server
        .sql(&format!(
            "CREATE TABLESPACE side LOCATION '{}'",
            place.display()
        ))
        .await;
    server
        .sql("BEGIN; INSERT INTO t VALUES (0, ''); ROLLBACK")
        .await;
    server.sql("INSERT INTO t VALUES (1, '')").await;
    let last =
        "SELECT (extract(epoch FROM timestamp) * 1000000)::bigint FROM pg_last_committed_xact()";
    let last_commit: i64 = server.sql(last).await.parse().unwrap();
    let oid = server
        .sql("SELECT oid FROM pg_tablespace WHERE spcname = 'side'")
        .await;
    server.stop();
    (oid.parse().unwrap(), last_commit)
}

/// Returns the names of the segments in a directory, sorted.
fn segments(pg_wal: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(pg_wal)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.len() == 24)
        .collect();
    names.sort();
    names
}

/// Returns one line for each record, from segment `first` on.
async fn waldump(directory: &Path, first: &str) -> Vec<String> {
    let output = as_postgres("/usr/lib/postgresql/15/bin/pg_waldump")
        .arg("--path")
        .arg(directory)
        .args(["--timeline", "1", "--start"])
        .arg(format!("0/{}00000", &first[21..]))
        .output();
    let output = output.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| line.starts_with("rmgr:"))
        .map(ToOwned::to_owned)
        .collect()
}
