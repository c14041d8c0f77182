//! Page of a WAL segment, if it was written for its position. PostgreSQL recycles segments under new names before it
//! writes them, and their pages keep the address for which they were written.

/// `XLogPageHeaderData.xlp_info`.
const CONTINUES: u16 = 0x0001;
const LONG: u16 = 0x0002;
const OVERWRITES: u16 = 0x0008;

/// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD`.
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;

/// Page size, unless PostgreSQL was built with `--with-wal-blocksize`.
pub(super) const USUAL: usize = 8192;
pub(super) const USUAL_BYTES: u64 = 8192;

/// WAL page.
#[derive(Clone, Copy)]
pub(super) struct WalPage<'a> {
    bytes: &'a [u8],
    address: u64,
    info: u16,
}

impl<'a> WalPage<'a> {
    /// Returns the page with the byte at `at` of a segment that begins at `start`.
    pub(super) fn containing(segment: &'a [u8], start: u64, at: u64) -> Option<Self> {
        let size = page_bytes(segment);
        let address = at - at % size;
        let from = usize::try_from(address.checked_sub(start)?).ok()?;
        let until = from + usize::try_from(size).ok()?;
        let bytes = segment.get(from..until)?;
        Self::at(bytes, address)
    }

    fn at(bytes: &'a [u8], address: u64) -> Option<Self> {
        let magic = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
        let info = u16::from_le_bytes(bytes.get(2..4)?.try_into().ok()?);
        let named = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
        // Every version since 9.3 has a magic number of the form 0xD0xx or 0xD1xx.
        let is_log = magic >> 9 == 0xD0 >> 1;
        (is_log && named == address).then_some(Self {
            bytes,
            address,
            info,
        })
    }

    pub(super) const fn begins_at(&self, at: u64) -> bool {
        self.address == at
    }

    pub(super) const fn header_bytes(&self) -> u64 {
        if self.info & LONG == 0 {
            SHORT_HEADER
        } else {
            LONG_HEADER
        }
    }

    /// Returns whether the page begins with the rest of a record (`XLP_FIRST_IS_CONTRECORD`).
    pub(super) const fn begins_with_continuation(&self) -> bool {
        self.info & CONTINUES != 0
    }

    /// Returns whether recovery has discarded the record that the previous page began
    /// (`XLP_FIRST_IS_OVERWRITE_CONTRECORD`).
    pub(super) const fn has_overwritten_record(&self) -> bool {
        self.info & OVERWRITES != 0
    }

    /// Returns how much is left of the record that an earlier page began.
    pub(super) fn continuation_bytes(&self) -> u32 {
        let four = self
            .bytes
            .get(16..20)
            .and_then(|slice| slice.try_into().ok());
        four.map_or(0, u32::from_le_bytes)
    }

    /// Returns the page's bytes from `at` on, at most `length`.
    pub(super) fn from(&self, at: u64, length: usize) -> &'a [u8] {
        let Some(from) = at
            .checked_sub(self.address)
            .and_then(|offset| usize::try_from(offset).ok())
        else {
            return &[];
        };
        let until = self.bytes.len().min(from.saturating_add(length));
        // Empty where the page ends before `from`.
        self.bytes.get(from..until).unwrap_or(&[])
    }
}

/// Returns the page size of a segment, from its first page (`xlp_xlog_blcksz`).
fn page_bytes(segment: &[u8]) -> u64 {
    let info = segment.get(2..4).and_then(|slice| slice.try_into().ok());
    let four = segment.get(36..40).and_then(|slice| slice.try_into().ok());
    let said = u64::from(four.map_or(0, u32::from_le_bytes));
    let is_long = info.map_or(0, u16::from_le_bytes) & LONG != 0;
    if is_long && said.is_power_of_two() && (1024..=65536).contains(&said) {
        said
    } else {
        USUAL_BYTES
    }
}

/// Returns the position of the last page that was written for its position in this segment.
pub(super) fn last_page(segment: &[u8], start: u64) -> Option<u64> {
    let size = page_bytes(segment);
    let pages = u64::try_from(segment.len()).expect("a length fits into 64 bits") / size;
    let places = (0..pages).map(|number| start + number * size);
    places
        .rev()
        .find(|address| WalPage::containing(segment, start, *address).is_some())
}
