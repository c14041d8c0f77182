//! Observation of the local server and its guard by the agent.

use causeway_core::agent::{
    AgentEvent, Commits, LocalObservation, ServerHealth, WriteProbeFailure,
};
use causeway_core::failover::observation::{DataDirectoryState, ServerView};
use causeway_core::guard::Guard;

use crate::cluster::{Cluster, Delivery, SimEvent};
use crate::guarding::Message;
use crate::mutants::Mutant;
use crate::seeded_rng::{MILLI, Micros, SECOND};
use crate::server::SYSTEM;

/// Time without a message after which a guard counts as away.
const SILENCE: Micros = SECOND;

/// Time after which an agent, which sends ten messages a second, kills its silent guard.
const GIVE_UP: Micros = 5 * SECOND;

impl Cluster {
    /// Observes the server and guard, and delivers the observation to the agent a little later.
    pub(crate) fn observe_local(&mut self, host: usize) {
        let silent_for =
            (self.hosts[host].guard_frozen_at).map_or(0, |frozen_at| self.now - frozen_at);
        if silent_for >= GIVE_UP {
            self.crash_guard(host, "the agent kills its silent guard");
        }
        // Reports of guard from before an unanswered command are out of date.
        let waits = |message: &Message| matches!(message, Message::Command(..));
        let ordered = self.hosts[host].guard_waiting.iter().any(waits);
        let local = if self.hosts[host].guard.is_some() && silent_for < SILENCE && !ordered {
            self.build_observation(host)
        } else {
            unguarded()
        };
        let local = self.distort_observation(host, local);
        let longest = if self.is(Mutant::ObserveBeforeTheCommand) {
            SECOND
        } else {
            30 * MILLI
        };
        let (wait, life) = (
            self.rng.between(MILLI, longest),
            self.hosts[host].agent_life,
        );
        let delivery = Box::new(Delivery::Now(AgentEvent::LocalObserved(Box::new(local))));
        self.after(
            wait,
            SimEvent::Deliver {
                host,
                life,
                delivery,
            },
        );
    }

    fn build_observation(&self, host: usize) -> LocalObservation {
        let machine = &self.hosts[host];
        let server = machine.server.seen_by_agent();
        let record = (machine.agent.as_ref()).and_then(|agent| agent.lease(self.instant(host)));
        let position = record.and_then(|(record, _)| record.last_position);
        let holds = |position: &causeway_core::lease::PrimaryPosition, log: &crate::wal::Log| {
            log.reaches(position.timeline, position.flush_lsn)
        };
        LocalObservation {
            server,
            armed: machine.guard.as_ref().and_then(Guard::deadline),
            wants_renewal_since: machine.guard.as_ref().and_then(Guard::wants_renewal_since),
            primary: machine.server.primary(),
            health: machine.server.health(),
            replay: machine.server.replayed(self.now),
            starts: Some(machine.server.starts),
            system_id: Some(SYSTEM),
            holds_position: server == ServerView::Stopped(DataDirectoryState::Primary)
                && position.is_some_and(|at| holds(&at, &machine.server.log)),
            holds_back: machine.server.commits == Commits::HeldBack,
            collations: None,
            taken_timeline: machine.taken_timeline,
            ancestry: None,
        }
    }

    /// Returns the observation as a mutant distorts it.
    fn distort_observation(&mut self, host: usize, local: LocalObservation) -> LocalObservation {
        let Some(mutant) = self.mutant else {
            return local;
        };
        let machine = &self.hosts[host];
        let record = self.store.last_record();
        let own = record.filter(|record| record.last_primary.as_ref() == Some(&machine.node));
        let position = own.and_then(|record| record.last_position);
        let machine = &mut self.hosts[host];
        let mut local = local;
        if mutant == Mutant::RenewWithoutGuard {
            if local.server != ServerView::Unguarded {
                machine.last_observation = Some(local.clone());
            }
            local = machine.last_observation.clone().unwrap_or(local);
        }
        if mutant == Mutant::ReleaseBeforeTheEnd && machine.server.stopping {
            local.server = ServerView::Stopped(DataDirectoryState::Primary);
            local.primary = None;
        }
        if mutant == Mutant::AcknowledgeBeforeOpen {
            local.holds_back = true; // As if guard's setting were in effect.
        }
        if mutant == Mutant::CountNoStarts {
            local.starts = Some(0);
        }
        if mutant == Mutant::CountStartsAfterService {
            local.starts = Some(machine.server.starts_after_service);
        }
        if mutant == Mutant::IgnoreThePosition {
            local.holds_position = true;
            if let (ServerView::Standby(own), Some(last)) = (&mut local.server, position)
                && own.timeline == last.timeline
            {
                own.received_lsn = own.received_lsn.max(last.flush_lsn);
            }
        }
        if mutant == Mutant::LimitReplay {
            local.replay = None;
        }
        if mutant == Mutant::KeepAnUnprovenServer
            && matches!(local.health, ServerHealth::Unproven(_))
        {
            local.health = ServerHealth::Unproven(WriteProbeFailure::NoConnectionLeft);
        }
        local
    }
}

const fn unguarded() -> LocalObservation {
    LocalObservation {
        server: ServerView::Unguarded,
        armed: None,
        wants_renewal_since: None,
        primary: None,
        health: ServerHealth::Unresponsive,
        replay: None,
        starts: None,
        system_id: None,
        holds_position: false,
        holds_back: false,
        collations: None,
        taken_timeline: None,
        ancestry: None,
    }
}
