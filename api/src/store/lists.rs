//! Lists, read in pages: a page takes little memory and holds a connection for a short time, however long
//! the list and its rows are.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Store;
use super::queries::Query;
use super::query_error::{DatabaseError, read_all};

/// The most rows of a page: as many as a client may ask for, and one that shows whether there are more.
/// The statements end a page after 128 KiB of texts as well.
const PAGE_ROWS: i64 = 1001;

/// A row of a list, which is ordered by its keys.
pub(crate) trait Listed: Sized + Send + 'static {
    /// The key of a row.
    type Key: Serialize + DeserializeOwned + Ord + Send + Sync + 'static;
    /// A page: the rows after `$1…` and at most as many as the last parameter, with the number of
    /// rows before the texts were too long as the last column.
    const PAGE: &'static Query;
    /// The keys of the row at a distance after `$1…`, and of the next row.
    const END: &'static Query;
    /// Returns the limit of the pages that are made at once.
    fn page_limit() -> &'static Semaphore {
        &Self::PAGE.pages
    }
    fn parameters(after: Option<&Self::Key>) -> Vec<Box<dyn ToSql + Sync + Send>>;
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error>;
    fn read_key(row: &Row) -> Result<Self::Key, tokio_postgres::Error>;
    fn key(&self) -> Self::Key;
}

/// Implements [`Listed`] for rows that are ordered by their ids.
macro_rules! listed_by_id {
    ($row:ty, $page:ident, $end:ident, $read:ident) => {
        impl Listed for $row {
            type Key = i64;
            const PAGE: &'static Query = &queries::$page;
            const END: &'static Query = &queries::$end;

            fn parameters(after: Option<&i64>) -> Vec<Box<dyn ToSql + Sync + Send>> {
                // The first id is 1.
                vec![Box::new(after.copied().unwrap_or(0))]
            }

            fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
                $read(row)
            }

            fn read_key(row: &Row) -> Result<i64, tokio_postgres::Error> {
                row.try_get(0)
            }

            fn key(&self) -> i64 {
                self.id
            }
        }
    };
}
pub(super) use listed_by_id;

impl Store {
    /// Returns at most `most` rows from the first after `after`, and whether the list ends with them.
    pub(crate) async fn page<T: Listed>(
        &self,
        after: Option<&T::Key>,
        most: i64,
        deadline: Instant,
    ) -> Result<(Vec<T>, bool), DatabaseError> {
        let most = most.min(PAGE_ROWS);
        let rows = self.list::<T>(T::PAGE, after, most, deadline).await?;
        let found = read_all(&rows, |row| row.try_get::<_, i64>("found"))?;
        let found = found.first().copied().unwrap_or(0);
        let is_last = found < most && i64::try_from(rows.len()).is_ok_and(|rows| rows == found);
        Ok((read_all(&rows, T::read)?, is_last))
    }

    /// Returns the key of the row that is `size` after `after`, if there are more behind it.
    pub(crate) async fn list_end<T: Listed>(
        &self,
        after: Option<&T::Key>,
        size: i64,
        deadline: Instant,
    ) -> Result<Option<T::Key>, DatabaseError> {
        let rows = self.list::<T>(T::END, after, size, deadline).await?;
        let keys = read_all(&rows, T::read_key)?;
        let has_more = keys.len() > 1;
        Ok(keys.into_iter().next().filter(|_| has_more))
    }

    async fn list<T: Listed>(
        &self,
        query: &'static Query,
        after: Option<&T::Key>,
        count: i64,
        deadline: Instant,
    ) -> Result<Vec<Row>, DatabaseError> {
        let mut parameters = T::parameters(after);
        parameters.push(Box::new(count));
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters
            .iter()
            .map(|parameter| &**parameter as &(dyn ToSql + Sync))
            .collect();
        self.run(query, &parameters, deadline).await
    }
}
