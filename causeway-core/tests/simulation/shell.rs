//! The shell around an agent: it observes, delivers events to the agent, and executes its actions.

use std::time::Duration;

use causeway_core::agent::{
    AgentAction, AgentEvent, FencingProof, GuardCommand, LeaseReadResult, LeaseWrite,
    OperatorAlert, TargetRole,
};
use causeway_core::failover::observation::{DataDirectoryState, ServerView};
use causeway_core::guard::{DeadlineError, GuardDeadline};
use causeway_core::lease::{ETag, LeaseState, WritePrecondition};
use causeway_core::{HostInstant, Timeline};

use crate::cluster::{Cluster, Delivery, SimEvent};
use crate::guarding::Message;
use crate::host::FreezePoint;
use crate::mutants::Mutant;
use crate::seeded_rng::{MILLI, SECOND};
use crate::server::State;

/// Effects of one iteration of an agent's loop. The agent can be frozen between the iteration and its effects.
#[derive(Debug)]
pub(crate) struct Effects {
    decided_at: HostInstant,
    deadline: Option<GuardDeadline>,
    command: Option<GuardCommand>,
    /// Whether guard would have allowed the command at the decision, for a mutant that checks then.
    allowed: Result<(), DeadlineError>,
    follow: Option<Follow>,
    reads: u32,
    writes: Vec<LeaseWrite>,
    observe: bool,
}

impl Effects {
    /// Returns the point at which a freeze hits them.
    fn freeze_point(&self) -> Option<FreezePoint> {
        match (self.command, self.writes.is_empty()) {
            (
                Some(
                    GuardCommand::StartPrimary(..)
                    | GuardCommand::Promote(..)
                    | GuardCommand::Acknowledge(_),
                ),
                _,
            ) => Some(FreezePoint::Start),
            (_, false) => Some(FreezePoint::Write),
            (_, true) => None,
        }
    }
}

/// Set-up of a standby, and its primary if that is known.
#[derive(Debug)]
struct Follow {
    primary: Option<usize>,
}

impl Cluster {
    pub(crate) fn start_agent(&mut self, host: usize) {
        let (members, seed) = (self.members(), self.rng.next_u64() | 1);
        self.hosts[host].start_agent(members, seed);
        let (life, now) = (self.hosts[host].agent_life, self.now);
        self.hosts[host].service.agent_since = now;
        self.hosts[host].starts_since_proof = 0;
        self.after(0, SimEvent::Tick { host, life });
        self.log(|cluster| format!("{} agent starts", cluster.hosts[host].node));
    }

    fn members(&self) -> Vec<causeway_core::NodeId> {
        let originals = &self.hosts[..crate::cloning::CLONE];
        originals.iter().map(|host| host.node.clone()).collect()
    }

    pub(crate) fn tick(&mut self, host: usize) {
        if self.rng.in_thousand(100) {
            self.ask_peers(host);
        }
        let mut observes = !std::mem::replace(&mut self.hosts[host].observing, true);
        if self.is(Mutant::ObserveBeforeTheCommand) {
            self.observe_local(host);
            observes = false;
        }
        let now = self.instant(host);
        self.step(host, now, AgentEvent::Tick, observes);
    }

    pub(crate) fn deliver(&mut self, host: usize, delivery: Delivery) {
        let mut now = self.instant(host);
        let event = match delivery {
            Delivery::Now(event) => event,
            Delivery::Answer { id, event } => {
                if !self.hosts[host].pending.remove(&id) {
                    return;
                }
                event
            }
        };
        if let AgentEvent::LocalObserved(_) = event {
            self.hosts[host].observing = false;
        }
        if let (AgentEvent::LeaseRead { requested_at, .. }, true) =
            (&event, self.is(Mutant::CountTheWaitFromTheAsking))
        {
            now = *requested_at;
        }
        let event = self.distort_read(event);
        self.step(host, now, event, false);
    }

    /// Plans a command to take the lease, and sends it to the agent at once.
    pub(crate) fn command_take(&mut self, host: usize, fenced: FencingProof) {
        let now = self.instant(host);
        let Some(agent) = self.hosts[host].agent.as_mut() else {
            return;
        };
        let Some(planned) = agent.lease(now).map(|(record, _)| record.epoch) else {
            return;
        };
        // The operator accepts any timeline of the node; the data loss is checked nevertheless.
        let own = accepted(self.hosts[host].server.seen_by_agent());
        let Some(agent) = self.hosts[host].agent.as_mut() else {
            return;
        };
        let said = agent.take_lease(now, planned, fenced, own);
        if said.is_ok() {
            self.hosts[host].commanded = Some(planned.next());
        }
        self.log(|cluster| {
            format!(
                "{} is commanded to take over: {said:?}",
                cluster.hosts[host].node
            )
        });
        self.act(host, now, said.unwrap_or_default(), false, false);
    }

