//! No fault blocks `archive_command`, and missing objects reach their bucket.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::agent::{World, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::retries::one_bucket;
use crate::wal::{host, key, object, segment, segment_of};

/// Address space limit of every command.
const MEMORY_KIB: i64 = 128_000_000 / 1024;

#[tokio::test(flavor = "multi_thread")]
async fn second_partial_of_one_segment_then_both_kept() {
    let world = host().await;
    for content in [b"first", b"third", b"first"] {
        let path = partial(&world, content);
        world.run(&["wal", "push", &path]).await.ok();
    }
    let stored = [
        key("wal/00000001/00000001000000000000000E.partial"),
        key("wal/00000001/00000001000000000000000E.partial.1"),
    ];
    assert_eq!(world.near.keys(), stored);
    assert_eq!(world.far.keys(), stored);
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let name = "00000001000000000000000E.partial.1";
    world.run(&["wal", "fetch", name, &fetched]).await.ok();
    assert_eq!(&fs::read(&fetched).unwrap()[100..105], b"third");
}

#[tokio::test(flavor = "multi_thread")]
async fn second_partial_with_a_bucket_behind_then_same_slots() {
    let mut world = host().await;
    let path = partial(&world, b"first");
    world.far.stop().await;
    world.run(&["wal", "push", &path]).await.ok();
    world.far.come_back().await;
    world.forget("state");
    let path = partial(&world, b"other");
    world.run(&["wal", "push", &path]).await.ok();

    world.run(&["wal", "backfill", "--all"]).await.ok();
    assert_eq!(world.near.keys(), world.far.keys());
    assert_eq!(world.near.keys().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn far_bucket_slow_then_it_receives_every_segment() {
    let world = host().await;
    let slow = Fault::Delay(Duration::from_millis(1400));
    world.far.faults.add("PUT", "/wal/", 1000, slow);
    for number in 1..=6 {
        let path = segment(&world, 1, number, b"rows");
        world.run(&["wal", "push", &path]).await.ok();
        fs::remove_file(path).unwrap();
    }
    wait_for("the slow bucket", async || {
        (world.far.keys().len() == 6).then_some(())
    })
    .await;
    assert_eq!(world.near.keys(), world.far.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_lacks_an_object_then_metric_has_the_time() {
    let mut world = host().await;
    let metrics = world.path("metrics.prom");
    world.configure(|settings| format!("{settings}[metrics]\ntextfile = \"{metrics}\"\n"));
    world.far.stop().await;
    let path = segment(&world, 1, 1, b"rows");
    world.run(&["wal", "push", &path]).await.ok();

    let text = fs::read_to_string(&metrics).unwrap();
    assert!(
        text.contains("backup_bucket_lacking_files{bucket=\"far\"} 1"),
        "{text}"
    );
    let since = "backup_bucket_lacking_since_timestamp_seconds{bucket=\"far\"} 1";
    assert!(text.contains(since), "{text}");
    assert!(
        text.contains("backup_wal_last_stored_timestamp_seconds{bucket=\"near\"} 1"),
        "{text}"
    );

    world.far.come_back().await;
    wait_for("nothing lacking", async || {
        let text = fs::read_to_string(&metrics).unwrap();
        let lacking = "backup_bucket_lacking_files{bucket=\"far\"} 0";
        text.contains(lacking).then_some(())
    })
    .await;
    assert_eq!(world.near.keys(), world.far.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_refuses_or_state_not_writable_then_push_succeeds() {
    let world = host().await;
    world
        .far
        .faults
        .add("PUT", "/wal/", 1, Fault::Error(403, "AccessDenied"));
    fs::write(world.path("state"), "not a directory").unwrap();
    let path = segment(&world, 1, 1, b"rows");
    let pushed = world.run(&["wal", "push", &path]).await.ok();
    assert!(
        pushed.stderr.contains("missing object not recorded"),
        "{pushed:?}"
    );
    assert_eq!(world.near.keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn segment_before_the_fork_lost_then_gap_shown_until_filled() {
    let world = host().await;
    for number in [1, 3] {
        segment(&world, 1, number, b"rows");
    }
    let second = segment(&world, 1, 2, b"rows");
    let sound = fs::read(&second).unwrap();
    fs::write(&second, &sound[..4096]).unwrap();
    let history = world.path("data/pg_wal/00000002.history");
    fs::write(&history, "1\t0/480000\tno recovery target specified\n").unwrap();
    give_to_postgres(history.as_ref());

    let pushed = world.run(&["wal", "push", &history]).await.ok();
    assert!(pushed.stderr.contains("lost"), "{pushed:?}");
    let gap = "000000010000000000000002";
    assert_eq!(gaps(&world), [gap]);
    let shown = world.run(&["wal", "backfill"]).await;
    shown.fails_with(27, gap);

    fs::write(&second, &sound).unwrap();
    world.run(&["wal", "push", &second]).await.ok();
    world.run(&["wal", "backfill"]).await.ok();
}

/// A segment of several parts: its upload survives S3's faults, and neither direction needs memory
/// that grows with the segment.
#[tokio::test(flavor = "multi_thread")]
async fn large_segment_then_parts_and_bounded_memory() {
    let world = host().await;
    let path = segment_of(&world, 1, 1, 128 << 20);
    let name = "000000010000000000000001";
    for (method, part, fault) in [
        ("POST", "uploadId=", Fault::LostAnswer),
        ("PUT", "partNumber=2", Fault::Error(400, "RequestTimeout")),
        ("PUT", "partNumber=3", Fault::LostAnswer),
        ("POST", "uploads", Fault::Error(503, "SlowDown")),
    ] {
        world.near.faults.add(method, part, 1, fault);
    }
    world.far.faults.add(
        "POST",
        "uploadId=",
        1,
        Fault::ErrorInside200("InternalError"),
    );
    world.run(&["wal", "push", &path]).await.ok();
    wait_for("both buckets", async || {
        (world.near.keys().len() == 1 && world.far.keys().len() == 1).then_some(())
    })
    .await;
    world.run(&["wal", "push", &path]).await.ok();

    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    world.near.faults.add("GET", name, 1, Fault::CutBody);
    world.run(&["wal", "fetch", name, &fetched]).await.ok();
    assert!(fs::read(&fetched).unwrap() == fs::read(&path).unwrap());
    let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    assert!(most < MEMORY_KIB, "{most} KiB");
}

/// No timeout counts while bytes move: with one of 20 s each push would start again.
#[tokio::test(flavor = "multi_thread")]
async fn upload_slow_but_progressing_then_one_request_suffices() {
    let world = one_bucket().await;
    let path = segment_of(&world, 1, 1, 4 << 20);
    let slow = Fault::SlowUpload(180 << 10);
    world.near.faults.add("PUT", "/wal/", 1, slow);

    let pushed = world.run(&["wal", "push", &path]).await.ok();
    assert!(pushed.took > Duration::from_secs(21), "{pushed:?}");
    assert_eq!(world.near.faults.take_requests().len(), 1);
    assert_eq!(world.near.keys().len(), 1);
}

/// The records are worth less than the archive: PostgreSQL keeps every segment that a push did not
/// accept.
#[tokio::test(flavor = "multi_thread")]
async fn state_directory_full_or_closed_then_push_succeeds() {
    let mut world = host().await;
    let state = PathBuf::from(world.path("state"));
    fs::create_dir(&state).unwrap();
    give_to_postgres(&state);
    let metrics = state.join("metrics.prom");
    world.configure(|settings| {
        format!(
            "{settings}[metrics]\ntextfile = \"{}\"\n",
            metrics.display()
        )
    });
    let mut number = 0;
    let mut push = async |world: &World| {
        number += 1;
        let path = segment(world, 1, number, b"rows");
        world.run(&["wal", "push", &path]).await.ok()
    };
    push(&world).await;
    world.far.stop().await;

    fs::set_permissions(&state, Permissions::from_mode(0o555)).unwrap();
    close_to_postgres(&state);
    let pushed = push(&world).await;
    assert!(
        pushed.stderr.contains("missing object not recorded"),
        "{pushed:?}"
    );
    give_to_postgres(&state);

    let full = FullDisk::mount(&state);
    let pushed = push(&world).await;
    let is_noted = full.is_none();
    assert_ne!(
        pushed.stderr.contains("missing object not recorded"),
        is_noted,
        "{pushed:?}"
    );
    drop(full);
    world.far.come_back().await;
    world.run(&["wal", "backfill"]).await.ok();
    assert_eq!(world.near.keys(), world.far.keys());
    assert_eq!(world.near.keys().len(), 3);
}

/// A file system without space, on which no file can be created. There is none where mounting is
/// not allowed.
struct FullDisk<'a>(&'a Path);

impl<'a> FullDisk<'a> {
    fn mount(place: &'a Path) -> Option<Self> {
        let options = "size=4k,nr_inodes=3,mode=0777";
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(place);
        if !command.output().is_ok_and(|output| output.status.success()) {
            return None;
        }
        let mounted = Self(place);
        for name in ["some", "others"] {
            fs::write(place.join(name), b"").unwrap();
        }
        let refused = fs::write(place.join("more"), b"").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
        Some(mounted)
    }
}

impl Drop for FullDisk<'_> {
    fn drop(&mut self) {
        // A background process may still use it for a moment.
        let mut command = Command::new("umount");
        let unmounted = command.arg("--lazy").arg(self.0).output();
        assert!(unmounted.is_ok_and(|output| output.status.success()) || std::thread::panicking());
    }
}

/// Makes root the owner of a directory if the scenarios run as root: nothing else prevents writing
/// there.
fn close_to_postgres(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        chown(path, Some(0), Some(0)).unwrap();
    }
}

/// A stray segment older than all archived ones is no gap, because the others have expired.
#[tokio::test(flavor = "multi_thread")]
async fn segments_before_the_fork_expired_then_no_gap() {
    let world = host().await;
    let path = segment(&world, 1, 6, b"rows");
    world.run(&["wal", "push", &path]).await.ok();
    let stray = segment(&world, 1, 2, b"rows");
    world.run(&["wal", "push", &stray]).await.ok();
    for store in [&world.near, &world.far] {
        fs::remove_file(object(&world, &store.objects(), "000000010000000000000002")).unwrap();
    }
    let history = world.path("data/pg_wal/00000002.history");
    fs::write(&history, "1\t0/780000\tno recovery target specified\n").unwrap();
    give_to_postgres(history.as_ref());

    world.run(&["wal", "push", &history]).await.ok();
    assert!(gaps(&world).is_empty());
}

fn gaps(world: &World) -> Vec<String> {
    let text = fs::read(world.path("state/health.json")).unwrap();
    let health: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let gaps = health["known-gaps"].as_array().unwrap();
    gaps.iter()
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

fn partial(world: &World, content: &[u8]) -> String {
    let whole = PathBuf::from(segment(world, 1, 14, content));
    let path = whole.with_extension("partial");
    fs::rename(whole, &path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    path.to_str().unwrap().to_owned()
}
