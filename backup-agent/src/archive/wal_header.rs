//! Header of a WAL file, compared with its name.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use causeway_core::lsn::{ParseLsnError, SegmentName, SegmentSize, WalFileName, parse_history};
use causeway_core::{Lsn, Timeline};

/// Error for a file whose content does not match its name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalFileError {
    #[error(transparent)]
    Name(#[from] ParseLsnError),
    #[error("it does not begin with a WAL page")]
    NoHeader,
    #[error("it is {found} bytes long, and its header specifies {expected}")]
    Length { found: u64, expected: u64 },
    #[error("it was written by cluster {found}, and this is cluster {ours}")]
    OtherCluster { found: u64, ours: u64 },
    #[error("it begins at {found}, and its name means {named}")]
    OtherPlace { found: Lsn, named: Lsn },
    #[error("it was written on timeline {found}, from which timeline {named} did not branch here")]
    OtherTimeline { found: u32, named: Timeline },
    #[error("it is not a timeline history")]
    NoHistory(#[source] ParseLsnError),
    #[error("it is not text")]
    NotText,
    #[error("it is empty")]
    Empty,
}

/// Bytes that are read of a file to identify it: more than a segment's header, and all of a history
/// file.
const START_BYTES: u64 = 1 << 20;

/// Header of a segment's first page: `XLogLongPageHeaderData` (`access/xlog_internal.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    timeline: u32,
    start: Lsn,
    system_id: u64,
    pub(super) segment_bytes: u64,
}

/// `SizeOfXLogLongPHD`, rounded up.
const SEGMENT_HEADER_BYTES: u64 = 64;

/// `XLP_LONG_HEADER`: the page is the first of its segment.
const LONG_HEADER: u16 = 0x0002;

impl SegmentHeader {
    /// Reads the header, whose fields are in the byte order of the host that wrote it.
    pub(crate) fn read(content: &[u8]) -> Result<Self, WalFileError> {
        fn bytes<const N: usize>(content: &[u8], at: usize) -> Result<[u8; N], WalFileError> {
            let field = content.get(at..).and_then(<[u8]>::first_chunk);
            field.copied().ok_or(WalFileError::NoHeader)
        }
        let u32_at = |at| bytes(content, at).map(u32::from_le_bytes);
        let u64_at = |at| bytes(content, at).map(u64::from_le_bytes);
        let info = u16::from_le_bytes(bytes(content, 2)?);
        let magic = u16::from_le_bytes(bytes(content, 0)?);
        // Every version since 9.3 has a magic number of the form 0xD0xx or 0xD1xx.
        if info & LONG_HEADER == 0 || magic >> 9 != 0xD0 >> 1 {
            return Err(WalFileError::NoHeader);
        }
        Ok(Self {
            timeline: u32_at(4)?,
            start: Lsn::new(u64_at(8)?),
            system_id: u64_at(24)?,
            segment_bytes: u64::from(u32_at(32)?),
        })
    }

    /// Checks that `content`, which begins with this header, is the segment `name` of the cluster
    /// `system_id`. `ancestors` returns the history of the named timeline, if it is needed.
    fn check(
        self,
        name: SegmentName,
        found_bytes: u64,
        system_id: u64,
        history: impl FnOnce(Timeline) -> Option<String>,
    ) -> Result<SegmentSize, WalFileError> {
        let size = SegmentSize::new(self.segment_bytes).ok_or(WalFileError::NoHeader)?;
        if found_bytes != size.bytes() {
            return Err(WalFileError::Length {
                found: found_bytes,
                expected: size.bytes(),
            });
        }
        if self.system_id != system_id {
            return Err(WalFileError::OtherCluster {
                found: self.system_id,
                ours: system_id,
            });
        }
        let named = name.start(size);
        if self.start != named {
            return Err(WalFileError::OtherPlace {
                found: self.start,
                named,
            });
        }
        // A new timeline's first segment is a copy of its ancestor's up to the fork, header
        // included.
        if self.timeline != name.timeline.get()
            && !self.is_where_it_branched(name.timeline, size, history)
        {
            return Err(WalFileError::OtherTimeline {
                found: self.timeline,
                named: name.timeline,
            });
        }
        Ok(size)
    }

    fn is_where_it_branched(
        self,
        timeline: Timeline,
        size: SegmentSize,
        history: impl FnOnce(Timeline) -> Option<String>,
    ) -> bool {
        let ancestors = history(timeline).and_then(|history| parse_history(&history).ok());
        ancestors.into_iter().flatten().any(|ancestor| {
            ancestor.timeline.get() == self.timeline
                && self.start <= ancestor.left_at
                && ancestor.left_at.bytes_since(self.start) < size.bytes()
        })
    }
}

