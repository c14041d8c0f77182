//! A lease in place of another: in another bucket, for another database, or for a restored one. What has to
//! be known before, and what the new record says.
//!
//! Two records of one cluster are two rights to write. So nobody may be able to go on under the old one:
//! it is retired by a conditional write where its store answers, and where it does not, every node must
//! show that it no longer uses it, or be named by the operator as stopped.

use std::collections::BTreeSet;
use std::fmt;

use crate::lease::{FORMAT, Holder, LeaseRecord, LeaseState, Nonce, StoreId, SystemId};
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
    pub store: Option<StoreId>,
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
pub struct Evidence {
    /// The store that the new record goes to.
    pub target: StoreId,
    /// Every store that a node is known to have used, the target among them.
    pub stores: Vec<(StoreId, StoreFacts)>,
    /// Every node of the settings; none for one that does not answer.
    pub nodes: Vec<(NodeId, Option<NodeFacts>)>,
    /// The highest timeline in the new holder's directory.
    pub timeline: Timeline,
    /// The epoch in the DNS records; none if there is none.
    pub dns: Option<Epoch>,
    /// Whether the holder's WAL reaches the last position that is known of this database.
    pub holds_position: bool,
}

/// What the operator asserts.
#[derive(Clone, Debug, Default)]
pub struct Asserted {
    /// Nodes that are stopped, and will not be started with the settings they have.
    pub without: BTreeSet<NodeId>,
    /// A store that does not answer may be left behind unretired.
    pub store_lost: bool,
    /// WAL that the last primary recorded may be missing.
    pub restored: bool,
    /// No epoch above this one was ever used.
    pub highest_epoch: Option<Epoch>,
    /// No timeline above this one was ever used.
    pub highest_timeline: Option<Timeline>,
}

/// Why the lease is not replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// A node does not answer.
    Silent(NodeId),
    /// A node uses another store than the one the new record goes to.
    OtherStore(NodeId, Option<StoreId>),
    /// A node may still accept writes under a lease that cannot be retired.
    MayWrite(NodeId),
    /// A store that was used does not answer.
    StoreSilent(StoreId, String),
    /// The target's own record is needed for a safe replacement, and the target does not answer.
    TargetSilent(String),
    /// WAL that the last primary recorded is missing on the new holder.
    WalMissing,
    /// A node is named as stopped that is none of the cluster's.
    NotAMember(NodeId),
}

/// How a lease is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The epoch of the new record.
    pub epoch: Epoch,
    /// Its sequence.
    pub sequence: u64,
    /// The timeline below which no number is used again.
    pub highest_timeline: Timeline,
    /// The stores whose record is retired first.
    pub retire: Vec<StoreId>,
    /// The store that is left behind unretired.
    pub unretired: Option<StoreId>,
    /// What nothing but the operator's word stands for.
    pub risks: Vec<String>,
}

