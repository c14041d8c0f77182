//! A single transient error of S3 is retried, whichever call fails.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::agent::{World, give_to_postgres, wait_for};
use crate::faults::Fault;
use crate::store::{ACCESS_KEY, SECRET_KEY};
use crate::wal::{host, object, segment, segment_of};

const NAME: &str = "000000010000000000000003";

/// Length of a body whose first half is sent before the service can detect that the rest does not
/// follow.
const NOT_BUFFERED: u64 = 4 << 20;

/// Transient errors of S3 and of the network, after which the call should be repeated.
const TRANSIENT: &[Fault] = &[
    Fault::Error(503, "SlowDown"),
    Fault::Error(500, "InternalError"),
    Fault::Error(429, "TooManyRequestsException"),
    Fault::Error(409, "ConditionalRequestConflict"),
    Fault::Error(400, "RequestTimeout"),
    Fault::Error(400, "ExpiredToken"),
    Fault::Error(403, "RequestTimeTooSkewed"),
    Fault::LostAnswer,
];

#[tokio::test(flavor = "multi_thread")]
async fn transient_error_then_push_and_fetch_succeed() {
    let world = one_bucket().await;
    let path = segment(&world, 1, 3, b"three");
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    for fault in TRANSIENT {
        world.near.faults.add("PUT", NAME, 1, *fault);
        world
            .near
            .faults
            .add("PUT", NAME, 1, Fault::ErrorInside200("InternalError"));
        let pushed = world.run(&["wal", "push", &path]).await;
        assert_eq!(pushed.code, Some(0), "{fault:?}: {pushed:?}");
        let stored = object(&world, &world.near.objects(), NAME);

        world.near.faults.add("GET", NAME, 1, *fault);
        let got = world
            .run(&["wal", "fetch", "--retry-timeout-secs", "20", NAME, &fetched])
            .await;
        assert_eq!(got.code, Some(0), "{fault:?}: {got:?}");
        assert!(fs::read(&fetched).unwrap() == fs::read(&path).unwrap());
        fs::remove_file(stored).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_fault_then_one_request_each() {
    let world = one_bucket().await;
    let path = segment(&world, 1, 3, b"three");
    world.run(&["wal", "push", &path]).await.ok();
    assert_eq!(world.near.faults.take_requests().len(), 1);

    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    world.run(&["wal", "fetch", NAME, &fetched]).await.ok();
    assert_eq!(world.near.faults.take_requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn body_cut_stalled_or_slow_then_read_to_its_end() {
    let world = one_bucket().await;
    let path = segment_of(&world, 1, 3, NOT_BUFFERED);
    world.run(&["wal", "push", &path]).await.ok();
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    for fault in [
        Fault::CutBody,
        Fault::StalledBody,
        Fault::SlowBody(NOT_BUFFERED),
    ] {
        world.near.faults.add("GET", NAME, 1, fault);
        let got = world.run(&["wal", "fetch", NAME, &fetched]).await;
        assert_eq!(got.code, Some(0), "{fault:?}: {got:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn range_or_length_unknown_then_read_to_its_end() {
    let world = one_bucket().await;
    let path = segment_of(&world, 1, 3, NOT_BUFFERED);
    world.run(&["wal", "push", &path]).await.ok();
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let asked = |faults: &[Fault]| {
        for fault in faults {
            world.near.faults.add("GET", NAME, 1, *fault);
        }
        world.near.faults.take_requests();
    };
    for (faults, requests) in [
        (&[Fault::CutBody, Fault::IgnoredRange][..], 2),
        (&[Fault::ShortBody], 2),
        (
            &[Fault::ShortBody, Fault::IgnoredRange, Fault::IgnoredRange],
            3,
        ),
        (&[Fault::IgnoredRange], 2),
    ] {
        asked(faults);
        let got = world.run(&["wal", "fetch", NAME, &fetched]).await;
        assert_eq!(got.code, Some(0), "{faults:?}: {got:?}");
        assert!(fs::read(&fetched).unwrap() == fs::read(&path).unwrap());
        let sent = world.near.faults.take_requests();
        assert_eq!(sent.len(), requests, "{faults:?}: {sent:?}");
    }

    // The header is requested separately as well.
    asked(&[Fault::IgnoredRange]);
    world.run(&["wal", "push", &path]).await.ok();
    segment(&world, 1, 3, b"another");
    asked(&[Fault::IgnoredRange]);
    let refused = world.run(&["wal", "push", &path]).await;
    refused.fails_with(15, "with other content");
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_fails_once_then_retried() {
    let world = one_bucket().await;
    let path = segment(&world, 1, 3, b"three");
    world.run(&["wal", "push", &path]).await.ok();
    let late = Fault::Delay(Duration::from_millis(300));
    for fault in TRANSIENT.iter().chain([&late]) {
        world.near.faults.add("GET", "list-type=2", 1, *fault);
        let listed = world.run(&["list"]).await;
        assert_eq!(listed.code, Some(0), "{fault:?}: {listed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bucket_or_service_unknown_then_not_an_absent_object() {
    let world = one_bucket().await;
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    for fault in [
        Fault::Error(404, "NoSuchBucket"),
        Fault::ForeignNotFound,
        Fault::Error(403, "AccessDenied"),
    ] {
        world.near.faults.add("GET", NAME, 100, fault);
        let asked = world.run(&["wal", "fetch", NAME, &fetched]).await;
        assert_eq!(asked.code, Some(14), "{fault:?}: {asked:?}");
        world.near.faults.clear();
    }
}

/// The temporary credentials of a role expire while a command runs, and others replace them by
/// then.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_expired_then_renewed_ones_used() {
    let world = one_bucket().await;
    let path = segment(&world, 1, 3, b"three");
    let fetched = world.path("data/pg_wal/RECOVERYXLOG");
    let credentials = world.path("credentials");
    let write = |key: &str, secret: &str| {
        let text =
            format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        fs::write(&credentials, text).unwrap();
        give_to_postgres(credentials.as_ref());
    };
    for (method, args) in [
        ("PUT", &["wal", "push", &path][..]),
        (
            "GET",
            &["wal", "fetch", "--retry-timeout-secs", "20", NAME, &fetched],
        ),
    ] {
        // The service accepts only the key pair that is written later.
        write("AKIDOFBEFORE", "no-longer-valid");
        world
            .near
            .faults
            .add(method, NAME, 1, Fault::HeldError(400, "ExpiredToken"));
        let mut command = world.command(args);
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env("AWS_SHARED_CREDENTIALS_FILE", &credentials);
        let running = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("the first request", async || {
            let requests = world.near.faults.take_requests();
            (!requests.is_empty()).then_some(())
        })
        .await;
        write(ACCESS_KEY, SECRET_KEY);
        world.near.faults.release();
        let ended = running.wait_with_output().await.unwrap();
        assert!(ended.status.success(), "{method}: {ended:?}");
        assert_eq!(world.near.faults.take_requests().len(), 1, "{method}");
    }
    assert!(fs::read(&fetched).unwrap() == fs::read(&path).unwrap());
}

/// Returns a world with the near bucket only.
pub(crate) async fn one_bucket() -> World {
    let world = host().await;
    world.configure(|settings| {
        let (first, rest) = settings.split_once("[[buckets]]\nname = \"far\"").unwrap();
        let (_, rest) = rest.split_once("[postgres]").unwrap();
        format!("{first}[postgres]{rest}")
    });
    world
}