    /// Sends an agent the command to release the lease.
    pub(crate) fn command_release(&mut self, host: usize) {
        let now = self.instant(host);
        let Some(agent) = self.hosts[host].agent.as_mut() else {
            return;
        };
        let Some(planned) = agent.lease(now).map(|(record, _)| record.epoch) else {
            return;
        };
        let said = agent.release_lease(planned);
        self.hosts[host].service.released_by_command |= said.is_ok();
        self.log(|cluster| {
            format!(
                "{} is commanded to release: {said:?}",
                cluster.hosts[host].node
            )
        });
    }

    fn step(&mut self, host: usize, now: HostInstant, event: AgentEvent, observes: bool) {
        let was_observed = matches!(event, AgentEvent::LocalObserved(_))
            || self.is(Mutant::ObserveBeforeTheCommand);
        let Some(agent) = self.hosts[host].agent.as_mut() else {
            return;
        };
        let held = agent.holds();
        let actions = agent.handle(now, event);
        let holds = agent.holds();
        let opened = agent.is_primary(now);
        let machine = &mut self.hosts[host];
        if opened {
            machine.taken_timeline = None;
        }
        if held != holds {
            machine.starts_since_proof = 0;
            self.log(|cluster| {
                let (node, epoch) = (&cluster.hosts[host].node, cluster.hosts[host].remembered.0);
                let verb = if holds {
                    "holds the lease"
                } else {
                    "no longer holds the lease"
                };
                format!("{node} {verb} (epoch {epoch} remembered)")
            });
        }
        // Commands follow an observation, and an observation follows the commands before it.
        self.act(host, now, actions, was_observed, observes);
    }

    fn act(
        &mut self,
        host: usize,
        now: HostInstant,
        actions: Vec<AgentAction>,
        may_command: bool,
        observe: bool,
    ) {
        let Some(agent) = self.hosts[host].agent.as_ref() else {
            return;
        };
        let (deadline, command) = (
            agent.deadline(),
            agent.guard_command().filter(|_| may_command),
        );
        let follow = match agent.target_role() {
            TargetRole::Standby { primary, .. } if may_command => Some(primary),
            TargetRole::Undecided
            | TargetRole::Standby { .. }
            | TargetRole::Primary { .. }
            | TargetRole::Stopped => None,
        };
        let deadline = deadline.map(|deadline| self.distort_deadline(host, now, deadline));
        let number = |node| self.host_of(&node);
        let allowed = match (command, &self.hosts[host].guard) {
            (
                Some(GuardCommand::StartPrimary(epoch, _) | GuardCommand::Promote(epoch, _)),
                Some(guard),
            ) => guard.check_start_allowed(now, epoch),
            _ => Ok(()),
        };
        let mut effects = Effects {
            decided_at: now,
            deadline,
            command,
            allowed,
            follow: follow.map(|primary| Follow {
                primary: primary.and_then(number),
            }),
            reads: 0,
            writes: Vec::new(),
            observe,
        };
        for action in actions {
            match action {
                AgentAction::ReadLease => effects.reads += 1,
                AgentAction::WriteLease(write) => effects.writes.push(*write),
                AgentAction::StoreHighest(epoch, sequence) => {
                    self.hosts[host].remembered = (epoch, sequence);
                }
                AgentAction::AlertOperator(alarm) => self.alarm(host, &alarm),
            }
        }
        // Effects stay in order.
        let earliest = self.hosts[host].sent_at.max(self.now);
        let at = earliest + self.rng.between(10, 2 * MILLI);
        self.hosts[host].sent_at = at;
        let life = self.hosts[host].agent_life;
        let acts = effects.freeze_point();
        let effects = Box::new(effects);
        let execution = SimEvent::ExecuteEffects {
            host,
            life,
            effects,
        };
        self.after(at - self.now, execution);
        let freezes = self.hosts[host].freezes_for;
        if let Some((_, long)) = freezes.filter(|(before, _)| Some(*before) == acts) {
            self.hosts[host].freezes_for = None;
            self.freeze(host, long);
        }
    }

    fn alarm(&mut self, host: usize, alarm: &OperatorAlert) {
        if let OperatorAlert::Released(reason) = alarm {
            self.note_release(host, *reason);
        }
        self.log(|cluster| format!("{} alarm: {alarm}", cluster.hosts[host].node));
    }

