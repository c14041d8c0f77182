//! Resource limits of a backup, and errors that end it early.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::agent::{World, as_postgres, wait_for};
use crate::faults::Fault;
use crate::gate::Running;
use crate::postgres::Server;

const FILES: usize = 150_000;

/// Below the limit of ext4.
const NAMES_OF_ONE: usize = 50_000;

const LIMIT_MIB: i64 = 128;

/// Files with incompressible names, the minimum size of their manifest, and a limit on mapped
/// memory in which it does not fit: the program alone maps about half of this.
const LONG_NAMES: usize = 150_000;
const LARGE_MANIFEST: u64 = 16 << 20;
const READING_LIMIT_MIB: u64 = 48;

#[tokio::test(flavor = "multi_thread")]
async fn connection_lost_and_buckets_silent_then_backup_ends() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let silent = Fault::Delay(Duration::from_hours(1));
    for store in [&world.near, &world.far] {
        store.faults.add("PUT", "/pack/", 1000, silent);
    }

    let mut running = Running::start(&world);
    running.wait_until_begun().await;
    // Before that it queries the server, and would end without a response.
    wait_for("a pack that is sent", async || {
        let requests = world.near.faults.take_requests();
        let is_sent = |request: &String| request.starts_with("PUT") && request.contains("/pack/");
        requests.iter().any(is_sent).then_some(())
    })
    .await;
    let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                  WHERE application_name = 'backup-agent'";
    wait_for("the backup's session", async || {
        (server.sql(others).await == "1").then_some(())
    })
    .await;

    let (code, stderr) = running.ended().await;
    assert_eq!(code, Some(13), "{stderr}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_then_memory_stays_within_the_limit() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let many = PathBuf::from(world.path("data")).join("many");
    fs::create_dir(&many).unwrap();
    // A backup has to keep the names; many links to the same few files are created in a second.
    for number in 0..FILES {
        let path = many.join(format!("{number}_of_many_files"));
        let first = many.join(format!("{}_of_many_files", number - number % NAMES_OF_ONE));
        if path == first {
            fs::write(path, "small").unwrap();
        } else {
            fs::hard_link(first, path).unwrap();
        }
    }
    // The other children of this test need less.
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

/// The kernel limits the memory that a process may map writable.
#[tokio::test(flavor = "multi_thread")]
async fn large_manifest_then_list_and_check_stay_within_the_limit() {
    let world = World::new().await;
    let server = Server::create(&world).await;
    let many = PathBuf::from(world.path("data")).join("many");
    fs::create_dir(&many).unwrap();
    let mut random = fs::File::open("/dev/urandom").unwrap();
    let mut first = many.clone();
    for number in 0..LONG_NAMES {
        let mut name = [0; 240];
        random.read_exact(&mut name).unwrap();
        let name: String = name
            .iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect();
        let path = many.join(name);
        if number % NAMES_OF_ONE == 0 {
            fs::write(&path, "small").unwrap();
            first = path;
        } else {
            fs::hard_link(&first, path).unwrap();
        }
    }
    world.run(&["backup"]).await.ok();
    server.archive_all().await;
    let objects = world.near.objects();
    let (_, manifest) = objects
        .iter()
        .find(|object| object.0.ends_with("/manifest"))
        .unwrap();
    let bytes = fs::metadata(manifest).unwrap().len();
    assert!(bytes > LARGE_MANIFEST, "{bytes}");

    for args in [&["list"][..], &["check"]] {
        let limited = format!("ulimit -d {}; exec \"$@\"", READING_LIMIT_MIB << 10);
        let mut command = as_postgres("/bin/sh");
        command.args(["-c", &limited, "sh"]).arg(&world.program);
        command.arg("--config").arg(&world.config).args(args);
        let ended = command.output().await.unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        let stdout = String::from_utf8_lossy(&ended.stdout);
        assert!(
            ended.status.success(),
            "{args:?}: {}: {stdout}{stderr}",
            ended.status
        );
    }
    server.stop();
}

/// A control group that kills a process above its memory limit. It exists only where this test may
/// create one, not in a container; elsewhere only the peak is checked.
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
