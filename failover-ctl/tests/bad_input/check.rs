//! `failover-ctl check`, on a bare host, a node and an operator's machine.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::thread;

use crate::Host;
use crate::store::{Honesty, Store};

/// Exit code of a check of which some part failed.
const FAILED: i32 = 50;

/// A self-signed CA certificate.
const CA: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBNDCB56ADAgECAhR3RdQ+2nGGQ3oynxOlWVwaF2r83jAFBgMrZXAwDzENMAsG\n\
A1UEAwwEdGVzdDAgFw0yNjExMzAxNjIyNTBaGA8yMTI2MTEwNjE2MjI1MFowDzEN\n\
MAsGA1UEAwwEdGVzdDAqMAUGAytlcAMhAIG3FvpbIFrzvdKV/N7hmt5HLQsuOU0c\n\
wWPO7h+/t606o1MwUTAdBgNVHQ4EFgQUFbaRKZ+827hn3b5DBt+OIIjeseEwHwYD\n\
VR0jBBgwFoAUFbaRKZ+827hn3b5DBt+OIIjeseEwDwYDVR0TAQH/BAUwAwEB/zAF\n\
BgMrZXADQQAvu9pDwb80QBEXp8VVkLWufrNXFGrEZN16Bcqq+RDN7hGVIJi212GD\n\
ORU8Tr23pIJGx1n+L3NxtgA6jz8xBnEP\n\
-----END CERTIFICATE-----\n";

impl Host {
    /// A host on which nothing is installed, and a port of PostgreSQL at which nothing listens.
    fn bare(store: &Store) -> Self {
        let host = Self::with_store(&store.endpoint()).but(
            "address = \"127.0.0.2\"",
            "address = \"127.0.0.2\"\nport = 1",
        );
        let key = host.path().join("command-signing.key");
        fs::set_permissions(key, Permissions::from_mode(0o600)).unwrap();
        fs::remove_dir(host.path().join("data")).unwrap();
        host
    }

