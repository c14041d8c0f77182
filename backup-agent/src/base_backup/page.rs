//! Pages and their checksums, as PostgreSQL computes them (`src/include/storage/checksum_impl.h`).

use causeway_core::Lsn;

/// Length of a page (`BLCKSZ`).
pub(crate) const PAGE_BYTES: usize = 8192;

/// Pages in a file of a relation (`RELSEG_SIZE`); further ones are in the next file.
pub(crate) const PAGES_PER_FILE: u32 = 131_072;

const LANES: usize = 32;
const PRIME: u32 = 16_777_619;

/// Initial value of each of the checksum's lanes (`checksumBaseOffsets`).
const BASE_OFFSETS: [u32; LANES] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];

/// Result of checking a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageState {
    /// The checksum matches, or the page has never been written.
    Sound,
    /// The checksum does not match: the page is damaged, or was being written while it was read.
    /// `lsn` is the LSN in its header.
    Mismatch { lsn: Lsn },
}

/// Checks one page, the `block`th of its relation.
pub(crate) fn inspect(page: &[u8; PAGE_BYTES], block: u32) -> PageState {
    let u16_at = |at: usize| field(page, at).map_or(0, u16::from_le_bytes);
    let u32_at = |at: usize| field(page, at).map_or(0, u32::from_le_bytes);
    // A page whose upper bound of free space is 0 is new (`PageIsNew`), and must then be all zero.
    if u16_at(14) == 0 && page.iter().all(|byte| *byte == 0) {
        return PageState::Sound;
    }
    if u16_at(8) == checksum(page, block) {
        return PageState::Sound;
    }
    let lsn = u64::from(u32_at(0)) << 32 | u64::from(u32_at(4));
    PageState::Mismatch { lsn: Lsn::new(lsn) }
}

fn field<const N: usize>(page: &[u8], at: usize) -> Option<[u8; N]> {
    page.get(at..)?.first_chunk().copied()
}

/// Returns the checksum of a page with its own checksum taken as 0.
fn checksum(page: &[u8; PAGE_BYTES], block: u32) -> u16 {
    let mut sums = BASE_OFFSETS;
    let (rows, _) = page.as_chunks::<{ LANES * 4 }>();
    for (number, row) in rows.iter().enumerate() {
        let (words, _) = row.as_chunks::<4>();
        for (place, (sum, word)) in sums.iter_mut().zip(words).enumerate() {
            let mut value = u32::from_le_bytes(*word);
            // The page's own checksum is the lower half of its third word.
            if number == 0 && place == 2 {
                value &= 0xFFFF_0000;
            }
            mix(sum, value);
        }
    }
    for sum in &mut sums {
        mix(sum, 0);
        mix(sum, 0);
    }
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    u16::try_from(folded % 65_535 + 1).unwrap_or(u16::MAX)
}

fn mix(sum: &mut u32, value: u32) {
    let mixed = *sum ^ value;
    *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bit_of_a_page_changed_then_checksum_differs(byte in 0..PAGE_BYTES, bit in 0_u32..8, block: u32) {
            let mut page = page(block);
            prop_assert_eq!(inspect(&page, block), PageState::Sound);

            page[byte] ^= 1 << bit;

            let mismatch = matches!(inspect(&page, block), PageState::Mismatch { .. });
            prop_assert!(mismatch);
        }
    }

    #[test]
    fn page_misplaced_or_header_zeroed_then_checksum_differs() {
        let mut page = page(7);
        assert_ne!(inspect(&page, 8), PageState::Sound);

        page[14..16].fill(0);
        assert_ne!(inspect(&page, 7), PageState::Sound);
        assert_eq!(inspect(&[0; PAGE_BYTES], 7), PageState::Sound);
    }

    fn page(block: u32) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        for (place, byte) in page.iter_mut().enumerate() {
            *byte = place.to_le_bytes()[0].wrapping_mul(31);
        }
        let sum = checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }
}