/// Reads the part of a file that [`check`] compares, and its length.
pub(crate) fn read_start(path: &Path, name: WalFileName) -> std::io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let most = match name {
        WalFileName::Segment(_) | WalFileName::Partial(_) => SEGMENT_HEADER_BYTES,
        WalFileName::History(_) | WalFileName::BackupLabel(..) => START_BYTES,
    };
    let mut start = Vec::new();
    file.take(most).read_to_end(&mut start)?;
    Ok((start, bytes))
}

/// Checks that a file that begins with `content` and has `bytes` matches `name`.
pub(crate) fn check(
    name: WalFileName,
    content: &[u8],
    bytes: u64,
    system_id: u64,
    history: impl FnOnce(Timeline) -> Option<String>,
) -> Result<(), WalFileError> {
    match name {
        WalFileName::Segment(segment) | WalFileName::Partial(segment) => {
            if bytes == 0 {
                return Err(WalFileError::Empty);
            }
            let header = SegmentHeader::read(content)?;
            header.check(segment, bytes, system_id, history)?;
        }
        WalFileName::History(_) => {
            let text = std::str::from_utf8(content).map_err(|_| WalFileError::NotText)?;
            parse_history(text).map_err(WalFileError::NoHistory)?;
        }
        WalFileName::BackupLabel(..) if content.is_empty() => return Err(WalFileError::Empty),
        WalFileName::BackupLabel(..) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::damage::{damaged, damaged_text};

    const OURS: u64 = 7_312_345_678_901_234_567;
    const NAME: &str = "00000002000000000000000A";

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Any change to a segment's header makes it mismatch its name.
        #[test]
        fn any_checked_header_field_changed_then_refused(
            at in prop_oneof![4..16_usize, 24..36_usize],
            bit in 0_u32..8,
        ) {
            let mut content = segment(2, 0xA00_0000, OURS);
            content[at] ^= 1 << bit;

            prop_assert!(checked(NAME, &content, None).is_err());
        }
    }

    proptest! {
        #[test]
        fn damaged_segment_header_then_no_panic(
            start in damaged(&segment(1, 0xA00_0000, OURS)[..64]), name in damaged_text(NAME),
            history in damaged_text("1\t0/A800000\tno reason\n"),
        ) {
            if let Ok(name) = name.parse() {
                check(name, &start, 16 << 20, OURS, |_| Some(history)).ok();
            }
        }
    }

    #[test]
    fn header_matches_name_then_accepted() {
        let content = segment(2, 0xA00_0000, OURS);

        assert!(checked(NAME, &content, None).is_ok());
        assert!(checked(&format!("{NAME}.partial"), &content, None).is_ok());
    }

    #[test]
    fn recycled_or_foreign_segment_then_refused() {
        let recycled = segment(2, 0x300_0000, OURS);
        let refused = checked(NAME, &recycled, None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it begins at 0/3000000, and its name means 0/A000000"
        );

        let foreign = segment(2, 0xA00_0000, 1);
        let refused = checked(NAME, &foreign, None).unwrap_err();
        assert!(matches!(refused, WalFileError::OtherCluster { .. }));

        let half = &segment(2, 0xA00_0000, OURS)[..8 << 20];
        let refused = checked(NAME, half, None).unwrap_err();
        assert!(matches!(refused, WalFileError::Length { .. }));
        assert!(checked(NAME, &[], None).is_err());
    }

    #[test]
    fn first_segment_begins_with_ancestor_page_then_accepted() {
        let content = segment(1, 0xA00_0000, OURS);

        assert!(checked(NAME, &content, Some("1\t0/A800000\tno reason\n")).is_ok());
        for elsewhere in [
            None,
            Some("1\t0/B000000\tno reason\n"),
            Some("3\t0/A800000\tx\n"),
        ] {
            let refused = checked(NAME, &content, elsewhere).unwrap_err();
            assert!(matches!(refused, WalFileError::OtherTimeline { .. }));
        }
    }

    fn checked(name: &str, content: &[u8], history: Option<&str>) -> Result<(), WalFileError> {
        let history = history.map(ToOwned::to_owned);
        let bytes = u64::try_from(content.len()).unwrap();
        check(name.parse().unwrap(), content, bytes, OURS, |_| history)
    }

    fn segment(timeline: u32, start: u64, system_id: u64) -> Vec<u8> {
        let mut content = vec![0; 16 << 20];
        content[0..2].copy_from_slice(&0xD110_u16.to_le_bytes());
        content[2..4].copy_from_slice(&LONG_HEADER.to_le_bytes());
        content[4..8].copy_from_slice(&timeline.to_le_bytes());
        content[8..16].copy_from_slice(&start.to_le_bytes());
        content[24..32].copy_from_slice(&system_id.to_le_bytes());
        content[32..36].copy_from_slice(&(16_u32 << 20).to_le_bytes());
        content
    }
}
