//! Highest lease record that this node has trusted, stored on disk to detect a lease store that was rolled back.
//!
//! `highest.json` is written for each new epoch and is durable before the agent continues. `highest-in-epoch.json` is
//! written at each renewal without fsync: a power loss may leave it empty, and it is then ignored.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use tracing::warn;

use crate::durable_file::write_private;
use crate::protocol::node_status::HighestRecord;

const DURABLE: &str = "highest.json";
const IN_EPOCH: &str = "highest-in-epoch.json";

/// Reads the highest record from the state directory. A truncated file is ignored: the agent reads the store's record
/// before it takes the lease.
///
/// # Errors
///
/// When a file exists and cannot be read.
pub(crate) fn read(state: &Path) -> anyhow::Result<HighestRecord> {
    let [durable, lately] = [DURABLE, IN_EPOCH].map(|name| read_record_file(&state.join(name)));
    let durable = durable?.unwrap_or(HighestRecord::NONE);
    let lately = lately?.unwrap_or(HighestRecord::NONE);
    let timeline = durable.timeline.max(lately.timeline);
    let order = |record: &HighestRecord| (record.epoch, record.sequence);
    let highest = if order(&lately) > order(&durable) {
        lately
    } else {
        durable
    };
    Ok(HighestRecord {
        timeline,
        ..highest
    })
}

fn read_record_file(path: &Path) -> anyhow::Result<Option<HighestRecord>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("could not read `{}`", path.display()))?,
    };
    match serde_json::from_str(&text) {
        Ok(highest) => Ok(Some(highest)),
        Err(error) => {
            warn!(path = %path.display(), %error, "highest lease record file unreadable, ignored");
            Ok(None)
        }
    }
}

/// Stores the highest record. A `durable` one survives a power loss once this returns.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn write(state: &Path, highest: &HighestRecord, durable: bool) -> anyhow::Result<()> {
    let text = serde_json::to_string(highest)?;
    if durable {
        return write_private(&state.join(DURABLE), &text);
    }
    let path = state.join(IN_EPOCH);
    let temporary = path.with_extension("new");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, &path).with_context(|| format!("could not write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use causeway_core::Epoch;
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;

    proptest! {
        #[test]
        fn damaged_highest_record_then_no_panic(
            text in damaged(br#"{"epoch":3,"sequence":7,"timeline":2,"store":{"bucket":"b","region":"r"}}"#),
        ) {
            let state = tempfile::tempdir().unwrap();
            let durable = serde_json::to_string(&seen(2, 5)).unwrap();
            fs::write(state.path().join(DURABLE), durable).unwrap();
            fs::write(state.path().join(IN_EPOCH), text).unwrap();
            if let Ok(highest) = read(state.path()) {
                prop_assert!((highest.epoch.get(), highest.sequence) >= (2, 5));
                write(state.path(), &highest, false).unwrap();
                prop_assert_eq!(read(state.path()).unwrap(), highest);
            }
        }
    }

    fn seen(epoch: u64, sequence: u64) -> HighestRecord {
        HighestRecord {
            epoch: Epoch::new(epoch),
            sequence,
            ..HighestRecord::default()
        }
    }

    #[test]
    fn both_files_valid_then_higher_used() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(read(state.path()).unwrap(), HighestRecord::default());
        write(state.path(), &seen(3, 7), true).unwrap();
        write(state.path(), &seen(3, 9), false).unwrap();
        assert_eq!(read(state.path()).unwrap(), seen(3, 9));
        write(state.path(), &seen(4, 10), true).unwrap();
        assert_eq!(read(state.path()).unwrap(), seen(4, 10));
    }

    /// A power loss can leave an empty file after a write and rename without fsync.
    #[test]
    fn one_file_empty_then_other_used() {
        let state = tempfile::tempdir().unwrap();
        write(state.path(), &seen(3, 7), true).unwrap();
        fs::write(state.path().join(IN_EPOCH), "").unwrap();
        assert_eq!(read(state.path()).unwrap(), seen(3, 7));
        fs::write(state.path().join(DURABLE), "").unwrap();
        assert_eq!(read(state.path()).unwrap(), HighestRecord::default());
    }
}
