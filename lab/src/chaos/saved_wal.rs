//! Search for lost rows in the saved WAL of diverged nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::workload::history::WritePath;
use crate::workload::rows::username;

/// Sizes in PostgreSQL's WAL format: page, page header, and header of a segment's first page.
const PAGE_BYTES: usize = 8192;
const PAGE_HEADER_BYTES: usize = 24;
const FIRST_PAGE_HEADER_BYTES: usize = 40;

/// Acknowledged rows that the primary lacks, by write path.
pub(super) type LostRows = BTreeMap<WritePath, BTreeSet<u64>>;

/// Returns the lost rows that no file below these directories contains.
pub(super) fn unsaved_rows(directories: &[impl AsRef<Path>], lost: &LostRows) -> LostRows {
    let mut left = lost.clone();
    for directory in directories {
        search_directory(directory.as_ref(), &mut left);
    }
    left
}

/// Returns the number of rows.
pub(super) fn count_rows(lost: &LostRows) -> usize {
    lost.values().map(BTreeSet::len).sum()
}

fn search_directory(directory: &Path, left: &mut LostRows) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if count_rows(left) == 0 {
            return;
        }
        let path = entry.path();
        if path.is_dir() {
            search_directory(&path, left);
        } else if let Ok(file) = std::fs::read(&path) {
            let records = without_headers(&file);
            if let Some(rows) = left.get_mut(&WritePath::Sql) {
                remove_by_number(&records, rows);
            }
            if let Some(rows) = left.get_mut(&WritePath::Api) {
                remove_by_name(&records, rows);
            }
        }
    }
}

/// Returns the records of a WAL file, without the page headers that they span.
fn without_headers(file: &[u8]) -> Vec<u8> {
    let pages = file.chunks(PAGE_BYTES).enumerate();
    let bodies = pages.filter_map(|(number, page)| {
        page.get(
            if number == 0 {
                FIRST_PAGE_HEADER_BYTES
            } else {
                PAGE_HEADER_BYTES
            }..,
        )
    });
    bodies.flatten().copied().collect()
}

/// A ledger row starts with its number, in native byte order.
fn remove_by_number(records: &[u8], rows: &mut BTreeSet<u64>) {
    let Some(first) = rows.first().copied() else {
        return;
    };
    let Some(last) = rows.last().copied() else {
        return;
    };
    for bytes in records.windows(8) {
        let Ok(bytes) = <[u8; 8]>::try_from(bytes) else {
            continue;
        };
        let number = u64::from_ne_bytes(bytes);
        if (first..=last).contains(&number) {
            rows.remove(&number);
        }
    }
}

/// A row of the API has a name of letters.
fn remove_by_name(records: &[u8], rows: &mut BTreeSet<u64>) {
    let names: BTreeMap<String, u64> = rows.iter().map(|row| (username(*row), *row)).collect();
    for (at, bytes) in records.windows(3).enumerate() {
        if bytes != b"Row" {
            continue;
        }
        let name: Vec<u8> = records
            .iter()
            .skip(at)
            .copied()
            .take_while(u8::is_ascii_alphabetic)
            .take(64)
            .collect();
        let row = names.get(String::from_utf8_lossy(&name).as_ref());
        if let Some(row) = row {
            rows.remove(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = 1_795_940_406_707;

    #[test]
    fn rows_saved_then_found_also_across_pages() {
        let directory = tempfile::tempdir().unwrap();
        let save = directory.path().join("save");
        std::fs::create_dir(&save).unwrap();
        let (whole, split, absent) = (FIRST, FIRST + 1, FIRST + 2);
        let mut file = vec![0; 3 * PAGE_BYTES];
        file[5_000..5_008].copy_from_slice(&whole.to_ne_bytes());
        let bytes = split.to_ne_bytes();
        file[PAGE_BYTES - 3..PAGE_BYTES].copy_from_slice(&bytes[..3]);
        file[PAGE_BYTES + PAGE_HEADER_BYTES..PAGE_BYTES + PAGE_HEADER_BYTES + 5]
            .copy_from_slice(&bytes[3..]);
        let name = username(77);
        file[9_000..9_000 + name.len()].copy_from_slice(name.as_bytes());
        std::fs::write(save.join("000000010000000000000001"), file).unwrap();

        let lost = LostRows::from([
            (WritePath::Sql, BTreeSet::from([whole, split, absent])),
            (WritePath::Api, BTreeSet::from([77, 78])),
        ]);
        let left = unsaved_rows(&[directory.path()], &lost);
        assert_eq!(left[&WritePath::Sql], BTreeSet::from([absent]));
        assert_eq!(left[&WritePath::Api], BTreeSet::from([78]));
        assert_eq!(count_rows(&left), 2);
    }
}
