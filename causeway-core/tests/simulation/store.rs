//! The lease store: one object, strongly consistent, written only with a precondition.

use causeway_core::agent::LeaseReadResult;
use causeway_core::lease::{
    ETag, LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, NonceGenerator, WritePrecondition,
};
use causeway_core::{Epoch, NodeId, Timeline};

use crate::server::SYSTEM;

#[derive(Clone, Debug)]
pub(crate) struct Store {
    current: Option<(ETag, LeaseRecord)>,
    /// Version under the delete marker, because the bucket keeps versions.
    deleted: Option<(ETag, LeaseRecord)>,
    versions: u64,
}

impl Store {
    pub(crate) fn holding(record: LeaseRecord) -> Self {
        Self {
            current: Some((ETag("\"0\"".into()), record)),
            deleted: None,
            versions: 0,
        }
    }

    pub(crate) fn get(&self) -> LeaseReadResult {
        self.current
            .as_ref()
            .map_or(LeaseReadResult::Missing, |(etag, record)| {
                LeaseReadResult::Found(etag.clone(), Box::new(record.clone()))
            })
    }

    pub(crate) fn record(&self) -> Option<&LeaseRecord> {
        self.current.as_ref().map(|(_, record)| record)
    }

    /// Returns the current record, or the one under the delete marker.
    pub(crate) fn last_record(&self) -> Option<&LeaseRecord> {
        let last = self.current.as_ref().or(self.deleted.as_ref());
        last.map(|(_, record)| record)
    }

    pub(crate) fn put(
        &mut self,
        record: &LeaseRecord,
        condition: &WritePrecondition,
    ) -> Option<ETag> {
        let holds = match (condition, &self.current) {
            (WritePrecondition::Match(wanted), Some((etag, _))) => wanted == etag,
            (WritePrecondition::Missing, None) => true,
            (WritePrecondition::Match(_), None) | (WritePrecondition::Missing, Some(_)) => false,
        };
        holds.then(|| self.put_whatever_is_there(record.clone()))
    }

    pub(crate) fn put_whatever_is_there(&mut self, record: LeaseRecord) -> ETag {
        self.versions += 1;
        let etag = ETag(format!("\"{}\"", self.versions));
        self.current = Some((etag.clone(), record));
        self.deleted = None;
        etag
    }

    /// Deletes the object, which only adds a delete marker.
    pub(crate) fn delete(&mut self) {
        if let Some(version) = self.current.take() {
            self.deleted = Some(version);
        }
    }

    /// Removes the delete marker, as an operator does.
    pub(crate) fn undelete(&mut self) {
        if self.current.is_none() {
            self.current = self.deleted.take();
        }
    }
}

/// The record that `init` writes: node a is to be the primary.
pub(crate) fn first_record(members: Vec<NodeId>) -> LeaseRecord {
    LeaseRecord {
        format: LEASE_FORMAT,
        cluster: "causeway".into(),
        system_id: SYSTEM,
        epoch: Epoch::new(1),
        sequence: 1,
        nonce: NonceGenerator::new(0).generate(),
        holder: LeaseHolder {
            node: members[0].clone(),
            host_id: String::new(),
            boot_id: "init".into(),
        },
        state: LeaseState::Released,
        last_position: None,
        last_primary: None,
        ancestry: None,
        highest_reserved_timeline: Timeline::FIRST,
        synchronous_standby: None,
        idle_millis: 0,
        members,
        successor: None,
        unretired: None,
    }
}
