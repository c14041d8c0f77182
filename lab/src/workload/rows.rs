//! Rows of the clients, and those that the primary lacks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use tokio_postgres::Client;

use crate::workload::checker;
use crate::workload::history::{History, WritePath};

/// First date of birth. All dates from it to yesterday are valid, some 740,000.
const FIRST_DAY: Date = date(1, 1, 2);

/// Number of different dates before they repeat.
const DAYS: u64 = 700_000;

/// Returns the acknowledged rows that the primary lacks, by write path.
///
/// # Errors
///
/// When the primary cannot be read.
pub async fn missing_rows(
    primary: &Client,
    history: &History,
) -> anyhow::Result<BTreeMap<WritePath, BTreeSet<u64>>> {
    let snapshot = history.snapshot();
    let acknowledged = |path| {
        let rows = snapshot.acknowledged.iter().filter(|row| row.path == path);
        rows.map(|row| row.row).collect::<BTreeSet<_>>()
    };
    let by_sql = primary.query("select n from ledger", &[]).await?;
    let by_sql = by_sql
        .iter()
        .map(|row| row.get::<_, i64>(0).cast_unsigned());
    let by_sql = checker::lost(&acknowledged(WritePath::Sql), &by_sql.collect());

    let by_api = acknowledged(WritePath::Api);
    if by_api.is_empty() {
        return Ok(BTreeMap::from([(WritePath::Sql, by_sql)]));
    }
    let people = "select username, date_of_birth::text from hello_users";
    let people = primary.query(people, &[]).await?;
    let people: BTreeMap<String, String> = people
        .iter()
        .map(|person| (person.get(0), person.get(1)))
        .collect();
    let is_there = |row: &u64| {
        let born = people.get(&username(*row));
        born.is_some_and(|born| *born == date_of_birth(*row).to_string())
    };
    let present = by_api.iter().copied().filter(is_there).collect();
    let by_api = checker::lost(&by_api, &present);
    Ok(BTreeMap::from([
        (WritePath::Sql, by_sql),
        (WritePath::Api, by_api),
    ]))
}

/// Returns the username of a row: letters only, as the API requires.
pub(crate) fn username(row: u64) -> String {
    let mut rest = row;
    let mut letters = Vec::new();
    while rest > 0 {
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or(0)));
        rest /= 26;
    }
    format!("Row{}", letters.iter().rev().collect::<String>())
}

/// Returns the date of birth of a row, which reveals a row with another row's value.
pub(crate) fn date_of_birth(row: u64) -> Date {
    let days = i64::try_from(row % DAYS).unwrap_or(0);
    FIRST_DAY.saturating_add(days.days())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_then_name_and_birthday_valid() {
        let names: BTreeSet<_> = (1..20_000).map(username).collect();
        assert_eq!(names.len(), 19_999);
        let letters = |text: &String| text.bytes().all(|text| text.is_ascii_alphabetic());
        assert!(names.iter().all(letters));

        assert_eq!(date_of_birth(0).to_string(), "0001-01-02");
        assert_eq!(date_of_birth(DAYS - 1).to_string(), "1917-07-16");
    }
}
