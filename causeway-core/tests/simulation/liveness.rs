//! That what should come, comes: one node serves, nobody holds the lease without serving, and a problem
//! that stands is reported.

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

/// Within what time an agent reports a problem when nobody acknowledges commits.
const UNREPORTED: Micros = 30 * SECOND;

/// For how long an agent must have run to know what is wrong: the lease must have expired for it, and a
/// takeover be overdue.
const LEARNS_WITHIN: Micros = 16 * SECOND;

/// What a holder without a proven write and without progress may need beyond the longest limit on that:
/// guard away for 8 s, a drain of 1.5 s with 3 s for the end, one write that was under way, and 2 s in which
/// each of two agents looks whether replay advances.
const SLACK: Micros = 8 * SECOND + 4_500 * MILLI + 3_500 * MILLI + 2 * 2 * SECOND;

/// For how long a holder counts on one write: the hard deadline.
const HELD: Micros = 8_800 * MILLI;

/// For how much longer PostgreSQL may drain when a command released the lease.
const DRAIN: Micros = 30 * SECOND;

/// When a host last did what holders have to do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Service {
    /// When its agent was started or thawed last.
    pub(crate) agent_since: Micros,
    /// When it last wrote the lease.
    pub(crate) wrote_at: Micros,
    /// For how long, up to then, it had written it in one term without doing what holders have to do. The
    /// term goes on when the agent is started again, and when the node takes what it had not released.
    pub(crate) without: Micros,
    /// When a write was last proved there.
    pub(crate) proven_at: Micros,
    /// When replay last advanced, or clients were served by a server that could prove no write.
    pub(crate) advanced_at: Micros,
    pub(crate) released_by_command: bool,
}

impl Service {
    /// Records that the lease was written, and how that went on from the write before.
    fn wrote(&mut self, now: Micros, term: Term) {
        let served_at = self.proven_at.max(self.advanced_at);
        self.without = match term {
            // What leaves a frozen agent late was written when it was not held any more.
            Term::Same if now - self.wrote_at > HELD => self.without,
            Term::Same if served_at < self.wrote_at => self.without + (now - self.wrote_at),
            Term::Same => now - served_at,
            Term::Again if served_at < self.wrote_at => self.without,
            Term::New | Term::Again => 0,
        };
        self.wrote_at = now;
    }
}

/// How a write of the lease goes on from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    /// Another node held it, or this one had released it.
    New,
    /// It is renewed.
    Same,
    /// The node takes again what it held and had not released: nobody knows how it was in between.
    Again,
}

impl Cluster {
    /// Records who serves at this instant.
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

    /// Returns whether an agent has run for long enough to know that nobody serves.
    fn any_agent_knows(&self) -> bool {
        let since = self.now.saturating_sub(LEARNS_WITHIN);
        let knows = |host: &Host| host.agent.is_some() && !host.frozen && host.service.agent_since <= since;
        self.hosts.iter().any(knows)
    }

    fn any_agent_reports(&self) -> bool {
        // The answer is not cheap, and needs no more than a look now and then.
        if !self.now.is_multiple_of(SECOND) || self.is(Mutant::ReportNothing) {
            return false;
        }
        let reports = |host: usize| {
            let machine = &self.hosts[host];
            let agent = machine.agent.as_ref().filter(|_| !machine.frozen);
            agent.is_some_and(|agent| !agent.problems(self.moment(host)).is_empty())
        };
        (0..self.hosts.len()).any(reports)
    }

    /// Checks what a host has written into the lease, and states what it may lose if it has taken it.
    pub(crate) fn note_stored(
        &mut self,
        host: usize,
        before: Option<&LeaseRecord>,
        record: &LeaseRecord,
    ) {
        let taken = before.is_none_or(|before| before.epoch < record.epoch);
        let own = before.is_some_and(|before| {
            let same =
                before.holder.node == record.holder.node && before.holder.host_id == record.holder.host_id;
            same && before.state != LeaseState::Released
        });
        let term = match (taken, own) {
            (false, _) => Term::Same,
            (true, true) => Term::Again,
            (true, false) => Term::New,
        };
        self.hosts[host].service.wrote(self.now, term);
        if taken {
            // A holder that was never open takes the lease again as it took it before.
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

    /// What is lost is stated from the lease record and the WAL of the node that takes over. The last
    /// primary, whose disk holds all that it wrote, loses nothing.
    fn state_loss(&mut self, host: usize, record: &LeaseRecord) {
        let machine = &self.hosts[host];
        let progress = machine.server.progress();
        self.hosts[host].stated_loss = match record.last_position {
            Some(_) if self.last_primary == Some(host) => 0,
            Some(last)
                if machine.commanded == Some(record.epoch) && last.timeline != progress.timeline =>
            {
                u64::MAX
            }
            Some(last) => loss::estimate_loss_on_timeline(&last, progress, &machine.settings.timing).bytes_at_most,
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

    /// Without a command a node takes the lease only if no more is known to be lost than it may lose; and
    /// nothing at all may be missing on one whose name recorded the position.
    fn check_known_loss(&mut self, host: usize, record: &LeaseRecord) {
        let machine = &self.hosts[host];
        let commanded = machine.commanded == Some(record.epoch);
        let Some(last) = record.last_position.filter(|_| !commanded) else {
            return;
        };
        let known = loss::estimate_loss_on_timeline(&last, machine.server.progress(), &machine.settings.timing).known_bytes;
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

    /// Checks that a holder did not give the lease up for want of progress while there was some.
    pub(crate) fn note_release(&mut self, host: usize, reason: ReleaseReason) {
        let machine = &self.hosts[host];
        let replays = machine.server.replay.filter(|_| machine.server.advances());
        let seen = replays.is_some_and(|replay| self.now > replay.since + 2 * SECOND);
        if reason == ReleaseReason::NotUpInTime && seen {
            let violation = Violation::GaveUpWhileReplaying(machine.node.clone());
            self.invariants.violated(violation);
        }
    }

    /// Records that what a host has written is acknowledged, if it is, and checks what was lost when it
    /// begins to acknowledge.
    pub(crate) fn note_acknowledged(&mut self, host: usize) {
        let machine = &self.hosts[host];
        if !machine.server.acknowledges() {
            return;
        }
        self.settle_loss(host);
        self.acknowledged.note(&self.hosts[host].server.log);
    }

    /// Checks that no more is lost than was stated, now that a node is the primary.
    fn settle_loss(&mut self, host: usize) {
        let machine = &self.hosts[host];
        let lost = self.acknowledged.lost(&machine.server.log);
        if lost > machine.stated_loss {
            let violation = Violation::LostUnstated(machine.node.clone(), lost, machine.stated_loss);
            self.invariants.violated(violation);
        }
        self.acknowledged.forget(&machine.server.log);
    }

    /// Checks that, with nothing wrong for long enough, one node serves and all others follow it.
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
