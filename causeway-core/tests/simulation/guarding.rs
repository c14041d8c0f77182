//! The process around a guard, its actions on PostgreSQL, and its supervisor.

use causeway_core::HostInstant;
use causeway_core::agent::{Commits, GuardCommand};
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::guard::{self, DeadlineError, Guard, GuardAction, GuardDeadline};

use crate::cluster::{Cluster, SimEvent};
use crate::mutants::Mutant;
use crate::seeded_rng::{MILLI, Micros};
use crate::server::State;

/// Interval at which guard announces to its supervisor how long to wait.
const ANNOUNCE_INTERVAL: Micros = 250 * MILLI;

/// Messages that wait for a guard that does not read: `net.unix.max_dgram_qlen`.
const QUEUE: usize = 10;

/// Message from an agent to its guard.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Deadline(GuardDeadline, HostInstant),
    Command(GuardCommand, Result<(), DeadlineError>),
}

impl Cluster {
    /// Starts a guard, which begins with a sweep.
    pub(crate) fn start_guard(&mut self, host: usize) {
        let now = self.now;
        let machine = &mut self.hosts[host];
        machine.end_guard();
        machine.guard = Some(Guard::new());
        (machine.server.starts, machine.server.starts_after_service) = (0, 0);
        machine.announced_at = now;
        let life = machine.guard_life;
        self.after(0, SimEvent::GuardTick { host, life });
        if !self.is(Mutant::LetPostgresOutliveGuard) {
            self.kill(host, "guard starts");
        }
        self.announce(host, None);
    }

    pub(crate) fn tick_guard(&mut self, host: usize, life: u64) {
        if self.hosts[host].guard_life != life || self.hosts[host].guard_frozen_at.is_some() {
            return;
        }
        let now = self.instant(host);
        let machine = &mut self.hosts[host];
        let (wall, server) = (
            machine.clocks.wall(self.now),
            machine.server.seen_by_guard(),
        );
        let Some(guard) = &mut machine.guard else {
            return;
        };
        let mut act = guard.tick(now, wall, server);
        if self.is(Mutant::DisableGuard) {
            act = GuardAction::None;
        }
        match act {
            GuardAction::None => {}
            GuardAction::FastShutdown => self.interrupt(host),
            GuardAction::Kill => {
                if !self.hosts[host].server.dying {
                    self.tally.ended_by_guard += 1;
                }
                self.kill(host, "guard's deadline");
            }
        }
        if self.now >= self.hosts[host].announced_at + ANNOUNCE_INTERVAL {
            self.announce(host, None);
        }
        // It checks twenty times a second, and may wake up late.
        let wait = 50 * MILLI + self.rng.between(0, 50 * MILLI);
        self.after(wait, SimEvent::GuardTick { host, life });
    }

    /// Announces to the supervisor how long to wait for the next message, with the server in the state
    /// `server`, now or soon.
    fn announce(&mut self, host: usize, server: Option<guard::PostgresProcess>) {
        let instant = self.instant(host);
        let machine = &mut self.hosts[host];
        let server = server.unwrap_or_else(|| machine.server.seen_by_guard());
        let Some(guard) = &machine.guard else {
            return;
        };
        let limit = guard.supervisor_limit(instant, server).mul_f64(1.001);
        machine.announced_at = self.now;
        machine.announced_until = self.now + u64::try_from(limit.as_micros()).unwrap();
    }

    /// SIGSTOP to guard; PostgreSQL keeps running.
    pub(crate) fn freeze_guard(&mut self, host: usize) {
        let machine = &mut self.hosts[host];
        if machine.guard.is_none() || machine.guard_frozen_at.is_some() {
            return;
        }
        machine.guard_frozen_at = Some(self.now);
        let life = machine.guard_life;
        let due = machine.announced_until.max(self.now);
        self.log(|cluster| format!("{} guard freezes", cluster.hosts[host].node));
        if !self.is(Mutant::NoSupervisor) {
            self.after(due - self.now, SimEvent::Supervise { host, life });
        }
    }

    /// SIGCONT: guard continues in the middle of its loop, then reads the waiting messages.
    pub(crate) fn thaw_guard(&mut self, host: usize, life: u64) {
        let machine = &mut self.hosts[host];
        if machine.guard_life != life || machine.guard_frozen_at.take().is_none() {
            return;
        }
        self.log(|cluster| format!("{} guard thaws", cluster.hosts[host].node));
        for message in std::mem::take(&mut self.hosts[host].guard_waiting) {
            self.send_to_guard(host, message);
        }
        self.tick_guard(host, life);
    }

    /// Ends guard and PostgreSQL and restarts guard, if the supervisor has received no message within the time
    /// that guard announced.
    pub(crate) fn supervise(&mut self, host: usize, life: u64) {
        let machine = &mut self.hosts[host];
        if machine.guard_life != life
            || machine.guard_frozen_at.is_none()
            || self.now < machine.announced_until
        {
            return;
        }
        self.tally.ended_by_supervisor += 1;
        self.crash_guard(host, "the supervisor ends guard");
    }

