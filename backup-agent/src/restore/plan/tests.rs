//! Restore plans of manifests as a backup stores them.

use causeway_core::backup::BackupSummary;
use causeway_core::backup::manifest::{Digest, Pack, WallTime, lines};
use causeway_core::{Lsn, Timeline};

use super::*;

#[test]
fn packs_then_planned_within_the_limit() {
    let run = |packs, blobs| PackRun { packs, blobs };
    let all = 0..u64::MAX;
    assert_eq!(
        runs(&[3, 0, 4, 25, 9, 1, 1], 10),
        [
            run(0..3, all.clone()),
            run(3..4, 0..10),
            run(3..4, 10..20),
            run(3..4, 20..30),
            run(4..6, all.clone()),
            run(6..7, all),
        ]
    );
    assert!(runs(&[], 10).is_empty());
}

/// `FORMAT.md` allows files to share a blob, also within one file.
#[test]
fn shared_blob_then_planned_for_each_file() {
    let blob = |offset| Blob {
        pack: 0,
        offset,
        stored_bytes: 10,
        raw_bytes: 4096,
        sha256: Digest::new([7; 32]),
    };
    let file = |path: &str, offsets: &[u64]| manifest::ManifestFile {
        path: path.to_owned(),
        blobs: offsets.iter().map(|offset| blob(*offset)).collect(),
    };
    let files = [
        file("global/1", &[0, 10, 0]),
        file("global/pg_control", &[20, 10]),
    ];
    let plan = plan(&files);

    let [run] = plan.runs().try_into().unwrap();
    let batch = plan.batch(&run).unwrap();

    let [(0, places)] = batch.packs.as_slice() else {
        panic!("{batch:?}");
    };
    let planned: Vec<_> = places
        .iter()
        .map(|place| (place.blob.offset, place.file, place.at))
        .collect();
    assert_eq!(
        planned,
        [
            (0, 0, 0),
            (0, 0, 8192),
            (10, 0, 4096),
            (10, 1, 4096),
            (20, 1, 0)
        ]
    );
    assert_eq!(plan.blobs(), 5);
}

/// Returns the plan of a backup with one pack and these files.
fn plan(files: &[manifest::ManifestFile]) -> RestorePlan {
    let id: BackupId = "20261120T201500Z-5f3a9c01".parse().unwrap();
    let head = Manifest {
        format: manifest::FORMAT,
        summary: BackupSummary {
            id: id.clone(),
            timeline: Timeline::FIRST,
            start_lsn: Lsn::new(1),
            stop_lsn: Lsn::new(2),
            started_at: WallTime::from_micros(1),
            stopped_at: WallTime::from_micros(2),
            segment_bytes: 16 << 20,
            raw_bytes: 0,
            stored_bytes: 0,
            damaged_pages: 0,
        },
        label: String::new(),
        system_id: 1,
        server_version: 150_018,
        pages_checked: true,
        damaged: Vec::new(),
        group_access: false,
        backup_label: String::new(),
        tablespace_map: String::new(),
        tablespaces: Vec::new(),
        directories: vec!["global".to_owned()],
        packs: vec![Pack {
            backup: id,
            number: 0,
            payload_bytes: 100,
        }],
        files: files.len().try_into().unwrap(),
    };
    let mut spool = tempfile::tempfile().unwrap();
    spool.write_all(&lines::head_line(&head).unwrap()).unwrap();
    for file in files {
        spool.write_all(&lines::file_line(file).unwrap()).unwrap();
    }
    RestorePlan::read(spool).unwrap()
}
