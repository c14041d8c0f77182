//! Beginning of a WAL record: its header, transaction ends and created tablespaces.

use crate::Lsn;
use crate::backup::WallTime;

/// `SizeOfXLogRecord`.
pub(super) const RECORD_HEADER: usize = 24;

/// `src/include/access/rmgrlist.h`.
const XLOG: u8 = 0;
const TRANSACTION: u8 = 1;
const TABLESPACE: u8 = 5;

/// `XLOG_SWITCH`: the rest of the segment is unused.
const SWITCH: u8 = 0x40;

/// `XLR_RMGR_INFO_MASK`, and `XLOG_XACT_OPMASK` below it.
const KIND_MASK: u8 = 0xF0;
const TRANSACTION_KIND_MASK: u8 = 0x70;

/// `XLOG_XACT_COMMIT`, `_ABORT`, `_COMMIT_PREPARED`, `_ABORT_PREPARED`: their data begin with a time.
const TRANSACTION_ENDS: [u8; 4] = [0x00, 0x20, 0x30, 0x40];

/// `XLOG_TBLSPC_CREATE`.
const TABLESPACE_CREATE: u8 = 0x00;

/// PostgreSQL counts microseconds from 2000-01-01, `WallTime` from 1970-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The beginning of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalRecord<'a> {
    /// Position of its first byte (`ReadRecPtr`).
    pub start: Lsn,
    /// Its length in bytes, without page headers.
    pub length: u32,
    /// Its first bytes: all of a record on one page, otherwise up to 1,200.
    pub(super) bytes: &'a [u8],
}

impl WalRecord<'_> {
    /// Returns the time of a transaction's commit or abort, if the record is one. Only such records end
    /// recovery to a time (`recoveryStopsBefore` in `xlogrecovery.c`).
    pub fn transaction_end(&self) -> Option<WallTime> {
        let (manager, info) = self.kind()?;
        if manager != TRANSACTION || !TRANSACTION_ENDS.contains(&(info & TRANSACTION_KIND_MASK)) {
            return None;
        }
        let micros = i64::from_le_bytes(*self.main_data()?.first_chunk()?);
        Some(WallTime::from_micros(
            micros.checked_add(POSTGRES_EPOCH_MICROS)?,
        ))
    }

    /// Returns the OID and the path of a tablespace, if the record creates one. The path is empty for one
    /// inside the data directory (`allow_in_place_tablespaces`).
    pub fn created_tablespace(&self) -> Option<(u32, &[u8])> {
        let (manager, info) = self.kind()?;
        if manager != TABLESPACE || info & KIND_MASK != TABLESPACE_CREATE {
            return None;
        }
        let (oid, path) = self.main_data()?.split_first_chunk()?;
        let end = path
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(path.len());
        Some((u32::from_le_bytes(*oid), path.get(..end)?))
    }

    fn kind(&self) -> Option<(u8, u8)> {
        Some((*self.bytes.get(17)?, *self.bytes.get(16)?))
    }

    pub(super) fn previous(&self) -> Option<u64> {
        let eight = self.bytes.get(8..16)?;
        Some(u64::from_le_bytes(*eight.first_chunk()?))
    }

    pub(super) fn is_switch(&self) -> bool {
        self.kind()
            .is_some_and(|(manager, info)| manager == XLOG && info & KIND_MASK == SWITCH)
    }

    /// Returns the main data of a record that refers to no block, which holds for the kinds read here.
    fn main_data(&self) -> Option<&[u8]> {
        let mut at = RECORD_HEADER;
        loop {
            let id = *self.bytes.get(at)?;
            at += match id {
                // `XLR_BLOCK_ID_DATA_SHORT` and `_LONG`, the last of the headers.
                255 => return self.bytes.get(at + 2..),
                254 => return self.bytes.get(at + 5..),
                // `XLR_BLOCK_ID_ORIGIN` and `XLR_BLOCK_ID_TOPLEVEL_XID`.
                253 => 3,
                252 => 5,
                _ => return None,
            };
        }
    }
}
