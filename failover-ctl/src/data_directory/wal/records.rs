//! Reader of WAL records in order, as recovery reads them, which finds the end of a timeline's WAL.
//!
//! The format is that of `src/include/access/xlog_internal.h` and `xlogrecord.h`, the same in PostgreSQL 13 to 18. A
//! record is valid if its length, the position of the previous record and its CRC are right, as in recovery
//! (`ValidXLogRecordHeader`, `ValidXLogRecord` in `xlogreader.c`).

use std::io;

use causeway_core::Lsn;
use causeway_core::lsn::SegmentSize;

use crate::data_directory::wal::page::WalPage;

/// `SizeOfXLogRecord`.
const RECORD_HEADER: usize = 24;

/// Maximum length of a record (`XLogRecordMaxSize` since PostgreSQL 16; `AllocSizeIsValid` before).
const LONGEST: usize = 1 << 30;

/// Resource manager and info of the record that ends a segment early (`XLOG_SWITCH`).
const XLOG: u8 = 0;
const SWITCH: u8 = 0x40;

/// Returns a segment of one timeline by its number; none if it does not exist.
pub(super) type WalSource<'a> = dyn FnMut(u64) -> io::Result<Option<Vec<u8>>> + 'a;

/// Reader of one timeline's WAL.
pub(super) struct WalReader<'a> {
    size: SegmentSize,
    source: &'a mut WalSource<'a>,
    segment: Option<(u64, Vec<u8>)>,
}

/// Content at a position.
enum Found {
    /// Valid record: its start, and the start of the next one.
    Record(u64, u64),
    /// Record that a crash cut off. Recovery marked this page, and continues there.
    Overwritten(u64),
    /// No valid record.
    End,
}

/// Result of reading bytes across page boundaries.
enum BytesRead {
    Whole(Vec<u8>, u64),
    Overwritten(u64),
    Short,
}

impl<'a> WalReader<'a> {
    pub(super) fn new(size: SegmentSize, source: &'a mut WalSource<'a>) -> Self {
        Self {
            size,
            source,
            segment: None,
        }
    }

    /// Returns the end of the last valid record, reading from segment `first` on.
    pub(super) fn end(&mut self, first: u64) -> io::Result<Lsn> {
        let start = first * self.size.bytes();
        let Some(page) = self.page(start)? else {
            return Ok(Lsn::new(start));
        };
        let mut at = start + page.header_bytes();
        if page.begins_with_continuation() {
            let rest = usize::try_from(page.continuation_bytes()).unwrap_or(LONGEST);
            at = match self.read_continuation(start, rest)? {
                BytesRead::Whole(_, next) => next,
                BytesRead::Overwritten(page) => page,
                BytesRead::Short => return Ok(Lsn::new(start)),
            };
        }
        at = aligned(at);
        let mut end = at;
        let mut before = None;
        loop {
            match self.record(at, before)? {
                Found::Record(began, next) => {
                    before = Some(began);
                    (at, end) = (next, next);
                }
                Found::Overwritten(page) if page > at => {
                    before = None;
                    at = page;
                }
                Found::Overwritten(_) | Found::End => return Ok(Lsn::new(end)),
            }
        }
    }

    fn record(&mut self, at: u64, before: Option<u64>) -> io::Result<Found> {
        let BytesRead::Whole(length, _) = self.read_bytes(at, 4)? else {
            return Ok(Found::End);
        };
        let length = usize::try_from(read_u32(&length, 0)).unwrap_or(LONGEST);
        if !(RECORD_HEADER..LONGEST).contains(&length) {
            return Ok(Found::End);
        }
        let (bytes, next) = match self.read_bytes(at, length)? {
            BytesRead::Whole(bytes, next) => (bytes, aligned(next)),
            BytesRead::Overwritten(page) => return Ok(Found::Overwritten(page)),
            BytesRead::Short => return Ok(Found::End),
        };
        let previous = u64::from(read_u32(&bytes, 8)) | u64::from(read_u32(&bytes, 12)) << 32;
        let is_next = before.map_or(previous < at, |before| before == previous);
        if !is_next || !crc_is_right(&bytes) {
            return Ok(Found::End);
        }
        let info = bytes.get(16).copied().unwrap_or(0);
        let manager = bytes.get(17).copied().unwrap_or(u8::MAX);
        let began = self.first_record_in_page(at)?.unwrap_or(at);
        if manager == XLOG && info & 0xF0 == SWITCH {
            let segment = self.size.bytes();
            return Ok(Found::Record(
                began,
                (next - 1) / segment * segment + segment,
            ));
        }
        Ok(Found::Record(began, next))
    }

    /// Returns the start of the record whose position is the first byte of a page.
    fn first_record_in_page(&mut self, at: u64) -> io::Result<Option<u64>> {
        let page = self.page(at)?;
        Ok(page
            .filter(|page| page.begins_at(at))
            .map(|page| at + page.header_bytes()))
    }

    /// Reads `length` bytes of a record from `at` on.
    fn read_bytes(&mut self, at: u64, length: usize) -> io::Result<BytesRead> {
        let Some(page) = self.page(at)? else {
            return Ok(BytesRead::Short);
        };
        let at = if page.begins_at(at) {
            if page.begins_with_continuation() {
                return Ok(BytesRead::Short);
            }
            at + page.header_bytes()
        } else {
            at
        };
        self.read_across_pages(at, length)
    }

