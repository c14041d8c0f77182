//! Agents in one situation at a time; `tests/simulation` runs several together.

mod candidate;
mod collation;
mod command;
mod coverage;
mod holder;

use super::*;
use crate::failover::observation::{DataDirectoryState, ReplayProgress, ServerView};
use crate::lease::{ETag, LEASE_FORMAT, LeaseHolder, PrimaryPosition, SystemId};
use crate::lsn::TimelineHistory;
use crate::{Lsn, Timeline};

/// Returns an agent of node `a` that took the lease in epoch 2, with a request sent at 0.
fn holder() -> Agent {
    let mut agent = agent("a");
    let ended = observed(ServerView::Stopped(DataDirectoryState::Primary));
    agent.handle(at(0), AgentEvent::LocalObserved(Box::new(ended)));
    let actions = agent.handle(at(0), found(0, 1, "a", LeaseState::Held));
    let takeover = only(written(actions));
    agent.handle(at(50), stored(&takeover, 1));
    assert!(agent.holds());
    agent
}

/// Returns an agent of node `a` that was restarted while its guard continues in epoch 1.
fn adopter(server: &LocalObservation) -> Agent {
    let mut agent = agent("a");
    agent.handle(
        at(2_500),
        AgentEvent::LocalObserved(Box::new(armed(server))),
    );
    let actions = agent.handle(at(2_500), found(2_400, 1, "a", LeaseState::Acquiring));
    assert_eq!(written(actions), []);
    agent
}

fn agent(node: &str) -> Agent {
    let identity = AgentIdentity {
        cluster: "causeway".into(),
        node: node.parse().unwrap(),
        host_id: format!("host-{node}"),
        boot_id: format!("{node}-1"),
        members: Vec::new(),
    };
    Agent::new(identity, settings(), (Epoch::new(0), 0), 1)
}

pub(super) fn settings() -> AgentConfig {
    AgentConfig {
        timing: LeaseTiming::default(),
        policy: FailoverPolicy {
            lease_duration: LeaseTiming::default().lease_duration,
            automatic: true,
            region_nodes: ["a", "b"].map(|name| name.parse().unwrap()).into(),
            max_loss_bytes: 0,
            peer_preference_timeout: Duration::from_secs(2),
        },
        write_probe_timeout: Duration::from_secs(5),
        write_stall_timeout: Duration::from_secs(20),
        start_timeout: Duration::from_mins(1),
        max_restarts_per_minute: 3,
    }
}

pub(super) fn at(millis: u64) -> HostInstant {
    HostInstant::at(Duration::from_millis(100_000 + millis))
}

fn found(requested_at: u64, sequence: u64, holder: &str, state: LeaseState) -> AgentEvent {
    let record = LeaseRecord {
        format: LEASE_FORMAT,
        cluster: "causeway".into(),
        system_id: SystemId(1),
        epoch: Epoch::new(1),
        sequence,
        nonce: NonceGenerator::new(u128::from(sequence) + 100).generate(),
        holder: LeaseHolder {
            node: holder.parse().unwrap(),
            host_id: format!("host-{holder}"),
            boot_id: format!("{holder}-1"),
        },
        state,
        last_position: Some(position()),
        last_primary: Some("a".parse().unwrap()),
        ancestry: None,
        highest_reserved_timeline: Timeline::FIRST,
        synchronous_standby: None,
        idle_millis: 0,
        members: Vec::new(),
        successor: None,
        unretired: None,
    };
    let etag = ETag(format!("\"{sequence}\""));
    AgentEvent::LeaseRead {
        requested_at: at(requested_at),
        answer: LeaseReadResult::Found(etag, Box::new(record)),
    }
}

fn missing(requested_at: u64) -> AgentEvent {
    AgentEvent::LeaseRead {
        requested_at: at(requested_at),
        answer: LeaseReadResult::Missing,
    }
}

fn stored(write: &LeaseWrite, version: u32) -> AgentEvent {
    AgentEvent::LeaseWritten {
        nonce: write.record.nonce.clone(),
        answer: LeaseWriteResult::Stored(ETag(format!("\"stored {version}\""))),
    }
}

fn unknown(write: &LeaseWrite) -> AgentEvent {
    AgentEvent::LeaseWritten {
        nonce: write.record.nonce.clone(),
        answer: LeaseWriteResult::Unknown,
    }
}

pub(super) fn observed(server: ServerView) -> LocalObservation {
    LocalObservation {
        server,
        armed: None,
        wants_renewal_since: None,
        primary: None,
        health: ServerHealth::Unresponsive,
        replay: None,
        starts: None,
        system_id: Some(SystemId(1)),
        holds_position: true,
        holds_back: true,
        collations: None,
        taken_timeline: None,
        ancestry: None,
    }
}

pub(super) fn up() -> LocalObservation {
    let primary = PrimaryView {
        position: position(),
        system_id: SystemId(1),
    };
    LocalObservation {
        primary: Some(primary),
        health: ServerHealth::Writes,
        ..observed(ServerView::MayWrite)
    }
}

fn following() -> LocalObservation {
    let PrimaryPosition {
        timeline,
        flush_lsn,
        ..
    } = position();
    observed(ServerView::Standby(ReplayProgress {
        timeline,
        received_lsn: flush_lsn,
        replayed_lsn: flush_lsn,
    }))
}

fn armed(local: &LocalObservation) -> LocalObservation {
    let timing = LeaseTiming::default();
    let deadline = GuardDeadline {
        epoch: Epoch::new(1),
        requested_at: at(0),
        stop_at: at(0) + timing.stop_deadline,
        kill_at: at(0) + timing.kill_deadline,
    };
    LocalObservation {
        armed: Some(deadline),
        ..local.clone()
    }
}

fn position() -> PrimaryPosition {
    PrimaryPosition {
        timeline: Timeline::FIRST,
        flush_lsn: Lsn::new(100),
        last_commit_at_micros: 0,
        wal_bytes_per_sec: 0,
        rows_per_sec: 0,
        age_millis: 0,
    }
}

fn written(actions: Vec<AgentAction>) -> Vec<LeaseWrite> {
    let write = |action| match action {
        AgentAction::WriteLease(write) => Some(*write),
        AgentAction::ReadLease | AgentAction::StoreHighest(..) | AgentAction::AlertOperator(_) => {
            None
        }
    };
    actions.into_iter().filter_map(write).collect()
}

fn only(writes: Vec<LeaseWrite>) -> LeaseWrite {
    let [write] = <[LeaseWrite; 1]>::try_from(writes).unwrap();
    write
}
