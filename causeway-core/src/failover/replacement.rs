//! A lease in place of another: in another bucket, for another database, or for a restored one. What has to
//! be known before, and what the new record says.
//!
//! Two records of one cluster are two rights to write. So nobody may be able to go on under the old one:
//! it is retired by a conditional write where its store answers, and where it does not, every node must
//! show that it no longer uses it, or be named by the operator as stopped.

use std::collections::BTreeSet;
use std::fmt;

use crate::lease::{
    LEASE_FORMAT, LeaseHolder, LeaseRecord, LeaseState, LeaseStoreId, Nonce, SystemId,
};
use crate::{Epoch, NodeId, Timeline};

/// How far the epoch jumps when not everybody could be asked: an epoch is a takeover, of which there is at
/// most one in a lease duration.
const EPOCH_GAP: u64 = 1000;

/// How far the timeline jumps then. Each number in between costs a small history file.
const TIMELINE_GAP: u32 = 16;

/// What one node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// The lease store that its agent uses.
    pub store: Option<LeaseStoreId>,
    /// Whether it holds a lease, or its guard would still let PostgreSQL accept writes.
    pub may_write: bool,
    /// The highest epoch that it ever trusted.
    pub highest: Epoch,
    /// The highest timeline that it has seen, reserved or written.
    pub timeline: Option<Timeline>,
}

/// What was found in one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFacts {
    /// It did not answer, for this reason.
    Silent(String),
    /// It answered, with the cluster's record if there is one.
    Holds(Option<Box<LeaseRecord>>),
}

/// Everything that is known before a lease is replaced.
#[derive(Clone, Debug)]
pub struct ReplacementEvidence {
    /// The store that the new record goes to.
    pub target: LeaseStoreId,
    /// Every store that a node is known to have used, the target among them.
    pub stores: Vec<(LeaseStoreId, StoreFacts)>,
    /// Every node of the settings; none for one that does not answer.
    pub nodes: Vec<(NodeId, Option<NodeFacts>)>,
    /// The highest timeline in the new holder's directory.
    pub timeline: Timeline,
    /// The highest epoch in the DNS records, which refuse a lower one; or why they could not be read.
    pub dns: Result<Option<Epoch>, String>,
    /// The system identifier of the new holder's database.
    pub system_id: SystemId,
    /// Whether the holder's WAL reaches the last position that is known of this database.
    pub holds_position: bool,
}

/// What the operator asserts.
#[derive(Clone, Debug, Default)]
pub struct OperatorAssertions {
    /// Nodes that are stopped, and will not be started with the settings they have.
    pub without: BTreeSet<NodeId>,
    /// A store that does not answer may be left behind unretired.
    pub store_lost: bool,
    /// WAL that the last primary recorded may be missing.
    pub restored: bool,
    /// No epoch above this one was ever used.
    pub highest_epoch: Option<Epoch>,
    /// No timeline above this one was ever used.
    pub highest_reserved_timeline: Option<Timeline>,
}

/// Why the lease is not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplacementObstacle {
    /// A node does not answer.
    Silent(NodeId),
    /// A node uses another store than the one the new record goes to.
    OtherStore(NodeId, Option<LeaseStoreId>),
    /// A node may still accept writes under a lease that is not there to be retired.
    MayWrite(NodeId),
    /// A store that was used does not answer.
    StoreSilent(LeaseStoreId, String),
    /// The target's own record is needed for a safe replacement, and the target does not answer.
    TargetSilent(String),
    /// The DNS records, which refuse an epoch below their own, cannot be read.
    DnsSilent(String),
    /// WAL that the last primary recorded is missing on the new holder.
    WalMissing,
    /// A node is named as stopped that is none of the cluster's.
    NotAMember(NodeId),
}

/// How a lease is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseReplacement {
    /// The epoch of the new record.
    pub epoch: Epoch,
    /// Its sequence.
    pub sequence: u64,
    /// The timeline below which no number is used again.
    pub highest_reserved_timeline: Timeline,
    /// The stores whose record is retired first.
    pub retire: Vec<LeaseStoreId>,
    /// The store that is left behind unretired.
    pub unretired: Option<LeaseStoreId>,
    /// What nothing but the operator's word stands for.
    pub risks: Vec<String>,
}

