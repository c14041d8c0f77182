//! What cannot be right is refused before anything is touched, with the setting, the reason and the
//! remedy.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up should stop where it is"
)]

mod check;
mod operations;
#[expect(
    dead_code,
    reason = "the unit tests of the plan executor use the faults"
)]
mod store;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::store::{Honesty, Store};

/// Gives a directory of a test that runs as root to `postgres`, as on a host.
fn give(directory: &Path) {
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    if nix::unistd::geteuid().is_root() {
        let mut owned = Command::new("chown");
        let owned = owned.args(["-R", "postgres:"]).arg(directory);
        assert!(owned.status().unwrap().success());
    }
}

/// A node's settings, in a directory of their own.
struct Host {
    directory: tempfile::TempDir,
    text: String,
}

impl Host {
    fn new() -> Self {
        Self::with_store("http://127.0.0.1:9")
    }

    fn with_store(endpoint: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        for name in ["data", "run", "state"] {
            fs::create_dir(directory.path().join(name)).unwrap();
            give(&directory.path().join(name));
        }
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(directory.path().join("command-signing.key"), "k".repeat(64)).unwrap();
        fs::write(
            directory.path().join("postgresql.conf"),
            format!("include '{at}/run/guard.conf'\n"),
        )
        .unwrap();
        let text = format!(
            r#"
cluster = "test"
node = "a"
primary-region = "eu-west-1"
command-signing-key-file = "{at}/command-signing.key"

[[nodes]]
name = "a"
region = "eu-west-1"
zone = "eu-west-1a"
address = "127.0.0.1"
agent = "127.0.0.1:0"

[[nodes]]
name = "c"
region = "eu-central-1"
zone = "eu-central-1a"
address = "127.0.0.2"
agent = "127.0.0.2:0"

[lease]
bucket = "lease"
region = "eu-north-1"
endpoint = "{endpoint}"

[postgres]
bin-directory = "/usr/lib/postgresql/15/bin"
config-file = "{at}/postgresql.conf"
data-directory = "{at}/data"
socket-directory = "{at}"
replication-user = "replicator"
replication-password-file = "{at}/replication.password"
rewind-user = "rewinder"
rewind-password-file = "{at}/rewind.password"

[guard]
runtime-directory = "{at}/run"

[agent]
state-directory = "{at}/state"
"#
        );
        Self { directory, text }
    }

    /// Replaces a part of the settings, which must be there.
    fn but(mut self, old: &str, new: &str) -> Self {
        assert!(self.text.contains(old), "`{old}` is not in the settings");
        self.text = self.text.replace(old, new);
        self
    }

    /// Makes the data directory one, with this system identifier.
    fn with_database(self, system_id: u64) -> Self {
        let data = self.path().join("data");
        let mut control = vec![0_u8; 512];
        control[..8].copy_from_slice(&system_id.to_ne_bytes());
        control[16..20].copy_from_slice(&1_u32.to_ne_bytes());
        control[48..52].copy_from_slice(&1_u32.to_ne_bytes());
        fs::create_dir(data.join("global")).unwrap();
        fs::create_dir(data.join("pg_wal")).unwrap();
        fs::write(data.join("global/pg_control"), control).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        give(&data);
        self
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let settings = self.path().join("failover-ctl.toml");
        fs::write(&settings, &self.text).unwrap();
        Command::new(env!("CARGO_BIN_EXE_failover-ctl"))
            .arg("--config")
            .arg(settings)
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "a-secret-that-must-not-show")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()
            .unwrap()
    }

    /// Runs a command that must be refused with `code`, and checks its output.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], code: i32, says: &[&str]) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        for part in says {
            assert!(said.contains(part), "`{part}` is not in:\n{said}");
        }
        assert!(!said.contains("a-secret-that-must-not-show"), "{said}");
        let state = fs::read_dir(self.path().join("state")).unwrap().count();
        assert!(state <= 1, "something other than the lock was written");
    }
}

#[test]
fn unknown_key_then_named() {
    let host = Host::new().but("cluster = \"test\"", "cluster = \"test\"\nclutser = \"x\"");
    host.refuses(&["status"], 3, &["clutser", "unknown field"]);
}

#[test]
fn contradicting_times_then_rejected() {
    let host = Host::new().but(
        "bucket = \"lease\"",
        "bucket = \"lease\"\nlease-duration-secs = 9",
    );
    host.refuses(
        &["agent"],
        3,
        &["`lease-duration-secs` is 9s", "must be at least"],
    );
    let host = Host::new().but(
        "bucket = \"lease\"",
        "bucket = \"lease\"\nrenew-interval-secs = 5",
    );
    host.refuses(&["agent"], 3, &["must survive two lost renewals"]);
    let host = Host::new().but(
        "bucket = \"lease\"",
        "bucket = \"lease\"\nrenew-interval-secs = -1",
    );
    host.refuses(
        &["agent"],
        3,
        &["`lease.renew-interval-secs` must be a number of seconds"],
    );
}

