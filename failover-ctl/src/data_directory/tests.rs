//! Tests of the state of a data directory.

use proptest::prelude::*;

use super::*;
use crate::damage::{damaged, damaged_text};

fn control_file() -> Vec<u8> {
    let mut control = vec![0_u8; 512];
    control[..8].copy_from_slice(&7_u64.to_ne_bytes());
    control[16..20].copy_from_slice(&IN_ARCHIVE_RECOVERY.to_ne_bytes());
    control[32..40].copy_from_slice(&0x0300_0148_u64.to_ne_bytes());
    control[48..52].copy_from_slice(&2_u32.to_ne_bytes());
    control
}

/// The node could have been a primary, so the directory must not be replaced like an empty one.
#[test]
fn control_file_or_marker_unreadable_then_not_empty() {
    let data = tempfile::tempdir().unwrap();
    let marker = data.path().join("marker");
    let state = || state(data.path(), &marker);
    assert_eq!(state(), DataDirectoryState::Empty);
    let file = data.path().join("global/pg_control");
    fs::create_dir_all(&file).unwrap();
    assert_eq!(state(), DataDirectoryState::Unreadable);

    fs::remove_dir(&file).unwrap();
    fs::write(&file, control_file()).unwrap();
    assert_eq!(state(), DataDirectoryState::Standby);
    std::os::unix::fs::symlink(&marker, &marker).unwrap();
    assert_eq!(
        state(),
        DataDirectoryState::Unreadable,
        "a rewind may be incomplete"
    );
}

proptest! {
    #[test]
    fn damaged_control_file_then_no_panic(bytes in damaged(&control_file())) {
        if let Ok(control) = parse_control(&bytes) {
            prop_assert!(bytes.len() >= 200, "{control:?}");
        }
    }

    #[test]
    fn damaged_postmaster_pid_then_no_panic(text in damaged_text("4711\n/data\n1700000000\n5432\n")) {
        let number = parse_postmaster_pid(&text);
        prop_assert!(number.is_none_or(|number| number > 0), "a signal to {number:?} reaches other processes");
    }

    #[test]
    fn damaged_auto_conf_then_no_panic(text in damaged_text("# x\nWork_Mem = '8MB'\nprimary_conninfo='host=a'\n")) {
        let is_ours = |name: &str| name == "primary_conninfo";
        if let Some(kept) = auto_conf::without(&text, is_ours) {
            prop_assert!(kept.lines().all(|line| !is_ours(&auto_conf::name(line))));
            prop_assert_eq!(auto_conf::without(&kept, is_ours), None);
        }
    }
}