/// Decides whether and how the lease is replaced.
///
/// # Errors
///
/// Every [`ReplacementObstacle`] at once.
pub fn plan(
    seen: &ReplacementEvidence,
    asserted: &OperatorAssertions,
) -> Result<LeaseReplacement, Vec<ReplacementObstacle>> {
    let mut draft = Draft {
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
    };
    draft.add_records();
    for (store, facts) in &seen.stores {
        draft.add_store(store, facts);
    }
    draft.is_complete &= draft.unretired.is_none();
    for (node, facts) in &seen.nodes {
        draft.add_node(node, facts.as_ref());
    }
    draft.add_assertions();
    draft.finish()
}

/// A replacement that is being thought through.
struct Draft<'a> {
    seen: &'a ReplacementEvidence,
    asserted: &'a OperatorAssertions,
    obstacles: Vec<ReplacementObstacle>,
    risks: Vec<String>,
    retire: Vec<LeaseStoreId>,
    unretired: Option<LeaseStoreId>,
    /// A record was found, and none is left behind: it names the highest numbers of all.
    is_complete: bool,
    epoch: Epoch,
    sequence: u64,
    timeline: Timeline,
}

impl Draft<'_> {
    fn add_records(&mut self) {
        match &self.seen.dns {
            Ok(Some(found)) => self.epoch = self.epoch.max(*found),
            Ok(None) => {}
            Err(_) if self.asserted.highest_epoch.is_some() => {}
            Err(why) => self
                .obstacles
                .push(ReplacementObstacle::DnsSilent(why.clone())),
        }
    }

    fn add_store(&mut self, store: &LeaseStoreId, facts: &StoreFacts) {
        match facts {
            StoreFacts::Silent(why) if store.is_same(&self.seen.target) => {
                self.obstacles
                    .push(ReplacementObstacle::TargetSilent(why.clone()));
            }
            StoreFacts::Silent(_) if self.asserted.store_lost => {
                self.risks.push(format!(
                    "the lease in {store} is not retired: a node that is started with it may accept writes as well"
                ));
                self.unretired = Some(store.clone());
            }
            StoreFacts::Silent(why) => {
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
                "the lease in {store} is of the database {there}, and the new one of {here}: what the last primary \
                 wrote cannot be compared"
            ));
        }
        if record.state != LeaseState::Retired {
            self.retire.push(store.clone());
        }
    }

    fn add_node(&mut self, node: &NodeId, facts: Option<&NodeFacts>) {
        let Some(facts) = facts else {
            if self.asserted.without.contains(node) {
                self.risks.push(format!(
                    "`{node}` was not asked: it is stopped, by the operator's word"
                ));
            } else {
                self.obstacles
                    .push(ReplacementObstacle::Silent(node.clone()));
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

    fn add_assertions(&mut self) {
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

    fn finish(self) -> Result<LeaseReplacement, Vec<ReplacementObstacle>> {
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
            // A retired record takes the number in between.
            epoch: epoch.next().next(),
            sequence: self.sequence + 2,
            highest_reserved_timeline: timeline,
            retire: self.retire,
            unretired: self.unretired,
            risks: self.risks,
        })
    }
}

impl LeaseReplacement {
    /// Returns the new record: released, with `holder` to take it first, like the one of `init`.
    pub fn record(
        &self,
        cluster: &str,
        system_id: SystemId,
        holder: &NodeId,
        members: Vec<NodeId>,
        nonce: Nonce,
    ) -> LeaseRecord {
        LeaseRecord {
            format: LEASE_FORMAT,
            cluster: cluster.to_owned(),
            system_id,
            epoch: self.epoch,
            sequence: self.sequence,
            nonce,
            holder: LeaseHolder {
                node: holder.clone(),
                host_id: String::new(),
                boot_id: String::new(),
            },
            state: LeaseState::Released,
            last_position: None,
            last_primary: None,
            ancestry: None,
            highest_reserved_timeline: self.highest_reserved_timeline,
            synchronous_standby: None,
            idle_millis: 0,
            members,
            successor: None,
            unretired: self.unretired.clone(),
        }
    }
}

impl fmt::Display for ReplacementObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(node) => write!(
                f,
                "`{node}` does not answer: start its agent, or stop its host and name it with `--without {node}`"
            ),
            Self::OtherStore(node, Some(store)) => write!(
                f,
                "`{node}` uses {store}: set `[lease]` there as here, and restart its agent"
            ),
            Self::OtherStore(node, None) => {
                write!(f, "`{node}` does not say which lease store it uses: upgrade it")
            }
            Self::MayWrite(node) => {
                write!(f, "`{node}` may still accept writes: wait until its deadline is over")
            }
            Self::StoreSilent(store, why) => write!(
                f,
                "{store}, which was used before, does not answer ({why}), so its lease cannot be retired: wait, or \
                 give it up with `--old-store-lost`"
            ),
            Self::TargetSilent(why) => {
                write!(f, "the `[lease]` bucket does not answer ({why}): nothing can be written there")
            }
            Self::DnsSilent(why) => write!(
                f,
                "the DNS records do not say under which epoch they were moved ({why}): wait, or name the highest epoch \
                 ever used with `--highest-epoch`"
            ),
            Self::WalMissing => f.write_str(
                "the WAL in the data directory does not reach the position that the last primary recorded: choose the \
                 node that has it, or give it up with `--restored`",
            ),
            Self::NotAMember(node) => write!(f, "`--without {node}`: no such node in `[[nodes]]`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lsn;
    use crate::lease::{NonceGenerator, PrimaryPosition};

    fn store(bucket: &str) -> LeaseStoreId {
        LeaseStoreId {
            bucket: bucket.to_owned(),
            region: "eu-north-1".to_owned(),
            endpoint: None,
        }
    }

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }

    fn record(epoch: u64) -> Box<LeaseRecord> {
        let replacement = LeaseReplacement {
            epoch: Epoch::new(epoch),
            sequence: 90,
            highest_reserved_timeline: timeline(4),
            retire: Vec::new(),
            unretired: None,
            risks: Vec::new(),
        };
        let nonce = NonceGenerator::new(1).generate();
        let node = "a".parse().unwrap();
        let mut record = replacement.record("main", SystemId(1), &node, Vec::new(), nonce);
        record.last_position = Some(PrimaryPosition {
            timeline: timeline(5),
            flush_lsn: Lsn::new(100),
            last_commit_at_micros: 0,
            wal_bytes_per_sec: 0,
            rows_per_sec: 0,
            age_millis: 0,
        });
        Box::new(record)
    }

    fn facts(bucket: &str, highest: u64) -> NodeFacts {
        NodeFacts {
            store: Some(store(bucket)),
            may_write: false,
            highest: Epoch::new(highest),
            timeline: Some(timeline(3)),
        }
    }

    fn evidence() -> ReplacementEvidence {
        ReplacementEvidence {
            target: store("new"),
            stores: vec![
                (store("new"), StoreFacts::Holds(None)),
                (store("old"), StoreFacts::Holds(Some(record(7)))),
            ],
            nodes: vec![
                ("a".parse().unwrap(), Some(facts("new", 7))),
                ("b".parse().unwrap(), Some(facts("new", 8))),
            ],
            timeline: timeline(2),
            dns: Ok(Some(Epoch::new(6))),
            system_id: SystemId(1),
            holds_position: true,
        }
    }

    #[test]
    fn old_store_answers_then_retired_and_nothing_reused() {
        let plan = plan(&evidence(), &OperatorAssertions::default()).unwrap();

        assert_eq!(plan.retire, [store("old")]);
        assert_eq!(plan.risks, Vec::<String>::new());
        assert!(plan.epoch > Epoch::new(8), "{plan:?}");
        assert!(plan.sequence > 91);
        assert_eq!(plan.highest_reserved_timeline, timeline(5));
        let retired = record(7).retired(&store("new"), NonceGenerator::new(2).generate());
        assert!(retired.order() > record(7).order() && retired.epoch < plan.epoch);
        assert_eq!(retired.state, LeaseState::Retired);
    }

    #[test]
    fn old_store_silent_then_only_by_name_and_with_a_gap() {
        let mut seen = evidence();
        seen.stores[1].1 = StoreFacts::Silent("no answer".into());
        let refused = plan(&seen, &OperatorAssertions::default()).unwrap_err();
        assert!(
            matches!(refused[..], [ReplacementObstacle::StoreSilent(..)]),
            "{refused:?}"
        );

        let lost = OperatorAssertions {
            store_lost: true,
            ..OperatorAssertions::default()
        };
        let replaced = plan(&seen, &lost).unwrap();
        assert_eq!(replaced.unretired, Some(store("old")));
        assert!(replaced.epoch.get() > 8 + EPOCH_GAP, "{replaced:?}");
        assert!(replaced.highest_reserved_timeline > timeline(3 + TIMELINE_GAP - 1));
        assert_eq!(replaced.risks.len(), 1);

        // A node may write until its guard's deadline, and nothing deposes it.
        seen.nodes[0].1.as_mut().unwrap().may_write = true;
        let refused = plan(&seen, &lost).unwrap_err();
        assert_eq!(
            refused,
            [ReplacementObstacle::MayWrite("a".parse().unwrap())]
        );
    }

    #[test]
    fn node_on_the_old_store_or_silent_then_refused() {
        let mut seen = evidence();
        seen.nodes[0].1 = Some(facts("old", 7));
        seen.nodes[1].1 = None;
        let refused = plan(&seen, &OperatorAssertions::default()).unwrap_err();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let expected = [
            ReplacementObstacle::OtherStore(a.clone(), Some(store("old"))),
            ReplacementObstacle::Silent(b.clone()),
        ];
        assert_eq!(refused, expected);

        // What answers is not excused by being named.
        let named = OperatorAssertions {
            without: BTreeSet::from([a.clone(), b]),
            ..OperatorAssertions::default()
        };
        let refused = plan(&seen, &named).unwrap_err();
        assert_eq!(
            refused,
            [ReplacementObstacle::OtherStore(a, Some(store("old")))]
        );
    }

    #[test]
    fn recorded_wal_missing_then_only_as_restored() {
        let mut seen = evidence();
        seen.holds_position = false;
        let refused = plan(&seen, &OperatorAssertions::default()).unwrap_err();
        assert_eq!(refused, [ReplacementObstacle::WalMissing]);
        let restored = OperatorAssertions {
            restored: true,
            ..OperatorAssertions::default()
        };
        assert_eq!(plan(&seen, &restored).unwrap().risks.len(), 1);
    }

    #[test]
    fn nothing_left_then_numbers_from_the_operator_are_the_floor() {
        let seen = ReplacementEvidence {
            target: store("new"),
            stores: vec![(store("new"), StoreFacts::Holds(None))],
            nodes: vec![("a".parse().unwrap(), Some(facts("new", 0)))],
            timeline: timeline(2),
            dns: Err("no answer".into()),
            system_id: SystemId(1),
            holds_position: true,
        };
        let asserted = OperatorAssertions {
            highest_epoch: Some(Epoch::new(40)),
            highest_reserved_timeline: Some(timeline(9)),
            ..OperatorAssertions::default()
        };
        let refused = plan(&seen, &OperatorAssertions::default()).unwrap_err();
        assert!(
            matches!(refused[..], [ReplacementObstacle::DnsSilent(_)]),
            "{refused:?}"
        );
        let replaced = plan(&seen, &asserted).unwrap();
        assert!(replaced.epoch > Epoch::new(40));
        assert_eq!(replaced.highest_reserved_timeline, timeline(9));
    }
}
