//! Last record and last commit or abort in a WAL segment.

use causeway_core::Lsn;
use causeway_core::backup::WallTime;
use causeway_core::wal::WalScanner;
use tempfile::NamedTempFile;

use crate::archive::wal_file::read_each;
use crate::error::Error;

/// Maximum number of segments that are searched for a commit or abort, from the last one back. An
/// idle server ends a segment a minute, and two hours without a commit do not justify more
/// downloads.
pub(crate) const MAX_SEARCHED_SEGMENTS: usize = 120;

/// Last records that begin in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalTail {
    /// Position of the last record.
    pub(crate) last_record: Option<Lsn>,
    /// Time of the last commit or abort.
    pub(crate) last_transaction: Option<WallTime>,
}

/// Reads the records of a segment that begin before `before`. The last one may continue in
/// `following`, the segment after it.
pub(crate) fn read_tail(
    file: &NamedTempFile,
    following: Option<&NamedTempFile>,
    before: Option<Lsn>,
) -> Result<WalTail, Error> {
    let mut scanner = WalScanner::new();
    let mut tail = WalTail::default();
    for file in [Some(file), following].into_iter().flatten() {
        let read = read_each(file.path(), |bytes| {
            scanner.push(bytes, |record| {
                if before.is_none_or(|before| record.start < before) {
                    tail.last_record = Some(record.start);
                    let ended = record.transaction_end();
                    tail.last_transaction = tail.last_transaction.max(ended);
                }
            });
        });
        read.map_err(Error::io("read", file.path()))?;
    }
    Ok(tail)
}
