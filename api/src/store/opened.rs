//! A connection to the primary of one generation, and how long it is used.

use std::time::Duration;

use rand::RngExt as _;

use super::connect::{Connection, Connector};
use super::failure::Failure;
use super::primary::{Known, Primary};

/// How long a connection is used. Backends that live for ever only grow.
const LIFETIME_SECS: u64 = 15 * 60;
/// How far chance moves the end of a life, so that connections do not all end together.
const LIFETIME_SPREAD_SECS: u64 = 3 * 60;

/// An open connection.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) generation: u64,
    lifetime: Duration,
}

impl Opened {
    /// Connects to the primary that is known. If it is none, `primary` hears of it.
    pub(super) async fn to(
        known: &Known,
        connector: &Connector,
        primary: &Primary,
    ) -> Result<Self, Failure> {
        let connected = connector.connect(&known.address, &known.ends).await;
        let connected = connected.map_err(Failure::Connect);
        let checked = connected.and_then(|(it, answer)| known.check(&answer).map(|()| it));
        let failure = match checked {
            Ok(connection) => {
                let spread = rand::rng().random_range(0..=2 * LIFETIME_SPREAD_SECS);
                return Ok(Self {
                    connection,
                    generation: known.generation,
                    lifetime: Duration::from_secs(LIFETIME_SECS - LIFETIME_SPREAD_SECS + spread),
                });
            }
            Err(failure) => failure,
        };
        primary.heed(known.generation, &failure);
        Err(failure)
    }

    /// Returns whether another statement may be sent on it.
    pub(super) fn is_of_use(&self) -> bool {
        !self.connection.is_closed() && self.connection.age() < self.lifetime
    }
}
