//! Parsers of stored bytes: damaged input is refused or read, and never panics.
//!
//! Each property starts from a valid sample, so that damage reaches the parser's depth.
//! `make nightly-parsers` runs millions of cases; a failure prints its input.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "an index out of range or a missing value fails the test, as it should"
)]

mod damage;

use std::fmt::Write as _;
use std::time::Duration;

use causeway_core::agent::{
    Agent, AgentAction, AgentConfig, AgentEvent, AgentIdentity, LeaseReadResult, LocalObservation,
    ServerHealth,
};
use causeway_core::backup::manifest::lines::{ManifestLines, file_line, head_line};
use causeway_core::backup::manifest::{Digest, ManifestReader};
use causeway_core::backup::{BackupId, HeldSegments};
use causeway_core::failover::decision::FailoverPolicy;
use causeway_core::failover::loss;
use causeway_core::failover::observation::{ReplayProgress, ServerView};
use causeway_core::guard::{Guard, GuardDeadline, PostgresProcess};
use causeway_core::lease::{ETag, LeaseRecord, LeaseStoreId, LeaseTiming};
use causeway_core::lsn::{SegmentName, SegmentSize, WalFileName, parse_history};
use causeway_core::wal::WalScanner;
use causeway_core::{Epoch, HostInstant, Lsn, NodeId, Timeline};
use damage::{damaged, damaged_text};
use proptest::prelude::*;

const LEASE: &str = r#"{"format": 1, "cluster": "main", "system_id": "7312345678901234567", "epoch": 3,
"sequence": 9, "nonce": "0-1", "holder": {"node": "a", "host_id": "h", "boot_id": "b"}, "state": "held",
"last_position": {"timeline": 2, "flush_lsn": "0/A000000", "last_commit_at_micros": 1,
"wal_bytes_per_sec": 1, "rows_per_sec": 1, "age_millis": 40}, "last_primary": "a", "ancestry": {"timeline": 2,
"ancestors": [{"timeline": 1, "left_at": "0/9000000"}]}, "highest_reserved_timeline": 2, "idle_millis": 0,
"synchronous_standby": {"node": "b", "flush_lsn": "0/A000000"}, "members": ["a", "b"]}"#;

const HISTORY: &str = "1\t0/A800000\tno reason\n# comment\n2\t0/B000000\tbefore 2026\n";

const MANIFEST: &str = concat!(
    r#"{"format":1,"summary":{"id":"20261120T201500Z-5f3a9c01","timeline":1,"start-lsn":"0/1","#,
    r#""stop-lsn":"0/2","started-at":1,"stopped-at":2,"segment-bytes":16777216,"raw-bytes":8192,"#,
    r#""stored-bytes":6,"damaged-pages":0},"label":"nightly","system-id":1,"server-version":150020,"#,
    r#""pages-checked":true,"damaged":[],"group-access":false,"backup-label":"","tablespace-map":"","#,
    r#""tablespaces":[],"directories":["base"],"#,
    r#""packs":[{"backup":"20261120T201500Z-5f3a9c01","number":0,"payload-bytes":10}],"files":1}"#,
    "\n",
    r#"{"path":"base/1259","blobs":[{"pack":0,"offset":0,"stored-bytes":6,"raw-bytes":8192,"sha256":""#,
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}]}\n",
);

const DEADLINE: &str = concat!(
    r#"{"epoch":3,"requested_at":{"boottime":{"secs":100,"nanos":1},"raw":{"secs":90,"nanos":2}},"#,
    r#""stop_at":{"boottime":{"secs":107,"nanos":1},"raw":{"secs":97,"nanos":2}},"#,
    r#""kill_at":{"boottime":{"secs":109,"nanos":1},"raw":{"secs":99,"nanos":2}}}"#,
);

/// State of a scanner within a record.
const SCANNER: &str = concat!(
    r#"{"page_bytes":8192,"segment_bytes":16777216,"page":[16,209,0,0],"address":16785408,"#,
    r#""state":{"Within":{"start":16785300,"length":300,"taken":108,"kept":[44,1,0,0]}},"last_start":16785200}"#,
);