    /// Sends a message to guard, or queues it while guard is frozen.
    pub(crate) fn send_to_guard(&mut self, host: usize, message: Message) {
        let machine = &mut self.hosts[host];
        if machine.guard_frozen_at.is_some() {
            if machine.guard_waiting.len() < QUEUE {
                machine.guard_waiting.push(message);
            }
            return;
        }
        match message {
            Message::Deadline(deadline, decided_at) => {
                self.deliver_deadline(host, deadline, decided_at);
            }
            Message::Command(command, allowed) => {
                self.execute_guard_command(host, command, &allowed);
            }
        }
    }

    fn deliver_deadline(&mut self, host: usize, deadline: GuardDeadline, decided_at: HostInstant) {
        let now = self.instant(host);
        let deadline = if self.is(Mutant::TrustALateGrant) {
            // The mutant sends the remaining time instead of the deadline.
            GuardDeadline {
                epoch: deadline.epoch,
                requested_at: now,
                stop_at: now + decided_at.time_left(deadline.stop_at),
                kill_at: now + decided_at.time_left(deadline.kill_at),
            }
        } else {
            deadline
        };
        let Some(guard) = &mut self.hosts[host].guard else {
            return;
        };
        if let Err(refusal) = guard.accept_deadline(deadline) {
            self.log(|cluster| format!("{} guard: {refusal}", cluster.hosts[host].node));
        }
    }

    fn execute_guard_command(
        &mut self,
        host: usize,
        command: GuardCommand,
        allowed_then: &Result<(), DeadlineError>,
    ) {
        let now = self.instant(host);
        let machine = &self.hosts[host];
        let Some(guard) = &machine.guard else {
            return;
        };
        let allows = |epoch| {
            if self.is(Mutant::SkipTheCheckAfterAFreeze) {
                return allowed_then.is_ok();
            }
            guard.check_start_allowed(now, epoch).is_ok()
        };
        let (state, directory) = (machine.server.state, machine.server.directory);
        let stopping = machine.server.stopping || machine.server.dying;
        match command {
            GuardCommand::StartPrimary(epoch, commits) => {
                let stands = state == State::Ended && directory == DataDirectoryState::Primary;
                if stands && allows(epoch) {
                    let commits = if self.is(Mutant::AcknowledgeBeforeOpen) {
                        Commits::Acknowledged
                    } else {
                        commits
                    };
                    self.announce_a_writer(host);
                    self.start_primary(host, commits);
                    self.freeze_guard_after_the_start(host);
                }
            }
            GuardCommand::StartStandby => {
                if state == State::Ended
                    && matches!(
                        directory,
                        DataDirectoryState::Standby | DataDirectoryState::Primary
                    )
                {
                    self.start_standby(host);
                }
            }
            GuardCommand::Promote(epoch, timeline) => {
                let taken = machine.server.histories.taken_from(timeline);
                let checks =
                    !self.is(Mutant::PromoteOverAHistory) && !self.is(Mutant::ReuseATimeline);
                if state != State::Following || stopping {
                    return;
                }
                if let Some(taken) = taken.filter(|_| checks) {
                    self.hosts[host].taken_timeline = Some(taken);
                } else if allows(epoch) {
                    self.announce_a_writer(host);
                    self.promote(host, timeline);
                    self.freeze_guard_after_the_start(host);
                }
            }
            GuardCommand::Acknowledge(epoch) => {
                let runs =
                    machine.server.seen_by_guard() == guard::PostgresProcess::MayWrite && !stopping;
                if runs && guard.check_commits_allowed(now, epoch).is_ok() {
                    self.hosts[host].server.commits = Commits::Acknowledged;
                    self.log(|cluster| {
                        format!("{} acknowledges commits", cluster.hosts[host].node)
                    });
                    self.note_acknowledged(host);
                }
            }
            GuardCommand::End(drain) => self.end_by_command(host, drain),
        }
    }

    /// Announces a server that may write to the supervisor before it may.
    fn announce_a_writer(&mut self, host: usize) {
        if !self.is(Mutant::AnnounceAfterTheStart) {
            self.announce(host, Some(guard::PostgresProcess::MayWrite));
        }
    }

    fn end_by_command(&mut self, host: usize, drain: std::time::Duration) {
        let server = &self.hosts[host].server;
        if server.state == State::Ended {
            return;
        }
        if !server.stopping {
            self.tally.ended_by_agent += 1;
        }
        if drain.is_zero() {
            self.kill(host, "ordered at once");
            return;
        }
        self.interrupt(host);
        // The same for a server that is stopping already, and may hang.
        let life = self.hosts[host].server.life;
        let drain = u64::try_from(drain.as_micros()).unwrap();
        self.after(drain, SimEvent::KillNow { host, life });
    }
}
