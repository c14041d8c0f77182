//! Lease records for tests.

use causeway_core::lease::{
    LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, NonceGenerator, PrimaryPosition, SystemId,
};
use causeway_core::{Epoch, Lsn, Timeline};

/// Returns the record of a lease that `holder` holds on timeline 1.
pub(crate) fn held_lease(holder: &str, epoch: Epoch) -> LeaseRecord {
    LeaseRecord {
        format: LEASE_FORMAT,
        cluster: "main".to_owned(),
        system_id: SystemId(1),
        epoch,
        sequence: 9,
        nonce: NonceGenerator::new(epoch.get().into()).generate(),
        holder: LeaseHolder {
            node: holder.parse().unwrap(),
            host_id: String::new(),
            boot_id: String::new(),
        },
        state: LeaseState::Held,
        last_position: Some(PrimaryPosition {
            timeline: Timeline::FIRST,
            flush_lsn: Lsn::new(100),
            last_commit_at_micros: 0,
            wal_bytes_per_sec: 0,
            rows_per_sec: 0,
            age_millis: 0,
        }),
        last_primary: None,
        ancestry: None,
        highest_reserved_timeline: Timeline::FIRST,
        synchronous_standby: None,
        idle_millis: 0,
        members: Vec::new(),
        successor: None,
        unretired: None,
    }
}