/// Returns pages of WAL with plausible headers and arbitrary contents.
fn wal_pages() -> impl Strategy<Value = Vec<u8>> {
    let header = (0..8_u16, any::<bool>(), prop::option::of(any::<u32>()));
    let body = prop::collection::vec(any::<u8>(), 0..200);
    prop::collection::vec((header, body), 1..4).prop_map(|pages| {
        let mut wal = Vec::new();
        for (number, ((info, is_in_order, rest), body)) in (0_u64..).zip(pages) {
            let address = if is_in_order {
                number * 8192
            } else {
                u64::MAX - number
            };
            let mut page = vec![0; 8192];
            page[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
            page[2..4].copy_from_slice(&info.to_le_bytes());
            page[8..16].copy_from_slice(&address.to_le_bytes());
            page[16..20].copy_from_slice(&rest.unwrap_or(0).to_le_bytes());
            page[24..24 + body.len()].copy_from_slice(&body);
            wal.extend(page);
        }
        wal
    })
}

/// Returns the lines of a manifest, written again from what was read; none if it is rejected.
fn rewritten_manifest(bytes: &[u8]) -> Option<Vec<u8>> {
    let reader = ManifestReader::open(bytes).ok()?;
    let mut text = head_line(reader.head()).unwrap();
    for file in reader {
        let file = file.ok()?;
        file.bytes();
        text.extend(file_line(&file).unwrap());
    }
    Some(text)
}

/// Returns whether a manifest that arrives in parts is accepted.
fn accepts_parts(bytes: &[u8], size: usize) -> bool {
    let mut lines = ManifestLines::default();
    bytes.chunks(size).all(|chunk| lines.push(chunk).is_ok()) && lines.finish().is_ok()
}

fn now() -> HostInstant {
    HostInstant::at(Duration::from_secs(100))
}

/// Returns whether a standby that observes the lease until it has expired takes it.
fn takes_lease(record: &LeaseRecord) -> bool {
    let timing = LeaseTiming::default();
    let identity = AgentIdentity {
        cluster: record.cluster.clone(),
        node: "b".parse().unwrap(),
        host_id: "host-b".to_owned(),
        boot_id: "1".to_owned(),
        members: record.members.clone(),
    };
    let config = AgentConfig {
        timing,
        policy: FailoverPolicy {
            lease_duration: timing.lease_duration,
            automatic: true,
            region_nodes: ["a", "b"].map(|name| name.parse().unwrap()).into(),
            max_loss_bytes: u64::MAX,
            peer_preference_timeout: Duration::ZERO,
        },
        write_probe_timeout: Duration::from_secs(5),
        write_stall_timeout: Duration::from_secs(20),
        start_timeout: Duration::from_mins(1),
        max_restarts_per_minute: 3,
    };
    let progress = progress(record);
    let mut agent = Agent::new(identity, config, (Epoch::new(0), 0), 1);
    let mut writes = 0;
    for secs in 0..60 {
        let now = now() + Duration::from_secs(secs);
        let answer = LeaseReadResult::Found(ETag("1".to_owned()), Box::new(record.clone()));
        for event in [
            AgentEvent::LocalObserved(Box::new(standby(record, progress))),
            AgentEvent::LeaseRead {
                requested_at: now,
                answer,
            },
            AgentEvent::Tick,
        ] {
            let actions = agent.handle(now, event);
            let is_write = |action: &&AgentAction| matches!(action, AgentAction::WriteLease(_));
            writes += actions.iter().filter(is_write).count();
        }
        drop((agent.problems(now), agent.forecast(now), agent.deadline()));
    }
    writes > 0
}

fn progress(record: &LeaseRecord) -> ReplayProgress {
    let received_lsn = record
        .last_position
        .map_or(Lsn::new(0), |last| last.flush_lsn);
    ReplayProgress {
        timeline: record
            .last_position
            .map_or(Timeline::FIRST, |last| last.timeline),
        received_lsn,
        replayed_lsn: received_lsn,
    }
}

fn standby(record: &LeaseRecord, progress: ReplayProgress) -> LocalObservation {
    LocalObservation {
        server: ServerView::Standby(progress),
        armed: None,
        wants_renewal_since: None,
        primary: None,
        health: ServerHealth::Recovering,
        replay: Some(1),
        starts: Some(1),
        system_id: Some(record.system_id),
        holds_position: true,
        holds_back: true,
        collations: None,
        taken_timeline: None,
        ancestry: record.ancestry.clone(),
    }
}

#[test]
fn undamaged_samples_then_parsed() {
    let record = LeaseRecord::parse(LEASE.as_bytes()).unwrap();
    assert!(takes_lease(&record));
    assert_eq!(
        parse_history(HISTORY).map(|ancestors| ancestors.len()),
        Ok(2)
    );
    let manifest = rewritten_manifest(MANIFEST.as_bytes());
    assert_eq!(manifest.as_deref(), Some(MANIFEST.as_bytes()));
    assert!(accepts_parts(MANIFEST.as_bytes(), 7));
    assert!(serde_json::from_str::<GuardDeadline>(DEADLINE).is_ok());
    assert!(WalScanner::from_state(SCANNER.as_bytes()).is_some());
}

/// Zero in place of either would understate the data loss, or the time without progress.
#[test]
fn lease_without_a_time_then_rejected() {
    for member in [r#", "age_millis": 40"#, r#", "idle_millis": 0"#] {
        let text = LEASE.replacen(member, "", 1);
        assert_ne!(text, LEASE, "{member}");
        assert!(LeaseRecord::parse(text.as_bytes()).is_err(), "{member}");
    }
}

proptest! {
    #[test]
    fn damaged_lease_then_no_panic(bytes in damaged(LEASE.as_bytes())) {
        if let Ok(record) = LeaseRecord::parse(&bytes) {
            takes_lease(&record);
            let progress = progress(&record);
            loss::estimate_loss(&record, progress, None, &LeaseTiming::default());
            let store = LeaseStoreId { bucket: "c".into(), region: "r".into(), endpoint: None };
            let retired = record.retired(&store, record.nonce.clone());
            prop_assert!(retired.order() > record.order());
            let again = LeaseRecord::parse(record.to_body().as_bytes());
            prop_assert_eq!(again, Ok(record));
        }
    }

    #[test]
    fn damaged_history_then_no_panic(text in damaged_text(HISTORY)) {
        if let Ok(ancestors) = parse_history(&text) {
            let mut formatted = String::new();
            for ancestor in &ancestors {
                writeln!(formatted, "{}\t{}\treason", ancestor.timeline, ancestor.left_at).unwrap();
            }
            prop_assert_eq!(parse_history(&formatted), Ok(ancestors));
        }
    }

    /// A manifest in parts is accepted if the whole one is, and what was read is written and read again.
    #[test]
    fn damaged_manifest_then_no_panic(bytes in damaged(MANIFEST.as_bytes()), size in 1..100_usize) {
        let rewritten = rewritten_manifest(&bytes);
        prop_assert_eq!(accepts_parts(&bytes, size), rewritten.is_some());
        if let Some(text) = rewritten {
            prop_assert_eq!(rewritten_manifest(&text), Some(text));
        }
    }

    #[test]
    fn arbitrary_wal_then_no_panic(wal in wal_pages(), size in 1..20_000_usize) {
        let mut scanner = WalScanner::new();
        for chunk in wal.chunks(size) {
            scan(&mut scanner, chunk);
        }
        let state = serde_json::to_vec(&scanner).unwrap();
        prop_assert!(WalScanner::from_state(&state).is_some(), "{scanner:?}");
    }

    #[test]
    fn damaged_scanner_state_then_no_panic(state in damaged(SCANNER.as_bytes()), wal in wal_pages()) {
        if let Some(mut scanner) = WalScanner::from_state(&state) {
            scan(&mut scanner, &wal);
        }
    }

    #[test]
    fn damaged_wal_file_name_then_no_panic(
        text in damaged_text("00000002000000000000000A.00000028.backup"), power in 20_u32..=30,
    ) {
        let size = SegmentSize::new(1 << power).unwrap();
        if let Ok(name) = text.parse::<WalFileName>() {
            prop_assert_eq!(&name.to_string(), &text);
        }
        let stem: String = text.chars().take(24).collect();
        if let Ok(WalFileName::Segment(name)) = stem.parse() {
            drop(name.next(size).to_string());
            let mut held = HeldSegments::new(size);
            held.insert(name);
            let canonical = SegmentName::containing(name.timeline, name.start(size), size);
            prop_assert_eq!(held.holds(canonical), name == canonical, "{}", name);
        }
    }

    #[test]
    fn damaged_id_then_no_panic(
        backup in damaged_text("20261120T201500Z-5f3a9c01"), node in damaged_text("eu-west-1a-1"),
        digest in damaged_text(&"5f".repeat(32)), lsn in damaged_text("16/B374D848"),
    ) {
        if let Ok(id) = backup.parse::<BackupId>() {
            prop_assert_eq!(id.to_string(), backup);
        }
        if let Ok(id) = node.parse::<NodeId>() {
            prop_assert_eq!(id.to_string(), node);
        }
        if let Ok(parsed) = Digest::try_from(digest.clone()) {
            prop_assert_eq!(parsed.to_string(), digest.to_lowercase());
        }
        if let Ok(parsed) = lsn.parse::<Lsn>() {
            prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
    }

    #[test]
    fn damaged_deadline_then_no_panic(bytes in damaged(DEADLINE.as_bytes()), jump: u32) {
        let Ok(deadline) = serde_json::from_slice::<GuardDeadline>(&bytes) else {
            return Ok(());
        };
        let mut guard = Guard::new();
        guard.tick(now(), Duration::ZERO, PostgresProcess::Standby);
        guard.accept_deadline(deadline).unwrap();
        for later in [Duration::ZERO, Duration::from_secs(1)] {
            let wall = Duration::from_secs(jump.into()) + later;
            guard.tick(now() + later, wall, PostgresProcess::MayWrite);
            guard.check_start_allowed(now() + later, deadline.epoch).ok();
            guard.check_commits_allowed(now() + later, deadline.epoch).ok();
            guard.supervisor_limit(now() + later, PostgresProcess::MayWrite);
        }
    }
}

fn scan(scanner: &mut WalScanner, wal: &[u8]) {
    scanner.push(wal, |record| {
        record.transaction_end();
        record.created_tablespace();
    });
}
