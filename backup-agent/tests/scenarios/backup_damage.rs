//! Damaged pages are all reported, and stored only in files whose damage was accepted.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::agent::World;
use crate::gate::Gate;
use crate::postgres::Server;

const PAGE: u64 = 8192;

/// A tenth of a second for each of 301 pages takes twice as long.
const FOUND_WITHIN: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_then_all_named_and_stored_only_if_accepted() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server
        .sql(
            "CREATE TABLE broken AS SELECT generate_series(1, 70000); \
             CREATE TABLE scratched AS SELECT generate_series(1, 5000); \
             CREATE TABLE sound AS SELECT 1",
        )
        .await;
    server.sql("CHECKPOINT").await;
    let (broken, scratched) = (
        file(&server, "broken").await,
        file(&server, "scratched").await,
    );
    let sound = file(&server, "sound").await;
    let path = |name: &str| Path::new(&world.path("data")).join(name);
    for block in 0..300 {
        scratch(&path(&broken), block, None);
    }
    scratch(&path(&scratched), 5, None);

    let refused = world.run(&["backup"]).await.fails_with(18, "301 pages");
    assert!(refused.took < FOUND_WITHIN, "{refused:?}");
    for named in [
        format!("{broken}: 300 blocks (0-299)"),
        format!("{scratched}: 1 block (5)"),
    ] {
        assert!(refused.stderr.contains(&named), "{refused:?}");
    }
    let refused = world.run(&["backup", "--accept-damaged", &broken]).await;
    refused.fails_with(18, &scratched);
    let listed = world.run(&["list", "--json"]).await.ok().json();
    assert_eq!(listed["backups"], serde_json::json!([]));

    let mut args = vec!["backup", "--json"];
    for file in [&broken, &scratched, &sound] {
        args.extend(["--accept-damaged", file]);
    }
    let made = world.run(&args).await.ok().json();
    assert_eq!(made["pages-checked"], true);
    assert_eq!(made["accepted-and-undamaged"], serde_json::json!([sound]));
    let mut damaged = made["damaged"].as_array().unwrap().clone();
    damaged.sort_by_key(|file| file["blocks"][0][0].as_u64());
    assert_eq!(damaged[0]["path"], serde_json::json!(broken));
    assert_eq!(damaged[0]["blocks"], serde_json::json!([[0, 299]]));
    assert_eq!(damaged[1]["blocks"], serde_json::json!([[5, 5]]));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_page_with_a_newer_lsn_then_named() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    server
        .sql("CREATE TABLE t AS SELECT generate_series(1, 5000)")
        .await;
    server.sql("CHECKPOINT").await;
    let table = file(&server, "t").await;
    let gate = Gate::close(&world).await;

    let (running, began_at) = gate.hold_backup(&world).await;
    // A position that the WAL has reached by the end of the backup, as that of a page being
    // written.
    let path = Path::new(&world.path("data")).join(&table);
    scratch(&path, 3, Some(began_at + 1));
    gate.open().await;

    let (code, stderr) = running.ended().await;
    assert_eq!(code, Some(18), "{stderr}");
    assert!(
        stderr.contains(&format!("{table}: 1 block (3)")),
        "{stderr}"
    );
    server.stop();
}

async fn file(server: &Server, table: &str) -> String {
    let sql = format!("SELECT pg_relation_filepath('{table}')");
    server.sql(&sql).await
}

/// Changes a bit in the middle of a page, and its LSN.
fn scratch(path: &Path, block: u64, lsn: Option<u64>) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let mut byte = [0];
    let at = block * PAGE + 5000;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    if let Some(lsn) = lsn {
        let [high, low] = [lsn >> 32, lsn & 0xFFFF_FFFF].map(|half| u32::try_from(half).unwrap());
        let bytes = [high.to_le_bytes(), low.to_le_bytes()].concat();
        file.write_all_at(&bytes, block * PAGE).unwrap();
    }
}
