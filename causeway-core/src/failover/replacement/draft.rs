//! Replacement under construction: collects obstacles, risks and the highest numbers in use.

use std::collections::BTreeSet;

use super::{
    LeaseReplacement, NodeFacts, OperatorAssertions, ReplacementEvidence, ReplacementObstacle,
    StoreFacts,
};
use crate::lease::{LeaseRecord, LeaseState, LeaseStoreId};
use crate::{Epoch, NodeId, Timeline};

/// Gap in the epoch if not every node and store responded: each epoch is a takeover, of which there is at most
/// one per lease duration.
pub(super) const EPOCH_GAP: u64 = 1000;

/// Gap in the timeline in the same case. Each number in between costs a small history file.
pub(super) const TIMELINE_GAP: u32 = 16;

/// Replacement under construction.
pub(super) struct ReplacementDraft<'a> {
    seen: &'a ReplacementEvidence,
    asserted: &'a OperatorAssertions,
    obstacles: Vec<ReplacementObstacle>,
    risks: Vec<String>,
    retire: Vec<LeaseStoreId>,
    unretired: Option<LeaseStoreId>,
    /// Whether a record was found and none is left unretired: then it has the highest numbers.
    is_complete: bool,
    epoch: Epoch,
    sequence: u64,
    timeline: Timeline,
}

impl<'a> ReplacementDraft<'a> {
    /// Returns an empty draft.
    pub(super) fn new(seen: &'a ReplacementEvidence, asserted: &'a OperatorAssertions) -> Self {
        Self {
            seen,
            asserted,
            obstacles: Vec::new(),
            risks: Vec::new(),
            retire: Vec::new(),
            unretired: None,
            is_complete: false,
            epoch: Epoch::new(0),
            sequence: 0,
            timeline: seen.timeline,
        }
    }

    /// Adds the highest epoch in the DNS records.
    pub(super) fn add_dns_records(&mut self) {
        match &self.seen.dns {
            Ok(Some(found)) => self.epoch = self.epoch.max(*found),
            Ok(None) => {}
            Err(_) if self.asserted.highest_epoch.is_some() => {}
            Err(why) => self
                .obstacles
                .push(ReplacementObstacle::DnsSilent(why.clone())),
        }
    }

    /// Adds every store, and with them whether the highest numbers are known.
    pub(super) fn add_stores(&mut self) {
        let seen = self.seen;
        for (store, facts) in &seen.stores {
            self.add_store(store, facts);
        }
        self.is_complete &= self.unretired.is_none();
    }

    fn add_store(&mut self, store: &LeaseStoreId, facts: &StoreFacts) {
        match facts {
            StoreFacts::Unresponsive(why) if store.is_same(&self.seen.target) => {
                self.obstacles
                    .push(ReplacementObstacle::TargetSilent(why.clone()));
            }
            StoreFacts::Unresponsive(_) if self.asserted.store_lost => {
                self.risks.push(format!(
                    "the lease in {store} is not retired: a node that is started with it may accept writes as well"
                ));
                self.unretired = Some(store.clone());
            }
            StoreFacts::Unresponsive(why) => {
                let silent = ReplacementObstacle::StoreSilent(store.clone(), why.clone());
                self.obstacles.push(silent);
            }
            StoreFacts::Holds(None) => {}
            StoreFacts::Holds(Some(record)) => self.add_record(store, record),
        }
    }

    fn add_record(&mut self, store: &LeaseStoreId, record: &LeaseRecord) {
        self.is_complete = true;
        self.epoch = self.epoch.max(record.epoch);
        self.sequence = self.sequence.max(record.sequence);
        let written = record.last_position.map(|position| position.timeline);
        let highest = record
            .highest_reserved_timeline
            .max(written.unwrap_or(self.timeline));
        self.timeline = self.timeline.max(highest);
        let (there, here) = (record.system_id, self.seen.system_id);
        if there != here {
            self.risks.push(format!(
                "the lease in {store} belongs to database {there}, the new one to {here}: the WAL of the last primary \
                 cannot be compared"
            ));
        }
        if record.state != LeaseState::Retired {
            self.retire.push(store.clone());
        }
    }

    /// Adds every node. The stores come first: they decide whether a node that may write is an obstacle.
    pub(super) fn add_nodes(&mut self) {
        let seen = self.seen;
        for (node, facts) in &seen.nodes {
            self.add_node(node, facts.as_ref());
        }
    }

    fn add_node(&mut self, node: &NodeId, facts: Option<&NodeFacts>) {
        let Some(facts) = facts else {
            if self.asserted.without.contains(node) {
                self.risks.push(format!(
                    "`{node}` was not queried: the operator asserts that it is stopped"
                ));
            } else {
                self.obstacles
                    .push(ReplacementObstacle::Unresponsive(node.clone()));
            }
            return;
        };
        self.epoch = self.epoch.max(facts.highest);
        self.timeline = self.timeline.max(facts.timeline.unwrap_or(self.timeline));
        let store = facts.store.as_ref();
        if !store.is_some_and(|store| store.is_same(&self.seen.target)) {
            let other = ReplacementObstacle::OtherStore(node.clone(), facts.store.clone());
            self.obstacles.push(other);
        } else if facts.may_write && !self.is_complete {
            self.obstacles
                .push(ReplacementObstacle::MayWrite(node.clone()));
        }
    }

    /// Adds what the operator asserts.
    pub(super) fn add_assertions(&mut self) {
        let known: BTreeSet<_> = self.seen.nodes.iter().map(|(node, _)| node).collect();
        let named = &self.asserted.without;
        let strangers = named.iter().filter(|node| !known.contains(node)).cloned();
        self.obstacles
            .extend(strangers.map(ReplacementObstacle::NotAMember));
        if self.seen.holds_position {
            return;
        }
        if self.asserted.restored {
            let given_up = "WAL that the last primary recorded is missing, and is given up";
            self.risks.push(given_up.to_owned());
        } else {
            self.obstacles.push(ReplacementObstacle::WalMissing);
        }
    }

    /// Returns the replacement, or every obstacle.
    pub(super) fn finish(self) -> Result<LeaseReplacement, Vec<ReplacementObstacle>> {
        if !self.obstacles.is_empty() {
            return Err(self.obstacles);
        }
        let (named_epoch, named_timeline) = (
            self.asserted.highest_epoch,
            self.asserted.highest_reserved_timeline,
        );
        let mut epoch = self.epoch.max(named_epoch.unwrap_or(self.epoch));
        let mut timeline = self.timeline.max(named_timeline.unwrap_or(self.timeline));
        if !self.is_complete && named_epoch.is_none() {
            epoch = Epoch::new(epoch.get().saturating_add(EPOCH_GAP));
        }
        if !self.is_complete && named_timeline.is_none() {
            let jumped = timeline.get().saturating_add(TIMELINE_GAP);
            timeline = Timeline::new(jumped).expect("a number above a timeline's is not 0");
        }
        Ok(LeaseReplacement {
            // The retired record takes the number in between.
            epoch: epoch.next().next(),
            sequence: self.sequence + 2,
            highest_reserved_timeline: timeline,
            retire: self.retire,
            unretired: self.unretired,
            risks: self.risks,
        })
    }
}
