//! Parsers of stored bytes: damaged input is refused or read, and never panics.
//!
//! Each property starts from a valid sample, so that damage reaches the parser's depth.
//! `make nightly-parsers` runs millions of cases; a failure prints its input.

#![expect(
    clippy::indexing_slicing,
    reason = "an index out of range fails the test, as it should"
)]

use causeway_core::backup::manifest::ManifestReader;
use causeway_core::backup::manifest::lines::ManifestLines;
use causeway_core::lease::LeaseRecord;
use causeway_core::lsn::{WalFileName, parse_history};
use causeway_core::wal::WalScanner;
use proptest::prelude::*;
use proptest::sample::Index;

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
);

/// Returns the sample with bytes replaced, inserted and removed, and its end cut off.
fn damaged(sample: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let sample = sample.to_vec();
    let edit = (any::<Index>(), 0..3_u8, any::<u8>());
    let edits = prop::collection::vec(edit, 0..8);
    (edits, prop::option::weighted(0.2, any::<Index>())).prop_map(move |(edits, end)| {
        let mut bytes = sample.clone();
        for (index, kind, byte) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    })
}

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

fn read_manifest(bytes: &[u8]) -> usize {
    ManifestReader::open(bytes).map_or(0, |reader| reader.flatten().count())
}

#[test]
fn undamaged_samples_then_parsed() {
    assert!(LeaseRecord::parse(LEASE.as_bytes()).is_ok(), "lease");
    assert_eq!(
        parse_history(HISTORY).map(|ancestors| ancestors.len()),
        Ok(2)
    );
    let manifest = ManifestReader::open(MANIFEST.as_bytes());
    assert!(manifest.is_ok(), "{:?}", manifest.err());
}

proptest! {
    #[test]
    fn damaged_lease_then_no_panic(bytes in damaged(LEASE.as_bytes())) {
        if let Ok(record) = LeaseRecord::parse(&bytes) {
            let again = LeaseRecord::parse(record.to_body().as_bytes());
            prop_assert_eq!(again, Ok(record));
        }
    }

    #[test]
    fn damaged_history_then_no_panic(bytes in damaged(HISTORY.as_bytes())) {
        parse_history(&String::from_utf8_lossy(&bytes)).ok();
    }

    #[test]
    fn damaged_manifest_then_no_panic(bytes in damaged(MANIFEST.as_bytes()), size in 1..100_usize) {
        read_manifest(&bytes);
        let mut lines = ManifestLines::default();
        if bytes.chunks(size).all(|chunk| lines.push(chunk).is_ok()) {
            lines.finish().map(drop).ok();
        }
    }

    #[test]
    fn arbitrary_wal_then_no_panic(wal in wal_pages(), size in 1..20_000_usize) {
        let mut scanner = WalScanner::new();
        for chunk in wal.chunks(size) {
            scanner.push(chunk, |record| {
                record.transaction_end();
                record.created_tablespace();
            });
        }
    }

    #[test]
    fn damaged_wal_file_name_then_no_panic(bytes in damaged(b"00000002000000000000000A.partial")) {
        String::from_utf8_lossy(&bytes).parse::<WalFileName>().ok();
    }
}