/// Decides whether and how the lease is replaced.
///
/// # Errors
///
/// Every [`Obstacle`] at once.
pub fn plan(seen: &Evidence, asserted: &Asserted) -> Result<Replacement, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let mut risks = Vec::new();
    let mut retire = Vec::new();
    let mut unretired = None;
    // A record names the highest numbers of all, while nobody goes on under another.
    let mut is_complete = false;
    let mut epoch = seen.dns.unwrap_or_default();
    let mut sequence = 0;
    let mut timeline = seen.timeline;
    for (store, facts) in &seen.stores {
        match facts {
            StoreFacts::Silent(why) if store.is_same(&seen.target) => {
                obstacles.push(Obstacle::TargetSilent(why.clone()));
            }
            StoreFacts::Silent(_) if asserted.store_lost => {
                risks.push(format!(
                    "the lease in {store} is not retired: a node that is started with it may accept writes as well"
                ));
                unretired = Some(store.clone());
            }
            StoreFacts::Silent(why) => {
                obstacles.push(Obstacle::StoreSilent(store.clone(), why.clone()));
            }
            StoreFacts::Holds(None) => {}
            StoreFacts::Holds(Some(record)) => {
                epoch = epoch.max(record.epoch);
                sequence = sequence.max(record.sequence);
                timeline = timeline.max(record.highest_timeline);
                timeline = timeline.max(record.position.map_or(timeline, |it| it.timeline));
                is_complete = true;
                if record.state != LeaseState::Retired {
                    retire.push(store.clone());
                }
            }
        }
    }
    for (node, facts) in &seen.nodes {
        let Some(facts) = facts else {
            if asserted.without.contains(node) {
                risks.push(format!(
                    "`{node}` was not asked: it is stopped, by the operator's word"
                ));
            } else {
                obstacles.push(Obstacle::Silent(node.clone()));
            }
            continue;
        };
        epoch = epoch.max(facts.highest);
        timeline = timeline.max(facts.timeline.unwrap_or(timeline));
        if !facts
            .store
            .as_ref()
            .is_some_and(|it| it.is_same(&seen.target))
        {
            obstacles.push(Obstacle::OtherStore(node.clone(), facts.store.clone()));
        } else if facts.may_write && unretired.is_some() {
            obstacles.push(Obstacle::MayWrite(node.clone()));
        }
    }
    let known: BTreeSet<_> = seen.nodes.iter().map(|(node, _)| node).collect();
    let strangers = asserted.without.iter().filter(|it| !known.contains(it));
    obstacles.extend(strangers.cloned().map(Obstacle::NotAMember));
    if !seen.holds_position {
        if asserted.restored {
            risks.push("WAL that the last primary recorded is missing, and is given up".to_owned());
        } else {
            obstacles.push(Obstacle::WalMissing);
        }
    }
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    is_complete &= unretired.is_none();
    epoch = epoch.max(asserted.highest_epoch.unwrap_or_default());
    timeline = timeline.max(asserted.highest_timeline.unwrap_or(timeline));
    if !is_complete && asserted.highest_epoch.is_none() {
        epoch = Epoch::new(epoch.get().saturating_add(EPOCH_GAP));
    }
    if !is_complete && asserted.highest_timeline.is_none() {
        timeline = Timeline::new(timeline.get().saturating_add(TIMELINE_GAP)).unwrap_or(timeline);
    }
    Ok(Replacement {
        // A retired record takes the number in between.
        epoch: epoch.next().next(),
        sequence: sequence + 2,
        highest_timeline: timeline,
        retire,
        unretired,
        risks,
    })
}

impl Replacement {
    /// Returns what is stored in place of `old`, so that nobody takes it or goes on under it.
    pub fn retired(&self, old: &LeaseRecord, target: &StoreId, nonce: Nonce) -> LeaseRecord {
        LeaseRecord {
            epoch: old.epoch.next(),
            sequence: old.sequence + 1,
            nonce,
            state: LeaseState::Retired,
            successor: Some(target.clone()),
            ..old.clone()
        }
    }

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
            format: FORMAT,
            cluster: cluster.to_owned(),
            system_id,
            epoch: self.epoch,
            sequence: self.sequence,
            nonce,
            holder: Holder {
                node: holder.clone(),
                host_id: String::new(),
                boot_id: String::new(),
            },
            state: LeaseState::Released,
            position: None,
            last_primary: None,
            highest_timeline: self.highest_timeline,
            synchronous_standby: None,
            idle_millis: 0,
            members,
            successor: None,
            unretired: self.unretired.clone(),
        }
    }
}

impl fmt::Display for Obstacle {
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
    use crate::lease::{Nonces, Position};

    fn store(bucket: &str) -> StoreId {
        StoreId {
            bucket: bucket.to_owned(),
            region: "eu-north-1".to_owned(),
            endpoint: None,
        }
    }

    fn timeline(number: u32) -> Timeline {
        Timeline::new(number).unwrap()
    }