    pub(crate) fn execute_effects(&mut self, host: usize, effects: Effects) {
        for write in effects.writes {
            self.send(host, effects.decided_at, Some(write));
        }
        for _ in 0..effects.reads {
            self.send(host, effects.decided_at, None);
        }
        if let Some(deadline) = effects.deadline {
            self.send_to_guard(host, Message::Deadline(deadline, effects.decided_at));
        }
        if let Some(command) = effects.command {
            self.send_to_guard(host, Message::Command(command, effects.allowed));
        }
        if let Some(Follow { primary }) = effects.follow {
            self.follow(host, primary);
        }
        if effects.observe {
            self.observe_local(host);
        }
    }

    /// Sets up the server as a standby, which is the agent's target role.
    fn follow(&mut self, host: usize, primary: Option<usize>) {
        self.hosts[host].server.follows = primary;
        let machine = &self.hosts[host];
        if machine.guard.is_none() || machine.guard_frozen_at.is_some() {
            return;
        }
        let source = primary
            .filter(|index| *index != host)
            .map(|index| &self.hosts[index]);
        let source = source
            .filter(|source| source.server.state == State::Writable && !source.cut_from_peers);
        let fits = source.map(|source| self.hosts[host].server.log.leads_to(&source.server.log));
        let reached = fits.is_some() && !self.hosts[host].cut_from_peers;
        let server = &mut self.hosts[host].server;
        match (server.state, server.directory) {
            (State::Ended, DataDirectoryState::Standby) if fits != Some(false) => {
                self.start_standby(host);
            }
            (State::Ended, _) if reached && !server.rewinding => {
                server.rewinding = true;
                server.directory = DataDirectoryState::Rewinding;
                let life = server.life;
                let wait = self.rng.between(SECOND / 2, 4 * SECOND);
                self.log(|cluster| format!("{} rewinds", cluster.hosts[host].node));
                self.after(wait, SimEvent::Rewound { host, life });
            }
            (State::Following, _) if fits == Some(false) => self.kill(host, "it has diverged"),
            _ => {}
        }
    }

    pub(crate) fn rewound(&mut self, host: usize, life: u64) {
        let server = &self.hosts[host].server;
        if server.life != life || !server.rewinding {
            return;
        }
        let source = server.follows.map(|index| &self.hosts[index].server);
        let (log, histories) = source.map_or_else(
            || (server.log.clone(), server.histories.clone()),
            |source| (server.log.common(&source.log), source.histories.clone()),
        );
        let server = &mut self.hosts[host].server;
        (server.log, server.histories) = (log, histories);
        server.rewinding = false;
        server.directory = DataDirectoryState::Standby;
    }

    /// Returns the deadline, or the one that a mutant counts.
    fn distort_deadline(
        &mut self,
        host: usize,
        now: HostInstant,
        deadline: GuardDeadline,
    ) -> GuardDeadline {
        if !self.is(Mutant::CountFromTheAnswer) {
            return deadline;
        }
        let host = &mut self.hosts[host];
        let late = match host.counted {
            Some((known, late)) if known == deadline => late,
            Some(_) | None => now.elapsed_upper_bound(deadline.requested_at),
        };
        host.counted = Some((deadline, late));
        later(deadline, late)
    }

    /// Returns the response of the store, or the one that a mutant reads.
    fn distort_read(&self, event: AgentEvent) -> AgentEvent {
        let (
            true,
            AgentEvent::LeaseRead {
                requested_at,
                answer: LeaseReadResult::Missing,
            },
        ) = (self.is(Mutant::TakeAMissingLease), &event)
        else {
            return event;
        };
        let Some(mut record) = self.store.last_record().cloned() else {
            return event;
        };
        record.state = LeaseState::Released;
        let etag = ETag("missing".into());
        AgentEvent::LeaseRead {
            requested_at: *requested_at,
            answer: LeaseReadResult::Found(etag, Box::new(record)),
        }
    }
}

/// Returns the precondition to use for one on the version that `distort_read` made up.
pub(crate) fn effective_precondition(condition: &WritePrecondition) -> WritePrecondition {
    match condition {
        WritePrecondition::Match(ETag(etag)) if etag == "missing" => WritePrecondition::Missing,
        WritePrecondition::Match(_) | WritePrecondition::Missing => condition.clone(),
    }
}

pub(crate) fn later(deadline: GuardDeadline, by: Duration) -> GuardDeadline {
    GuardDeadline {
        epoch: deadline.epoch,
        requested_at: deadline.requested_at + by,
        stop_at: deadline.stop_at + by,
        kill_at: deadline.kill_at + by,
    }
}

/// Returns the timeline of a standby.
const fn accepted(server: ServerView) -> Option<Timeline> {
    if let ServerView::Standby(own) = server {
        return Some(own.timeline);
    }
    None
}
