//! Liveness: one node serves clients, no node holds the lease without serving, and problems are reported.

use causeway_core::Epoch;
use causeway_core::agent::{ReleaseReason, WriteProbeFailure};
use causeway_core::failover::loss;
use causeway_core::lease::{LeaseRecord, LeaseState};

use crate::cluster::Cluster;
use crate::host::{Host, region_of};
use crate::invariants::Violation;
use crate::mutants::Mutant;
use crate::seeded_rng::{MILLI, Micros, SECOND};
use crate::server::State;

/// Time within which an agent reports a problem if no node acknowledges commits.
const UNREPORTED: Micros = 30 * SECOND;

/// Time that an agent needs to detect the problem: the lease must expire for it, and a takeover be overdue.
const LEARNS_WITHIN: Micros = 16 * SECOND;

/// Time that a holder without a proven write and without progress may need beyond its longest limit: guard away
/// for 8 s, a drain of 1.5 s with 3 s to stop, one write in progress, and 2 s in which each of two agents checks
/// whether replay advances.
const SLACK: Micros = 8 * SECOND + 4_500 * MILLI + 3_500 * MILLI + 2 * 2 * SECOND;

/// Time for which one write is valid: the kill deadline.
const HELD: Micros = 8_800 * MILLI;

/// Additional time to drain when a command released the lease.
const DRAIN: Micros = 30 * SECOND;

/// Service of one host as a holder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Service {
    /// Time at which its agent was last started or thawed.
    pub(crate) agent_since: Micros,
    /// Time at which it last wrote the lease.
    pub(crate) wrote_at: Micros,
    /// Time up to then for which it had held the lease without service. It continues when the agent restarts,
    /// and when the node takes again what it had not released.
    pub(crate) without: Micros,
    /// Time of the last proven write.
    pub(crate) proven_at: Micros,
    /// Time at which replay last advanced, or clients were served by a server that could prove no write.
    pub(crate) advanced_at: Micros,
    pub(crate) released_by_command: bool,
}

impl Service {
    /// Records a write of the lease, and its relation to the write before.
    fn wrote(&mut self, now: Micros, term: Term) {
        let served_at = self.proven_at.max(self.advanced_at);
        self.without = match term {
            // A write that leaves a frozen agent late was sent after the lease had expired.
            Term::Same if now - self.wrote_at > HELD => self.without,
            Term::Same if served_at < self.wrote_at => self.without + (now - self.wrote_at),
            Term::Same => now - served_at,
            Term::Again if served_at < self.wrote_at => self.without,
            Term::New | Term::Again => 0,
        };
        self.wrote_at = now;
    }
}

/// Relation of a write of the lease to the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    /// Another node held it, or this one had released it.
    New,
    /// The holder renewed it.
    Same,
    /// The node took again what it held and had not released; its state in between is unknown.
    Again,
}

impl Cluster {
    /// Records which hosts serve clients now.
    pub(crate) fn note_service(&mut self) {
        let now = self.now;
        for host in &mut self.hosts {
            let server = &host.server;
            if server.primary().is_some() {
                host.service.proven_at = now;
                host.starts_since_proof = 0;
            }
            let is_full = matches!(
                server.failure,
                Some(WriteProbeFailure::NoConnectionLeft | WriteProbeFailure::XidLimit)
            );
            let answers = is_full && server.state == State::Writable && server.answers();
            if server.advances() || answers {
                host.service.advanced_at = now;
            }
        }
        let serves = self.hosts.iter().any(|host| host.server.serves());
        if serves || !self.any_agent_knows() || self.any_agent_reports() {
            self.quiet_since = now;
        }
        if now > self.quiet_since + UNREPORTED {
            self.invariants.violated(Violation::NothingReported);
        }
    }

    /// Returns whether an agent has run for long enough to detect that no node serves clients.
    fn any_agent_knows(&self) -> bool {
        let since = self.now.saturating_sub(LEARNS_WITHIN);
        let knows =
            |host: &Host| host.agent.is_some() && !host.frozen && host.service.agent_since <= since;
        self.hosts.iter().any(knows)
    }

    fn any_agent_reports(&self) -> bool {
        // The check is expensive, and once a second is enough.
        if !self.now.is_multiple_of(SECOND) || self.is(Mutant::ReportNothing) {
            return false;
        }
        let reports = |host: usize| {
            let machine = &self.hosts[host];
            let agent = machine.agent.as_ref().filter(|_| !machine.frozen);
            agent.is_some_and(|agent| !agent.problems(self.instant(host)).is_empty())
        };
        (0..self.hosts.len()).any(reports)
    }

    /// Checks a host's write of the lease, and records the stated loss if it took the lease.
    pub(crate) fn note_stored(
        &mut self,
        host: usize,
        before: Option<&LeaseRecord>,
        record: &LeaseRecord,
    ) {
        let taken = before.is_none_or(|before| before.epoch < record.epoch);
        let own = before.is_some_and(|before| {
            let same = before.holder.node == record.holder.node
                && before.holder.host_id == record.holder.host_id;
            same && before.state != LeaseState::Released
        });
        let term = match (taken, own) {
            (false, _) => Term::Same,
            (true, true) => Term::Again,
            (true, false) => Term::New,
        };
        self.hosts[host].service.wrote(self.now, term);
        if taken {
            // A holder that never accepted writes takes the lease again with the loss stated before.
            let again = before.is_some_and(|before| {
                let same = before.holder.node == record.holder.node
                    && before.holder.host_id == record.holder.host_id;
                same && before.state == LeaseState::Acquiring
            });
            let stated = self.hosts[host].stated_loss;
            self.state_loss(host, record);
            if again {
                let machine = &mut self.hosts[host];
                machine.stated_loss = machine.stated_loss.max(stated);
            } else {
                self.check_region(host, before, record.epoch);
                self.check_known_loss(host, record);
            }
            self.hosts[host].service.released_by_command = false;
        }
        if record.state == LeaseState::Held
            && record.last_primary == Some(self.hosts[host].node.clone())
        {
            self.last_primary = Some(host);
            self.settle_loss(host);
        }
        if matches!(record.state, LeaseState::Acquiring | LeaseState::Held) && !taken {
            self.check_holder(host);
        }
    }

