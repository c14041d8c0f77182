//! A very slow bucket is abandoned for a faster one, and read to the end if there is none.

use std::time::Duration;

use tokio::time::timeout;

use crate::agent::World;
use crate::faults::Fault;
use crate::postgres::Server;

/// The packs of a new cluster, about 3 MB, take minutes at this rate.
const CRAWLING: Fault = Fault::SlowBody(20_000);

/// Below the rate at which a bucket is abandoned, and 15 s for the same packs.
const SLOW: Fault = Fault::SlowBody(200_000);

/// Many times the duration of their restore from a healthy bucket.
const SOON: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn nearest_bucket_crawls_then_restored_from_the_next() {
    let world = backed_up().await;
    world.near.faults.add("GET", "/pack/", 1000, CRAWLING);

    let directory = world.path("put-back");
    let args = ["restore", "--target-directory", &directory];
    let restored = timeout(SOON, world.run(&args)).await;
    let restored = restored.expect("the healthy bucket is asked").ok();

    let named = restored.stderr.lines().any(|line| {
        line.contains("bucket=near") && line.contains("slow bucket abandoned for another")
    });
    assert!(named, "{restored:?}");
    eprintln!("measured: {:?}", restored.took);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bucket_slow_then_faster_one_read_to_its_end() {
    let world = backed_up().await;
    world.near.faults.add("GET", "/pack/", 1000, CRAWLING);
    world.far.faults.add("GET", "/pack/", 1000, SLOW);

    for (name, from) in [("of-both", None), ("of-far", Some("--from=far"))] {
        let directory = world.path(name);
        let mut args = vec!["restore", "--target-directory", &directory];
        args.extend(from);
        let restored = timeout(SOON, world.run(&args)).await;
        let restored = restored.expect("the faster bucket is followed").ok();

        assert!(!restored.stderr.contains("bucket=far"), "{restored:?}");
        eprintln!("measured: {:?}", restored.took);
    }
}

async fn backed_up() -> World {
    let world = World::new().await;
    let server = Server::create(&world).await;
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    server.stop();
    world
}