    /// Runs a check, and compares its exit code and lines.
    #[track_caller]
    fn checks(&self, flags: &[&str], code: i32, lines: &[&str]) -> String {
        let output = self.run(&[&["check"], flags].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{text}{errors}");
        for line in lines {
            assert!(text.contains(line), "`{line}` is not in:\n{text}");
        }
        for secret in ["a-secret-that-must-not-show", "kkkk", "hunter2"] {
            assert!(!format!("{text}{errors}").contains(secret), "{text}");
        }
        text
    }
}

#[test]
fn bare_host_then_checked_without_failure() {
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::bare(&store).but("/usr/lib/postgresql/15/bin", "/nowhere");
    fs::remove_file(host.path().join("postgresql.conf")).unwrap();
    let lines = [
        "ok      settings\n",
        "ok      command signing key\n",
        "ok      lease bucket `lease`\n",
        "ok      conditional writes in the lease bucket\n",
        "ok      versions in the lease bucket\n",
        "ok      clock, compared with the lease store\n",
        "skipped lease: none yet",
        "skipped PostgreSQL's programs: none yet",
        "skipped data directory: none yet",
        "ok      state directory: ",
        "skipped postgresql.conf: none yet",
        "skipped password of `rewind-user`: none yet",
        "skipped watchdog device",
        "skipped agent of c: none yet",
        "skipped PostgreSQL of c: none yet",
        "skipped DNS records",
    ];
    let text = host.checks(&["--before-install"], 0, &lines);
    assert_eq!(text.lines().count(), lines.len() + 1, "{text}");
    assert!(!host.path().join("data").exists(), "it was created");

    let lines = [
        "FAILED  PostgreSQL's programs: `/nowhere` has no `postgres`",
        "FAILED  password of `rewind-user`",
        "skipped data directory: none yet",
        "skipped agent of c: none yet",
    ];
    host.checks(&[], FAILED, &lines);
}

#[test]
fn data_directory_of_another_cluster_then_both_identifiers_named() {
    let store = Store::start(Honesty::KeepsConditions);
    let first = Host::with_store(&store.endpoint()).with_database(7);
    assert!(first.run(&["init", "--holder", "a"]).status.success());
    let second = Host::with_store(&store.endpoint()).with_database(8).but(
        "address = \"127.0.0.2\"",
        "address = \"127.0.0.2\"\nport = 1",
    );
    let lines = [
        "FAILED  lease: the lease is of the database with system identifier 7, and `",
        "/data` has 8, of another cluster: set `[postgres] data-directory`",
        "ok      PostgreSQL's programs: release 15, as the data directory\n",
        "system identifier 8\n",
        // The cluster has a lease, so its agents should run.
        "FAILED  agent of c: nothing listens at 127.0.0.2:0",
        "FAILED  PostgreSQL of c: nothing listens at 127.0.0.2 port 1",
    ];
    second.checks(&[], FAILED, &lines);
    let lines = ["skipped agent of c: none yet", "FAILED  lease: "];
    second.checks(&["--before-install"], FAILED, &lines);
}

#[test]
fn unfit_bucket_then_named() {
    let line = "warning versions in the lease bucket: the bucket keeps no version";
    for honesty in [Honesty::KeepsNoVersions, Honesty::SuspendedVersions] {
        let store = Store::start(honesty);
        Host::bare(&store).checks(&["--before-install"], 0, &[line]);
    }
    let store = Store::start(Honesty::TakesEverything);
    let line = "FAILED  conditional writes in the lease bucket: the bucket `lease` takes a write";
    Host::bare(&store).checks(&["--before-install"], FAILED, &[line]);
    let store = Store::start(Honesty::KeepsConditions);
    let unreachable = Host::bare(&store).but(&store.endpoint(), "http://127.0.0.1:9");
    let line = "FAILED  lease bucket `lease`: could not use the lease bucket `lease`";
    unreachable.checks(&["--before-install"], FAILED, &[line]);
}

#[test]
fn unfit_host_then_each_fault_named() {
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::bare(&store).but("[agent]", "watchdog-device = \"/dev/absent\"\n\n[agent]");
    fs::write(host.path().join("command-signing.key"), "hunter2").unwrap();
    fs::write(host.path().join("postgresql.conf"), "port = 5432\n").unwrap();
    fs::create_dir_all(host.path().join("data/lost+found")).unwrap();
    let lines = [
        "FAILED  command signing key: ",
        "less than 32 bytes",
        "FAILED  data directory: ",
        "which is the root of a file system",
        "FAILED  postgresql.conf: ",
        "add the line `include '",
        "FAILED  watchdog device: `/dev/absent`",
    ];
    host.checks(&["--before-install"], FAILED, &lines);

    let text = host.checks(&["--before-install", "--json"], FAILED, &[]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["format"], 1);
    let checks = report["checks"].as_array().unwrap();
    let count = |word| {
        checks
            .iter()
            .filter(|check| check["result"] == word)
            .count()
    };
    assert_eq!(count("failed"), 4, "{text}");
    assert_eq!(checks[0]["name"], "settings");
}

/// Its WAL volume is not mounted.
#[test]
fn pg_wal_links_to_nothing_then_named() {
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::bare(&store);
    let data = host.path().join("data");
    fs::create_dir(&data).unwrap();
    let host = host.with_database(7);
    fs::remove_dir(data.join("pg_wal")).unwrap();
    symlink(host.path().join("absent"), data.join("pg_wal")).unwrap();
    let lines = [
        "FAILED  data directory: ",
        "pg_wal` links to `",
        "mount its volume",
    ];
    host.checks(&["--before-install"], FAILED, &lines);
}

/// Root may read them, and the agent may not.
#[test]
fn files_of_root_then_denied_to_the_services() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::bare(&store).but("[guard]", "sslrootcert = \"@/ca.pem\"\n\n[guard]");
    let at = host.path().to_owned();
    let host = host.but("@", &at.display().to_string());
    for name in ["replication.password", "rewind.password", "ca.pem"] {
        fs::write(at.join(name), "secret").unwrap();
        fs::set_permissions(at.join(name), Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(at.join("ca.pem"), CA).unwrap();
    chown(at.join("state"), Some(0), None).unwrap();
    fs::create_dir(at.join("data")).unwrap();
    let host = host.with_database(7);
    chown(at.join("data"), Some(0), None).unwrap();
    let lines = [
        "ok      settings\n",
        "FAILED  data directory: ",
        "must belong to `postgres`, mode 0700 or 0750",
        "FAILED  state directory: `postgres` cannot use",
        "FAILED  password of `replication-user`: `postgres` cannot read",
        "FAILED  password of `rewind-user`: `postgres` cannot read",
        "FAILED  CA certificates: `postgres` cannot read",
        "(root:root, mode 0600): change its owner or mode",
    ];
    host.checks(&["--before-install"], FAILED, &lines);

    for name in [
        "replication.password",
        "rewind.password",
        "ca.pem",
        "data",
        "state",
    ] {
        let owner = fs::metadata(at.join("data/PG_VERSION")).unwrap();
        chown(at.join(name), Some(owner.uid()), None).unwrap();
    }
    let lines = [
        "ok      data directory: ",
        "ok      state directory: ",
        "ok      password of `rewind-user`\n",
        "ok      CA certificates: ",
    ];
    host.checks(&["--before-install"], 0, &lines);
}

#[test]
fn operator_machine_then_checked_without_node() {
    let store = Store::start(Honesty::KeepsConditions);
    let mut host = Host::bare(&store).but("node = \"a\"\n", "");
    let end = host.text.find("[postgres]").unwrap();
    host.text.truncate(end);
    // The other node is this host.
    let host = host.but(
        "address = \"127.0.0.1\"",
        "address = \"127.0.0.1\"\nport = 1",
    );
    let lines = [
        "ok      conditional writes in the lease bucket\n",
        "skipped this node: the settings name no `node`",
        "skipped agent of a: none yet",
        "skipped agent of c: none yet",
    ];
    host.checks(&[], 0, &lines);
}

#[test]
fn key_readable_by_all_users_then_named() {
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::bare(&store);
    let key = host.path().join("command-signing.key");
    fs::set_permissions(key, Permissions::from_mode(0o644)).unwrap();
    let line = "FAILED  command signing key: every user of this host can read";
    host.checks(&["--before-install"], FAILED, &[line]);
}

/// The other host answers, with a clock that is an hour behind, and is no agent.
#[test]
fn other_host_with_another_clock_then_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
            let date = hour_ago.strftime("%a, %d %b %Y %H:%M:%S GMT");
            if !matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                continue;
            }
            let head = format!("HTTP/1.1 200 OK\r\ndate: {date}\r\nconnection: close\r\n");
            let answer = format!("{head}content-length: 2\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let store = Store::start(Honesty::KeepsConditions);
    let host = Host::bare(&store).but("127.0.0.2:0", &agent);
    let lines = [
        "FAILED  agent of c: could not parse the status of `c`",
        "FAILED  clock, compared with c: this host's clock is at least 3",
        "ok      clock, compared with the lease store\n",
    ];
    host.checks(&["--before-install"], FAILED, &lines);
}