    /// States the loss from the lease record and the WAL of the node that takes over. The last primary, whose
    /// disk has all that it wrote, loses nothing.
    fn state_loss(&mut self, host: usize, record: &LeaseRecord) {
        let machine = &self.hosts[host];
        let progress = machine.server.progress();
        self.hosts[host].stated_loss = match record.last_position {
            Some(_) if self.last_primary == Some(host) => 0,
            Some(last)
                if machine.commanded == Some(record.epoch)
                    && last.timeline != progress.timeline =>
            {
                u64::MAX
            }
            Some(last) => {
                loss::estimate_loss_on_timeline(&last, progress, &machine.settings.timing)
                    .bytes_at_most
            }
            None => 0,
        };
    }

    fn check_region(&mut self, host: usize, before: Option<&LeaseRecord>, epoch: Epoch) {
        let machine = &self.hosts[host];
        let last = before.map(|before| before.holder.node.as_str());
        let same = last.is_none_or(|last| region_of(machine.node.as_str()).contains(&last));
        if !same && machine.commanded != Some(epoch) {
            let violation = Violation::LeftRegion(machine.node.clone());
            self.invariants.violated(violation);
        }
    }

    /// Checks the known loss of an automatic takeover against its limit, which is zero for a node whose name
    /// recorded the position.
    fn check_known_loss(&mut self, host: usize, record: &LeaseRecord) {
        let machine = &self.hosts[host];
        let commanded = machine.commanded == Some(record.epoch);
        let Some(last) = record.last_position.filter(|_| !commanded) else {
            return;
        };
        let known = loss::estimate_loss_on_timeline(
            &last,
            machine.server.progress(),
            &machine.settings.timing,
        )
        .known_bytes;
        let allowed = if record.last_primary.as_ref() == Some(&machine.node) {
            0
        } else {
            machine.settings.policy.max_loss_bytes
        };
        if known > allowed {
            let violation = Violation::LostKnowingly(machine.node.clone(), known, allowed);
            self.invariants.violated(violation);
        }
    }

    fn check_holder(&mut self, host: usize) {
        let machine = &self.hosts[host];
        if !machine
            .agent
            .as_ref()
            .is_some_and(causeway_core::agent::Agent::holds)
        {
            return;
        }
        let settings = &machine.settings;
        let limit = settings
            .start_timeout
            .max(settings.write_stall_timeout)
            .max(settings.write_probe_timeout);
        let mut bound = u64::try_from(limit.as_micros()).unwrap() + SLACK;
        if machine.service.released_by_command {
            bound += DRAIN;
        }
        let without = machine.service.without;
        let violation = if without > bound {
            Violation::HoldsWithoutServing(machine.node.clone(), without)
        } else if machine.starts_since_proof > 2 * settings.max_restarts_per_minute + 2 {
            Violation::StartsForEver(machine.node.clone(), machine.starts_since_proof)
        } else {
            return;
        };
        self.invariants.violated(violation);
    }

    /// Checks that a holder did not release the lease for lack of progress while replay advanced.
    pub(crate) fn note_release(&mut self, host: usize, reason: ReleaseReason) {
        let machine = &self.hosts[host];
        let replays = machine.server.replay.filter(|_| machine.server.advances());
        let seen = replays.is_some_and(|replay| self.now > replay.since + 2 * SECOND);
        if reason == ReleaseReason::NotUpInTime && seen {
            let violation = Violation::GaveUpWhileReplaying(machine.node.clone());
            self.invariants.violated(violation);
        }
    }

    /// Records the acknowledged commits of a host, and checks the data loss when it begins to acknowledge.
    pub(crate) fn note_acknowledged(&mut self, host: usize) {
        let machine = &self.hosts[host];
        if !machine.server.acknowledges() {
            return;
        }
        self.settle_loss(host);
        self.acknowledged.note(&self.hosts[host].server.log);
    }

    /// Checks that a new primary lost no more than was stated.
    fn settle_loss(&mut self, host: usize) {
        let machine = &self.hosts[host];
        let lost = self.acknowledged.lost(&machine.server.log);
        if lost > machine.stated_loss {
            let violation =
                Violation::LostUnstated(machine.node.clone(), lost, machine.stated_loss);
            self.invariants.violated(violation);
        }
        self.acknowledged.forget(&machine.server.log);
    }

    /// Checks that, long enough after the last fault, one node serves clients and all others are its standbys.
    pub(crate) fn check_service(&self) -> Result<(), Violation> {
        let Some(primary) = self.hosts.iter().position(|host| host.server.serves()) else {
            return Err(Violation::NoService);
        };
        let log = &self.hosts[primary].server.log;
        let follows = |host: usize| {
            let server = &self.hosts[host].server;
            let streams = server.state == State::Following && server.follows == Some(primary);
            streams && server.log.timeline() == log.timeline() && server.log.leads_to(log)
        };
        let astray = (0..self.hosts.len())
            .find(|host| *host != primary && self.hosts[*host].powered && !follows(*host));
        match astray {
            Some(host) => Err(Violation::DoesNotFollow(self.hosts[host].node.clone())),
            None => Ok(()),
        }
    }
}
