//! What a backup may use, and what ends it early.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::agent::{World, wait_for};
use crate::faults::Fault;
use crate::gate::Running;
use crate::postgres::Server;

const FILES: usize = 150_000;

/// Below what ext4 allows.
const NAMES_OF_ONE: usize = 50_000;

const LIMIT_MIB: i64 = 128;

#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_then_backup_ends_though_the_buckets_are_silent() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let silent = Fault::Delay(Duration::from_hours(1));
    for store in [&world.near, &world.far] {
        store.faults.add("PUT", "/pack/", 1000, silent);
    }

    let mut running = Running::start(&world);
    running.until_it_began().await;
    // Before that it asks the server what it needs, and would end for want of an answer.
    wait_for("a pack that is sent", async || {
        let requests = world.near.faults.take_requests();
        let is_sent = |it: &String| it.starts_with("PUT") && it.contains("/pack/");
        requests.iter().any(is_sent).then_some(())
    })
    .await;
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                  WHERE application_name = 'backup-agent'";
    wait_for("the backup's session", async || {
        (server.sql(others).await == "1").then_some(())
    })
    .await;

    let (code, said) = running.ended().await;
    assert_eq!(code, Some(13), "{said}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_then_memory_stays_within_the_limit() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let many = PathBuf::from(world.path("data")).join("many");
    fs::create_dir(&many).unwrap();
    // Names are what a backup has to hold; the same few files under many are made in a second.
    for number in 0..FILES {
        let path = many.join(format!("{number}_of_many_files"));
        let first = many.join(format!("{}_of_many_files", number - number % NAMES_OF_ONE));
        if path == first {
            fs::write(path, "small").unwrap();
        } else {
            fs::hard_link(first, path).unwrap();
        }
    }
    // The rest of this test's children need less.
    let group = MemoryGroup::create();

    let mut command = world.command(&["backup", "--json"]);
    let mut running = command.spawn().unwrap();
    if let Some(group) = &group {
        group.add(running.id().unwrap());
    }
    assert!(running.wait().await.unwrap().success());

    let peak_mib = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss() / 1024;
    assert!(peak_mib < LIMIT_MIB, "{peak_mib} MiB");
    let listed = world.run(&["list", "--json"]).await.ok().json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1);
    server.stop();
}

/// A control group that ends a process which needs more memory than it may. There is one where this test
/// may make one: not in a container, and then the peak alone is looked at.
struct MemoryGroup {
    directory: PathBuf,
}

impl MemoryGroup {
    #[expect(clippy::print_stdout, reason = "what is not checked is said")]
    fn create() -> Option<Self> {
        let name = format!("causeway-test-{}", std::process::id());
        let bytes = (LIMIT_MIB << 20).to_string();
        for (hierarchy, limit) in [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ] {
            let group = Self {
                directory: Path::new(hierarchy).join(&name),
            };
            let made = fs::create_dir(&group.directory);
            if made.is_ok() && fs::write(group.directory.join(limit), &bytes).is_ok() {
                return Some(group);
            }
        }
        println!("no memory control group can be made here: the peak alone is checked");
        None
    }

    fn add(&self, process: u32) {
        let path = self.directory.join("cgroup.procs");
        fs::write(path, process.to_string()).unwrap();
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // It has no processes any more; a leftover would be empty.
        drop(fs::remove_dir(&self.directory));
    }
}
