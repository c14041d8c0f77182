//! The primary cannot reach the lease, and everybody else can: it stops before another takes over.

use std::time::Duration;

use lab::fault::{Fault, On};

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn the_primary_stops_before_another_takes_over() {
    let verdict = on_a_stage(async |stage| {
        let begun = stage.begin("lease_cut").await?;
        let primary = stage.tell_primary().await?;
        let at = stage
            .break_with(&Fault::LeaseCut(On::node(&primary)))
            .await?;
        stage
            .taken_over_from(&primary, lab::scenarios::LONG)
            .await?;
        stage
            .acknowledged_since(at + Duration::from_secs(9), lab::scenarios::LONG)
            .await?;
        stage.lab.heal().await?;
        stage.everybody_follows().await?;
        stage
            .end(&begun, lab::scenarios::bounds::taken_over())
            .await
    });
    kept(&verdict.await);
}