    fn record(epoch: u64) -> Box<LeaseRecord> {
        let replacement = Replacement {
            epoch: Epoch::new(epoch),
            sequence: 90,
            highest_timeline: timeline(4),
            retire: Vec::new(),
            unretired: None,
            risks: Vec::new(),
        };
        let nonce = Nonces::new(1).draw();
        let node = "a".parse().unwrap();
        let mut record = replacement.record("main", SystemId(1), &node, Vec::new(), nonce);
        record.position = Some(Position {
            timeline: timeline(5),
            flush_lsn: Lsn::new(100),
            last_commit_at_micros: 0,
            bytes_per_sec: 0,
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

    fn evidence() -> Evidence {
        Evidence {
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
            dns: Some(Epoch::new(6)),
            holds_position: true,
        }
    }

    #[test]
    fn old_store_answers_then_retired_and_nothing_reused() {
        let plan = plan(&evidence(), &Asserted::default()).unwrap();

        assert_eq!(plan.retire, [store("old")]);
        assert_eq!(plan.risks, Vec::<String>::new());
        assert!(plan.epoch > Epoch::new(8), "{plan:?}");
        assert!(plan.sequence > 91);
        assert_eq!(plan.highest_timeline, timeline(5));
        let retired = plan.retired(&record(7), &store("new"), Nonces::new(2).draw());
        assert!(retired.order() > record(7).order() && retired.epoch < plan.epoch);
        assert_eq!(retired.state, LeaseState::Retired);
    }

    #[test]
    fn old_store_silent_then_only_by_name_and_with_a_gap() {
        let mut seen = evidence();
        seen.stores[1].1 = StoreFacts::Silent("no answer".into());
        let refused = plan(&seen, &Asserted::default()).unwrap_err();
        assert!(
            matches!(refused[..], [Obstacle::StoreSilent(..)]),
            "{refused:?}"
        );

        let lost = Asserted {
            store_lost: true,
            ..Asserted::default()
        };
        let replaced = plan(&seen, &lost).unwrap();
        assert_eq!(replaced.unretired, Some(store("old")));
        assert!(replaced.epoch.get() > 8 + EPOCH_GAP, "{replaced:?}");
        assert!(replaced.highest_timeline > timeline(3 + TIMELINE_GAP - 1));
        assert_eq!(replaced.risks.len(), 1);

        // A node may write until its guard's deadline, and nothing deposes it.
        seen.nodes[0].1.as_mut().unwrap().may_write = true;
        let refused = plan(&seen, &lost).unwrap_err();
        assert_eq!(refused, [Obstacle::MayWrite("a".parse().unwrap())]);
    }

    #[test]
    fn node_on_the_old_store_or_silent_then_refused() {
        let mut seen = evidence();
        seen.nodes[0].1 = Some(facts("old", 7));
        seen.nodes[1].1 = None;
        let refused = plan(&seen, &Asserted::default()).unwrap_err();
        let (a, b): (NodeId, NodeId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let expected = [
            Obstacle::OtherStore(a.clone(), Some(store("old"))),
            Obstacle::Silent(b.clone()),
        ];
        assert_eq!(refused, expected);

        // What answers is not excused by being named.
        let named = Asserted {
            without: BTreeSet::from([a.clone(), b]),
            ..Asserted::default()
        };
        let refused = plan(&seen, &named).unwrap_err();
        assert_eq!(refused, [Obstacle::OtherStore(a, Some(store("old")))]);
    }

    #[test]
    fn recorded_wal_missing_then_only_as_restored() {
        let mut seen = evidence();
        seen.holds_position = false;
        let refused = plan(&seen, &Asserted::default()).unwrap_err();
        assert_eq!(refused, [Obstacle::WalMissing]);
        let restored = Asserted {
            restored: true,
            ..Asserted::default()
        };
        assert_eq!(plan(&seen, &restored).unwrap().risks.len(), 1);
    }

    #[test]
    fn nothing_left_then_numbers_from_the_operator_are_the_floor() {
        let seen = Evidence {
            target: store("new"),
            stores: vec![(store("new"), StoreFacts::Holds(None))],
            nodes: vec![("a".parse().unwrap(), Some(facts("new", 0)))],
            timeline: timeline(2),
            dns: None,
            holds_position: true,
        };
        let asserted = Asserted {
            highest_epoch: Some(Epoch::new(40)),
            highest_timeline: Some(timeline(9)),
            ..Asserted::default()
        };
        let replaced = plan(&seen, &asserted).unwrap();
        assert!(replaced.epoch > Epoch::new(40));
        assert_eq!(replaced.highest_timeline, timeline(9));
    }
}