#[test]
fn node_not_in_nodes_then_rejected() {
    let host = Host::new().but("node = \"a\"", "node = \"z\"");
    host.refuses(
        &["agent"],
        3,
        &["`node` is `z`, which is not among `[[nodes]]`"],
    );
}

#[test]
fn lease_in_database_region_then_rejected() {
    let host = Host::new().but("region = \"eu-north-1\"", "region = \"eu-west-1\"");
    host.refuses(
        &["agent"],
        3,
        &["`lease.region`", "use a bucket in a third region"],
    );
}

#[test]
fn not_a_data_directory_then_unchanged() {
    let host = Host::new();
    fs::write(host.path().join("data/thesis.txt"), "do not touch").unwrap();
    host.refuses(
        &["agent"],
        3,
        &["`postgres.data-directory`", "is not a data directory"],
    );
    assert!(host.path().join("data/thesis.txt").exists());
}

#[test]
fn other_release_than_programs_then_rejected() {
    let host = Host::new().with_database(7);
    fs::write(host.path().join("data/PG_VERSION"), "12\n").unwrap();
    host.refuses(&["agent"], 3, &["`postgres.bin-directory`", "release 12"]);
}

#[test]
fn port_in_use_then_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let host = Host::new().but("agent = \"127.0.0.1:0\"", &format!("agent = \"{address}\""));
    host.refuses(&["agent"], 3, &[&address, "is another agent running?"]);
}

#[test]
fn short_key_then_rejected_and_not_shown() {
    let host = Host::new();
    fs::write(host.path().join("command-signing.key"), "hunter2").unwrap();
    host.refuses(
        &["agent"],
        3,
        &["`command-signing-key-file`", "less than 32 bytes"],
    );
    assert!(!String::from_utf8_lossy(&host.run(&["agent"]).stderr).contains("hunter2"));
}

#[test]
fn bucket_ignores_preconditions_then_rejected() {
    let store = Store::start(Honesty::TakesEverything);
    let host = Host::with_store(&store.endpoint()).with_database(7);
    host.refuses(
        &["agent"],
        10,
        &["cannot keep a lease", "honours conditional writes"],
    );
    host.refuses(&["init", "--holder", "a"], 10, &["cannot keep a lease"]);
}

#[test]
fn bucket_returns_no_etag_then_rejected() {
    for honesty in [Honesty::ReturnsNoETag, Honesty::ReturnsEmptyETag] {
        let store = Store::start(honesty);
        let host = Host::with_store(&store.endpoint()).with_database(7);
        host.refuses(&["init", "--holder", "a"], 10, &["returned no ETag"]);
    }
}

#[test]
fn lease_exists_then_init_rejected() {
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::with_store(&store.endpoint()).with_database(7);
    assert!(host.run(&["init", "--holder", "a"]).status.success());
    let before = store.object("clusters/test/lease").unwrap();
    host.refuses(&["init", "--holder", "a"], 12, &["has a lease already"]);
    assert_eq!(store.object("clusters/test/lease").unwrap(), before);
}

#[test]
fn lease_of_another_database_then_rejected() {
    let store = Store::start(Honesty::KeepsConditions);
    let first = Host::with_store(&store.endpoint()).with_database(7);
    assert!(first.run(&["init", "--holder", "a"]).status.success());

    let second = Host::with_store(&store.endpoint()).with_database(8);
    second.refuses(
        &["agent"],
        11,
        &["system identifier 7", "the data directory has 8"],
    );
}

#[test]
fn lease_of_later_format_then_unchanged() {
    let store = Store::start(Honesty::KeepsConditions);
    store.put("clusters/test/lease", r#"{"format": 2, "whatever": true}"#);
    let host = Host::with_store(&store.endpoint()).with_database(7);
    host.refuses(&["agent"], 10, &["format 2", "upgrade this node"]);
    assert_eq!(
        store.object("clusters/test/lease").unwrap(),
        r#"{"format": 2, "whatever": true}"#
    );
}

#[test]
fn no_lease_or_unknown_target_then_promotion_rejected() {
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::with_store(&store.endpoint()).with_database(7);
    host.refuses(
        &["promote", "--to", "c", "--yes"],
        13,
        &["has no lease", "hint: run `failover-ctl init`"],
    );
    host.refuses(
        &["promote", "--to", "mars", "--yes"],
        14,
        &["no node and no region named `mars`"],
    );
    assert!(host.run(&["init", "--holder", "a"]).status.success());
    host.refuses(
        &["promote", "--to", "a", "--yes"],
        15,
        &["`a` is the primary already"],
    );
    host.refuses(
        &["promote", "--to", "c", "--yes"],
        16,
        &["its agent does not answer"],
    );
    host.refuses(&["resume"], 23, &["no operation to resume"]);
}

#[test]
fn documented_example_then_parsed() {
    let text = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/examples/failover-ctl.toml"
    ));
    let mut host = Host::new();
    host.text = text.unwrap();
    // It gets as far as the files that only a real host has.
    host.refuses(
        &["agent"],
        3,
        &["`command-signing-key-file` cannot be used"],
    );
}