    /// Reads the last `length` bytes of a record that an earlier page began, from the page at `page` on.
    fn read_continuation(&mut self, page: u64, length: usize) -> io::Result<BytesRead> {
        let header = self.page(page)?.map_or(0, |found| found.header_bytes());
        self.read_across_pages(page + header, length)
    }

    fn read_across_pages(&mut self, mut at: u64, length: usize) -> io::Result<BytesRead> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let Some(page) = self.page(at)? else {
                return Ok(BytesRead::Short);
            };
            if page.begins_at(at) {
                if page.has_overwritten_record() {
                    return Ok(BytesRead::Overwritten(at));
                }
                if !page.begins_with_continuation() {
                    return Ok(BytesRead::Short);
                }
                at += page.header_bytes();
            }
            let taken = page.from(at, length - bytes.len());
            at += u64::try_from(taken.len()).expect("a length fits into 64 bits");
            if taken.is_empty() {
                return Ok(BytesRead::Short);
            }
            bytes.extend_from_slice(taken);
        }
        Ok(BytesRead::Whole(bytes, at))
    }

    /// Returns the page that contains `at`, if it was written for its position.
    fn page(&mut self, at: u64) -> io::Result<Option<WalPage<'_>>> {
        let number = at / self.size.bytes();
        if self
            .segment
            .as_ref()
            .is_none_or(|(cached, _)| *cached != number)
        {
            let Some(bytes) = (self.source)(number)? else {
                return Ok(None);
            };
            self.segment = Some((number, bytes));
        }
        let Some((_, bytes)) = &self.segment else {
            return Ok(None);
        };
        Ok(WalPage::containing(bytes, number * self.size.bytes(), at))
    }
}

/// Returns the next multiple of 8, where a record can begin (`MAXALIGN`).
const fn aligned(at: u64) -> u64 {
    at.div_ceil(8) * 8
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let four = bytes
        .get(at..at + 4)
        .and_then(|slice| slice.try_into().ok());
    four.map_or(0, u32::from_le_bytes)
}

/// Returns whether the record's CRC is right: it covers the data, then the header before its own field (`xl_crc`, at
/// 20).
fn crc_is_right(record: &[u8]) -> bool {
    let Some((header, data)) = record.split_at_checked(RECORD_HEADER) else {
        return false;
    };
    let of_data = crc32c::crc32c(data);
    let before_sum = header.get(..20).expect("a record header has 24 bytes");
    crc32c::crc32c_append(of_data, before_sum) == read_u32(header, 20)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::damaged;
    use crate::data_directory::wal::page;

    /// Start of the segment.
    const START: u64 = 1 << 20;

    /// Returns pages with records of these lengths, and the end of the last one.
    fn wal(lengths: &[usize]) -> (Vec<u8>, u64) {
        let mut wal = vec![0; 4 * page::USUAL];
        for (number, page) in (0_u64..).zip(wal.chunks_mut(page::USUAL)) {
            page[..2].copy_from_slice(&0xD110_u16.to_le_bytes());
            page[8..16].copy_from_slice(&(START + number * page::USUAL_BYTES).to_le_bytes());
        }
        wal[2] = 2; // A long header.
        wal[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        let (mut at, mut previous) = (40_usize, 0);
        for length in lengths {
            at = at.next_multiple_of(8);
            if at.is_multiple_of(page::USUAL) {
                at += 24;
            }
            let record = record(*length, previous);
            previous = START + u64::try_from(at).unwrap();
            let mut rest = record.as_slice();
            while !rest.is_empty() {
                if at.is_multiple_of(page::USUAL) {
                    wal[at + 2] = 1; // It continues a record.
                    let bytes = u32::try_from(rest.len()).unwrap();
                    wal[at + 16..at + 20].copy_from_slice(&bytes.to_le_bytes());
                    at += 24;
                }
                let room = page::USUAL - at % page::USUAL;
                let (now, later) = rest.split_at(room.min(rest.len()));
                wal[at..at + now.len()].copy_from_slice(now);
                at += now.len();
                rest = later;
            }
        }
        (wal, START + u64::try_from(at.next_multiple_of(8)).unwrap())
    }

    fn record(length: usize, previous: u64) -> Vec<u8> {
        let mut record = vec![7; length];
        record[..4].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
        record[8..16].copy_from_slice(&previous.to_le_bytes());
        let (header, data) = record.split_at(RECORD_HEADER);
        let sum = crc32c::crc32c_append(crc32c::crc32c(data), &header[..20]);
        record[20..24].copy_from_slice(&sum.to_le_bytes());
        record
    }

    fn end(wal: &[u8], first: u64) -> u64 {
        let mut source = |number| Ok((number == 1).then(|| wal.to_vec()));
        let size = SegmentSize::new(START).unwrap();
        WalReader::new(size, &mut source).end(first).unwrap().get()
    }

    const LENGTHS: [usize; 4] = [100, 9000, 31, 7500];

    #[test]
    fn records_over_several_pages_then_end_of_the_last() {
        let (wal, expected) = wal(&LENGTHS);
        assert_eq!(end(&wal, 1), expected);
    }

    proptest! {
        #[test]
        fn damaged_wal_then_no_panic(wal in damaged(&wal(&LENGTHS).0)) {
            let found = end(&wal, 1);
            prop_assert!((START..=2 * START).contains(&found), "{found}");
            page::last_page(&wal, START);
        }
    }
}
