//! Beers in the database.

use tokio::time::Instant;
use tokio_postgres::Row;
use uuid::Uuid;

use super::requests::NotStored;
use super::{Store, Unavailable, queries, read_all};
use crate::domain::{Beer, NewBeer, SEED};

impl Store {
    /// Stores a beer once for `key`.
    ///
    /// # Errors
    ///
    /// [`NotStored`]; it may be stored all the same when the database was unavailable.
    pub async fn create_beer(
        &self,
        key: Uuid,
        beer: &NewBeer,
        deadline: Instant,
    ) -> Result<Beer, NotStored> {
        let NewBeer { name, style, abv } = beer;
        self.once(&queries::BEER_CREATE, &[&key, name, style, abv], deadline)
            .await
    }

    /// Stores those of the beers to begin with of whose name there is none, and returns them.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`; they may be stored all the same.
    pub async fn seed_beers(&self, deadline: Instant) -> Result<Vec<Beer>, Unavailable> {
        let names = SEED.map(|(name, _style, _abv)| name);
        let styles = SEED.map(|(_name, style, _abv)| style);
        let strengths = SEED.map(|(_name, _style, abv)| abv);
        let rows = self
            .run(
                &queries::BEERS_SEED,
                &[&names.as_slice(), &styles.as_slice(), &strengths.as_slice()],
                deadline,
            )
            .await?;
        read_all(&rows, beer)
    }

    /// Returns at most `most` beers, from the first after the id `after`.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] when there was no answer before `deadline`.
    pub async fn beers(
        &self,
        after: i64,
        most: i64,
        deadline: Instant,
    ) -> Result<Vec<Beer>, Unavailable> {
        let rows = self
            .run(&queries::BEERS_LIST, &[&after, &most], deadline)
            .await?;
        read_all(&rows, beer)
    }
}

fn beer(row: &Row) -> Result<Beer, tokio_postgres::Error> {
    Ok(Beer {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        style: row.try_get(2)?,
        abv: row.try_get(3)?,
    })
}
