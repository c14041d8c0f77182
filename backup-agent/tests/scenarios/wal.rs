//! WAL archive, with generated segments: these scenarios need no server.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::agent::{World, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::retries::one_bucket;

const SYSTEM_ID: u64 = 7_312_345_678_901_234_567;
const SEGMENT: u64 = 1 << 20;
/// Maximum delay of four fetches due to an unresponsive bucket: the first waits 3 s for its
/// response, the others 1 s each. The rest is three times the work.
const SILENT_BUCKET_COSTS: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn segment_pushed_again_then_only_same_content_accepted() {
    let world = host().await;
    let path = segment(&world, 1, 3, b"first");
    world.run(&["wal", "push", &path]).await.ok();
    world.run(&["wal", "push", &path]).await.ok();
    assert_eq!(
        world.near.keys(),
        [key("wal/00000001/000000010000000000000003")]
    );
    assert_eq!(world.near.keys(), world.far.keys());

    segment(&world, 1, 3, b"another");
    world
        .run(&["wal", "push", &path])
        .await
        .fails_with(15, "with other content");

    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let name = "000000010000000000000003";
    world.run(&["wal", "fetch", name, &fetched]).await.ok();
    segment(&world, 1, 3, b"first");
    assert!(fs::read(&fetched).unwrap() == fs::read(&path).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn segment_does_not_match_its_name_then_not_stored() {
    let world = host().await;
    let path = segment(&world, 1, 3, b"");
    let recycled = world.path("data/pg_wal/000000010000000000000009");
    fs::rename(path, &recycled).unwrap();

    world
        .run(&["wal", "push", &recycled])
        .await
        .fails_with(16, "begins at 0/300000");

    assert!(world.near.keys().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_damaged_or_unreachable_then_distinct_errors() {
    let mut world = host().await;
    let name = "000000010000000000000003";
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let fetch = ["wal", "fetch", name, &fetched];
    world
        .run(&fetch)
        .await
        .fails_with(1, "is not in the archive");

    let paths = [
        segment(&world, 1, 3, b"three"),
        segment(&world, 1, 4, b"four"),
    ];
    for path in &paths {
        world.run(&["wal", "push", path]).await.ok();
    }
    let near = object(&world, &world.near.objects(), name);
    let far = object(&world, &world.far.objects(), name);
    let sound = fs::read(&near).unwrap();
    let other = fs::read(object(
        &world,
        &world.near.objects(),
        "000000010000000000000004",
    ));

    let mut flipped = sound.clone();
    flipped[sound.len() - 20] ^= 1;
    let cut = sound[..sound.len() - 30].to_vec();
    for (damage, expected) in [
        (flipped, "was altered"),
        (cut, "was altered"),
        (sound[..200].to_vec(), "truncated"),
        (other.unwrap(), "stored under another key"),
    ] {
        fs::write(&near, &damage).unwrap();
        world.run(&fetch).await.ok();
        fs::write(&far, &damage).unwrap();
        world.run(&fetch).await.fails_with(17, expected);
        fs::write(&far, &sound).unwrap();
    }

    world.near.stop().await;
    world.far.stop().await;
    world.run(&fetch).await.fails_with(14, "only 0 responded");
}

#[tokio::test(flavor = "multi_thread")]
async fn region_dead_then_no_delay_and_later_backfilled() {
    let mut world = host().await;
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let name = |number: u64| format!("00000001000000000000000{number}");
    let first = segment(&world, 1, 1, b"one");
    world.run(&["wal", "push", &first]).await.ok();

    world.near.fall_silent().await;
    let hedged = world.run(&["wal", "fetch", &name(1), &fetched]).await.ok();
    assert!(hedged.took < SILENT_BUCKET_COSTS, "{hedged:?}");
    // The first fetch that finds the bucket unresponsive waits for a moment; later ones do not.
    let mut four = Duration::ZERO;
    for _ in 0..4 {
        let absent = world.run(&["wal", "fetch", &name(9), &fetched]).await;
        four += absent.fails_with(14, "only 1 responded").took;
    }
    assert!(four < SILENT_BUCKET_COSTS, "a promotion waits {four:?}");
    let second = segment(&world, 1, 2, b"two");
    let waited = world.run(&["wal", "push", &second]).await.ok();
    assert!(waited.took < SILENT_BUCKET_COSTS, "{waited:?}");
    let third = segment(&world, 1, 3, b"three");
    let pushed = world.run(&["wal", "push", &third]).await.ok();
    assert!(pushed.took < SILENT_BUCKET_COSTS, "{pushed:?}");
    let noted = world.path("state/lacking/near");
    assert!(fs::read_dir(&noted).unwrap().count() > 0);
    eprintln!(
        "measured: {:?} hedged, {four:?}, {:?}, {:?}",
        hedged.took, waited.took, pushed.took
    );
    world.near.come_back().await;
    wait_for("the region to be filled", async || {
        (world.near.keys().len() == 3).then_some(())
    })
    .await;
    assert_eq!(world.near.keys(), world.far.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_timeline_then_ancestor_segments_archived_first() {
    let world = host().await;
    for number in 1..=5 {
        segment(&world, 1, number, b"log");
    }
    let first = world.path("data/pg_wal/000000010000000000000002");
    world.run(&["wal", "push", &first]).await.ok();
    // Timeline 2 begins inside of segment 4, so 4 and 5 of timeline 1 are incomplete.
    let history = world.path("data/pg_wal/00000002.history");
    fs::write(&history, "1\t0/480000\tno recovery target specified\n").unwrap();
    give_to_postgres(history.as_ref());

    world.run(&["wal", "push", &history]).await.ok();

    let stored = [
        key("history/00000002.history"),
        key("wal/00000001/000000010000000000000001"),
        key("wal/00000001/000000010000000000000002"),
        key("wal/00000001/000000010000000000000003"),
    ];
    assert_eq!(world.near.keys(), stored);
    assert_eq!(world.far.keys(), stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn host_without_identity_then_writes_and_cannot_read() {
    let world = host().await;
    world.configure(|settings| {
        let lines = settings
            .lines()
            .filter(|line| !line.starts_with("identity-file"));
        lines.collect::<Vec<_>>().join("\n")
    });
    let path = segment(&world, 1, 3, b"log");
    world.run(&["wal", "push", &path]).await.ok();
    world.run(&["wal", "push", &path]).await.ok();

    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    world
        .run(&["wal", "fetch", "000000010000000000000003", &fetched])
        .await
        .fails_with(11, "no `identity-file`");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_key_in_recipients_then_refused_and_not_printed() {
    let world = host().await;
    let identity = fs::read_to_string(world.path("identity.txt")).unwrap();
    let private = identity.lines().last().unwrap();
    world.configure(|settings| {
        settings.replace(
            "recipients = [\"",
            &format!("recipients = [\"{private}\", \""),
        )
    });

    let path = segment(&world, 1, 3, b"log");
    let refused = world.run(&["wal", "push", &path]).await;

    let refused = refused.fails_with(10, "a private key");
    assert!(!refused.stderr.contains(&private[16..]), "{refused:?}");
    let again = ["keygen", "--output", &world.path("identity.txt")];
    world.run(&again).await.fails_with(23, "exists");
    assert!(world.near.keys().is_empty());
}

/// S3 detects an error after its response has begun with 200, and has stored nothing.
#[tokio::test(flavor = "multi_thread")]
async fn upload_fails_inside_200_or_loses_response_then_stored() {
    let world = one_bucket().await;
    let failed = Fault::Error(200, "InternalError");
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let faults = [
        ("PUT", "/wal/", failed),
        ("PUT", "partNumber=2", failed),
        ("POST", "uploadId=", failed),
        ("POST", "uploadId=", Fault::LostAnswer),
    ];
    for (number, (method, part, fault)) in (1..).zip(faults) {
        // An object that is too large for memory needs several parts.
        let size = if part == "/wal/" { SEGMENT } else { 32 << 20 };
        let path = segment_of(&world, 1, number, size);
        world.near.faults.add(method, part, 1, fault);
        world.run(&["wal", "push", &path]).await.ok();

        let name = path.rsplit('/').next().unwrap();
        world.run(&["wal", "fetch", name, &fetched]).await.ok();
        assert!(fs::read(&fetched).unwrap() == fs::read(&path).unwrap());
    }
}

/// Returns a host whose data directory has a control file and no server.
pub(crate) async fn host() -> World {
    let world = World::new().await;
    for directory in ["data", "data/global", "data/pg_wal"] {
        let path = PathBuf::from(world.path(directory));
        fs::create_dir(&path).unwrap();
        give_to_postgres(&path);
    }
    let mut control = vec![0; 8192];
    control[..8].copy_from_slice(&SYSTEM_ID.to_le_bytes());
    control[8..12].copy_from_slice(&1300_u32.to_le_bytes());
    // `floatFormat`, followed by the segment size.
    control[208..216].copy_from_slice(&1_234_567.0_f64.to_le_bytes());
    control[228..232].copy_from_slice(&u32::try_from(SEGMENT).unwrap().to_le_bytes());
    let path = world.path("data/global/pg_control");
    fs::write(&path, control).unwrap();
    give_to_postgres(path.as_ref());
    world
}

/// Writes a segment as PostgreSQL 15 begins one, and returns its path.
pub(crate) fn segment(world: &World, timeline: u32, number: u64, content: &[u8]) -> String {
    let mut bytes = vec![0; usize::try_from(SEGMENT).unwrap()];
    bytes[100..100 + content.len()].copy_from_slice(content);
    write_segment(world, timeline, number, bytes)
}

/// Writes a segment of another size, whose content does not compress.
pub(crate) fn segment_of(world: &World, timeline: u32, number: u64, size: u64) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let bytes = words.take(usize::try_from(size / 8).unwrap()).flatten();
    write_segment(world, timeline, number, bytes.collect())
}

fn write_segment(world: &World, timeline: u32, number: u64, mut bytes: Vec<u8>) -> String {
    let size = u64::try_from(bytes.len()).unwrap();
    bytes[0..2].copy_from_slice(&0xD110_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&timeline.to_le_bytes());
    bytes[8..16].copy_from_slice(&(number * size).to_le_bytes());
    bytes[24..32].copy_from_slice(&SYSTEM_ID.to_le_bytes());
    bytes[32..36].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
    let path = world.path(&format!("data/pg_wal/{timeline:08X}00000000{number:08X}"));
    fs::write(&path, bytes).unwrap();
    give_to_postgres(path.as_ref());
    path
}

pub(crate) fn key(rest: &str) -> String {
    format!("main/{SYSTEM_ID}/{rest}")
}

pub(crate) fn object(world: &World, objects: &[(String, PathBuf)], name: &str) -> PathBuf {
    let found = objects.iter().find(|(key, _)| key.ends_with(name));
    let (_, path) = found.unwrap_or_else(|| panic!("{name} in {}", world.config.display()));
    path.clone()
}
