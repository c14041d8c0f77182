//! Scanner of WAL segments, which reads a stream and returns the beginning of each record: enough for the
//! times of transaction ends, the position of the last record, and created tablespaces.
//!
//! The format is that of `src/include/access/xlog_internal.h` and `xlogrecord.h`, the same in PostgreSQL
//! 13 to 18. The scanner verifies that each record refers to the one before it. It does not verify checksums of
//! records: the input comes from an authenticated object, and recovery verifies them.

use serde::{Deserialize, Serialize};

use super::record::{RECORD_HEADER, WalRecord};
use crate::Lsn;

/// `XLogPageHeaderData.xlp_info`.
const CONTINUES: u16 = 0x0001;
const LONG: u16 = 0x0002;

/// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`.
const SHORT_HEADER: usize = 24;
const LONG_HEADER: usize = 40;

/// Bytes kept of a record on several pages: its header, the longest path of a tablespace (`MAXPGPATH`) and the
/// data before it.
const MAX_KEPT_BYTES: usize = 1200;

/// Scanner of the WAL of one timeline, from the beginning of a segment.
///
/// Its state between two segments is small and can be stored, for a program that reads one segment at a
/// time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WalScanner {
    page_bytes: usize,
    segment_bytes: u64,
    /// Bytes of an incomplete page.
    page: Vec<u8>,
    /// Address of the next page.
    address: Option<u64>,
    state: ScanState,
    last_start: Option<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
enum ScanState {
    /// Before the next record.
    #[default]
    Between,
    /// Within a record.
    Within(PartialRecord),
    /// Within a record whose beginning is not in the stream.
    WithinUnseen,
    /// After the last record of this segment.
    SegmentEnded,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartialRecord {
    start: u64,
    length: u32,
    taken: u32,
    kept: Vec<u8>,
}

/// Header of a page.
#[derive(Clone, Copy)]
struct PageHeader {
    address: u64,
    bytes: usize,
    /// Remaining length of a record that an earlier page began; none if this page begins with a record.
    rest: Option<u32>,
}

impl WalScanner {
    /// Returns a scanner that begins with the next segment.
    pub fn new() -> Self {
        Self::default()
    }

    /// Restores a scanner from its state in JSON; returns `None` if the state is damaged.
    pub fn from_state(state: &[u8]) -> Option<Self> {
        let scanner: Self = serde_json::from_slice(state).ok()?;
        scanner.is_consistent().then_some(scanner)
    }

    /// Returns whether a scanner can come into this state.
    fn is_consistent(&self) -> bool {
        let has_sizes = is_page_size(self.page_bytes) && self.segment_bytes.is_power_of_two();
        let is_unused = self.page_bytes == 0 && self.segment_bytes == 0 && self.page.is_empty();
        let is_within_record = match &self.state {
            ScanState::Within(partial) => partial.taken < partial.length,
            ScanState::Between | ScanState::WithinUnseen | ScanState::SegmentEnded => true,
        };
        (is_unused || has_sizes && self.page.len() < self.page_bytes) && is_within_record
    }

    /// Reads the next bytes of the stream, and calls `show` with each record that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut show: impl FnMut(&WalRecord<'_>)) {
        while !bytes.is_empty() {
            if self.page.is_empty() {
                self.learn_sizes(bytes);
                // Most pages arrive whole and need not be copied.
                if let Some((page, rest)) = bytes.split_at_checked(self.page_bytes) {
                    self.take_page(page, &mut show);
                    bytes = rest;
                    continue;
                }
            }
            let missing = self.page_bytes - self.page.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.page.extend_from_slice(now);
            bytes = later;
            if self.page.len() == self.page_bytes {
                let page = std::mem::take(&mut self.page);
                self.take_page(&page, &mut show);
            }
        }
    }

    /// Returns the address of the next bytes; none before the first. A segment that begins elsewhere needs a
    /// new scanner: pages with another address are skipped.
    pub fn expects(&self) -> Option<Lsn> {
        self.address.map(Lsn::new)
    }

    /// Returns the position of the last complete record.
    pub fn last_record(&self) -> Option<Lsn> {
        self.last_start.map(Lsn::new)
    }

    /// Reads the size of pages and segments from the first page of a segment.
    fn learn_sizes(&mut self, bytes: &[u8]) {
        let u32_at = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let info = bytes.get(2..).and_then(<[u8]>::first_chunk);
        let is_long = info.map_or(0, |bytes| u16::from_le_bytes(*bytes)) & LONG != 0;
        let sizes = u32_at(36).zip(u32_at(32)).filter(|(page, segment)| {
            is_long && usize::try_from(*page).is_ok_and(is_page_size) && segment.is_power_of_two()
        });
        if let Some((page, segment)) = sizes {
            self.page_bytes = usize::try_from(page).expect("a page has at most 64 KiB");
            self.segment_bytes = u64::from(segment);
        } else if self.page_bytes == 0 {
            self.page_bytes = DEFAULT_PAGE_BYTES;
            self.segment_bytes = 16 << 20;
        }
    }

