//! The last record and the last end of a transaction in a WAL segment.

use causeway_core::Lsn;
use causeway_core::backup::WallTime;
use causeway_core::wal::WalScanner;
use tempfile::NamedTempFile;

use crate::archive::wal_file::read_each;
use crate::error::Error;

/// In how many segments the end of a transaction is searched for, from the last one back. An idle server
/// ends a segment a minute, and two hours without a commit are worth no more downloads.
pub(crate) const MAX_SEARCHED_SEGMENTS: usize = 120;

/// The last records that begin in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalTail {
    /// Where the last record begins.
    pub(crate) last_record: Option<Lsn>,
    /// When the last transaction committed or aborted.
    pub(crate) last_transaction: Option<WallTime>,
}

/// Reads the records of a segment that begin before `before`. The last one may continue in `following`, the
/// segment after it.
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