    fn take_page(&mut self, page: &[u8], show: &mut impl FnMut(&WalRecord<'_>)) {
        let expected = self.address;
        let header =
            PageHeader::read(page).filter(|header| expected.is_none_or(|at| at == header.address));
        // The end of a damaged page's address may exceed 64 bits.
        let header = header
            .and_then(|header| Some((header, header.address.checked_add(as_u64(page.len()))?)));
        let Some((header, end)) = header else {
            self.address = expected.map(|address| address.saturating_add(as_u64(page.len())));
            self.state = ScanState::SegmentEnded;
            return;
        };
        self.address = Some(end);
        if header.address.is_multiple_of(self.segment_bytes)
            && matches!(self.state, ScanState::SegmentEnded)
        {
            self.state = ScanState::Between;
        }
        let from = self.continue_record(header);
        self.take_records(page, header, from, show);
    }

    /// Compares the page header with the record in progress, and returns the offset of the page's next record.
    fn continue_record(&mut self, header: PageHeader) -> usize {
        let left = match &self.state {
            ScanState::Within(partial) => Some(partial.length - partial.taken),
            ScanState::Between | ScanState::WithinUnseen | ScanState::SegmentEnded => None,
        };
        match (header.rest, left) {
            (Some(rest), Some(left)) if rest == left => header.bytes,
            (Some(rest), _) if !matches!(self.state, ScanState::SegmentEnded) => {
                self.last_start = None;
                self.state = ScanState::WithinUnseen;
                header
                    .bytes
                    .saturating_add(usize::try_from(rest).unwrap_or(usize::MAX))
            }
            // A record that a crash interrupted is not continued: recovery continues with this page.
            (None, Some(_)) => {
                self.last_start = None;
                self.state = ScanState::Between;
                header.bytes
            }
            (None | Some(_), _) => {
                if matches!(self.state, ScanState::WithinUnseen) {
                    self.state = ScanState::Between;
                }
                header.bytes
            }
        }
    }

    fn take_records(
        &mut self,
        page: &[u8],
        header: PageHeader,
        from: usize,
        show: &mut impl FnMut(&WalRecord<'_>),
    ) {
        let mut at = from;
        if matches!(self.state, ScanState::WithinUnseen) {
            if at > page.len() {
                return;
            }
            self.state = ScanState::Between;
        }
        loop {
            let partial = match std::mem::take(&mut self.state) {
                ScanState::Within(partial) => partial,
                ScanState::Between => {
                    at = at.next_multiple_of(8);
                    if at >= page.len() {
                        return;
                    }
                    let Some(partial) = PartialRecord::read(page, header.address, at) else {
                        self.state = ScanState::SegmentEnded;
                        return;
                    };
                    partial
                }
                ended @ (ScanState::SegmentEnded | ScanState::WithinUnseen) => {
                    self.state = ended;
                    return;
                }
            };
            let (_, rest) = page.split_at(at);
            match partial.consume(rest) {
                RecordPart::Partial(partial) => {
                    self.state = ScanState::Within(partial);
                    return;
                }
                RecordPart::Complete(partial, length) => {
                    let (whole, _) = rest.split_at(length);
                    self.complete(&partial, whole, show);
                    at += length;
                }
            }
        }
    }

    fn complete(
        &mut self,
        partial: &PartialRecord,
        whole: &[u8],
        show: &mut impl FnMut(&WalRecord<'_>),
    ) {
        let bytes = if partial.kept.is_empty() {
            whole
        } else {
            &partial.kept
        };
        let record = WalRecord {
            start: Lsn::new(partial.start),
            length: partial.length,
            bytes,
        };
        let follows = |start| record.previous() == Some(start);
        if !self.last_start.is_none_or(follows) {
            self.state = ScanState::SegmentEnded;
            return;
        }
        self.last_start = Some(partial.start);
        if record.is_switch() {
            self.state = ScanState::SegmentEnded;
        }
        show(&record);
    }
}

/// Default page size of PostgreSQL (`--with-wal-blocksize`).
const DEFAULT_PAGE_BYTES: usize = 8192;

enum RecordPart {
    Partial(PartialRecord),
    Complete(PartialRecord, usize),
}

impl PartialRecord {
    fn read(page: &[u8], address: u64, at: usize) -> Option<Self> {
        let length = u32::from_le_bytes(*page.get(at..)?.first_chunk()?);
        let is_record = usize::try_from(length).is_ok_and(|bytes| bytes >= RECORD_HEADER);
        is_record.then(|| Self {
            start: address + as_u64(at),
            length,
            taken: 0,
            kept: Vec::new(),
        })
    }

    /// Reads the record's part in the rest of a page.
    fn consume(mut self, rest: &[u8]) -> RecordPart {
        let left = usize::try_from(self.length - self.taken).unwrap_or(usize::MAX);
        if self.taken == 0 && left <= rest.len() {
            return RecordPart::Complete(self, left);
        }
        let (now, _) = rest.split_at(left.min(rest.len()));
        let room = MAX_KEPT_BYTES
            .saturating_sub(self.kept.len())
            .min(now.len());
        self.kept.extend(now.iter().take(room));
        self.taken += u32::try_from(now.len()).expect("a part of a record whose length is a u32");
        if now.len() == left {
            return RecordPart::Complete(self, left);
        }
        RecordPart::Partial(self)
    }
}

impl PageHeader {
    fn read(page: &[u8]) -> Option<Self> {
        let magic = u16::from_le_bytes(*page.first_chunk()?);
        let info = u16::from_le_bytes(*page.get(2..)?.first_chunk()?);
        let address = u64::from_le_bytes(*page.get(8..)?.first_chunk()?);
        let rest = u32::from_le_bytes(*page.get(16..)?.first_chunk()?);
        // Every version since 9.3 has a magic number of the form 0xD0xx or 0xD1xx.
        (magic >> 9 == 0xD0 >> 1).then_some(Self {
            address,
            bytes: if info & LONG == 0 {
                SHORT_HEADER
            } else {
                LONG_HEADER
            },
            rest: (info & CONTINUES != 0).then_some(rest),
        })
    }
}

const fn is_page_size(bytes: usize) -> bool {
    bytes.is_power_of_two() && bytes >= 1024 && bytes <= 65_536
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize has at most 64 bits")
}
