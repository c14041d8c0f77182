//! The process around a guard, what it does to PostgreSQL, and the supervisor that watches it.

use causeway_core::Moment;
use causeway_core::agent::{Commits, GuardOrder};
use causeway_core::failover::observation::Directory;
use causeway_core::guard::{self, Act, Deadline, Guard, Refusal};

use crate::chance::{MILLI, Micros};
use crate::cluster::{Cluster, What};
use crate::mistakes::Mistake;
use crate::server::State;

/// How often guard tells its supervisor for how long to wait.
const ANNOUNCE_INTERVAL: Micros = 250 * MILLI;

/// How many messages wait for a guard that does not read: `net.unix.max_dgram_qlen`.
const QUEUE: usize = 10;

/// What an agent sends to its guard.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Feed(Deadline, Moment),
    Order(GuardOrder, Result<(), Refusal>),
}

impl Cluster {
    /// Starts a guard, which begins by sweeping.
    pub(crate) fn start_guard(&mut self, host: usize) {
        let now = self.now;
        let it = &mut self.hosts[host];
        it.end_guard();
        it.guard = Some(Guard::new());
        (it.server.starts, it.server.starts_after_service) = (0, 0);
        it.announced_at = now;
        let life = it.guard_life;
        self.after(0, What::Turn { host, life });
        if !self.is(Mistake::LetPostgresOutliveGuard) {
            self.kill(host, "guard starts");
        }
        self.announce(host, None);
    }

    pub(crate) fn turn_guard(&mut self, host: usize, life: u64) {
        if self.hosts[host].guard_life != life || self.hosts[host].guard_frozen_at.is_some() {
            return;
        }
        let now = self.moment(host);
        let it = &mut self.hosts[host];
        let (wall, server) = (it.clocks.wall(self.now), it.server.seen_by_guard());
        let Some(guard) = &mut it.guard else {
            return;
        };
        let mut act = guard.turn(now, wall, server);
        if self.is(Mistake::ForgetGuard) {
            act = Act::Leave;
        }
        match act {
            Act::Leave => {}
            Act::Interrupt => self.interrupt(host),
            Act::Kill => {
                if !self.hosts[host].server.dying {
                    self.tally.ended_by_guard += 1;
                }
                self.kill(host, "guard's deadline");
            }
        }
        if self.now >= self.hosts[host].announced_at + ANNOUNCE_INTERVAL {
            self.announce(host, None);
        }
        // It looks twenty times a second, and may be woken late.
        let wait = 50 * MILLI + self.chance.between(0, 50 * MILLI);
        self.after(wait, What::Turn { host, life });
    }

    /// Tells the supervisor for how long to wait for the next message, when the server is, or in a
    /// moment will be, `server`.
    fn announce(&mut self, host: usize, server: Option<guard::Server>) {
        let moment = self.moment(host);
        let it = &mut self.hosts[host];
        let server = server.unwrap_or_else(|| it.server.seen_by_guard());
        let Some(guard) = &it.guard else {
            return;
        };
        let limit = guard.supervisor_limit(moment, server).mul_f64(1.001);
        it.announced_at = self.now;
        it.announced_until = self.now + u64::try_from(limit.as_micros()).unwrap();
    }

    /// SIGSTOP to guard; PostgreSQL runs on.
    pub(crate) fn freeze_guard(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        if it.guard.is_none() || it.guard_frozen_at.is_some() {
            return;
        }
        it.guard_frozen_at = Some(self.now);
        let life = it.guard_life;
        let due = it.announced_until.max(self.now);
        self.log(|it| format!("{} guard freezes", it.hosts[host].node));
        if !self.is(Mistake::NoSupervisor) {
            self.after(due - self.now, What::Supervise { host, life });
        }
    }

    /// SIGCONT: guard goes on in the middle of its loop, and then reads what has waited for it.
    pub(crate) fn thaw_guard(&mut self, host: usize, life: u64) {
        let it = &mut self.hosts[host];
        if it.guard_life != life || it.guard_frozen_at.take().is_none() {
            return;
        }
        self.log(|it| format!("{} guard thaws", it.hosts[host].node));
        for message in std::mem::take(&mut self.hosts[host].guard_waiting) {
            self.tell_guard(host, message);
        }
        self.turn_guard(host, life);
    }

    /// The supervisor has heard nothing of guard for as long as guard last allowed: it kills everything,
    /// and starts guard again.
    pub(crate) fn supervise(&mut self, host: usize, life: u64) {
        let it = &mut self.hosts[host];
        if it.guard_life != life || it.guard_frozen_at.is_none() || self.now < it.announced_until {
            return;
        }
        self.tally.ended_by_supervisor += 1;
        self.crash_guard(host, "the supervisor ends guard");
    }

    /// Hands a message to guard, or keeps it for one that is frozen.
    pub(crate) fn tell_guard(&mut self, host: usize, message: Message) {
        let it = &mut self.hosts[host];
        if it.guard_frozen_at.is_some() {
            if it.guard_waiting.len() < QUEUE {
                it.guard_waiting.push(message);
            }
            return;
        }
        match message {
            Message::Feed(deadline, decided_at) => self.feed_guard(host, deadline, decided_at),
            Message::Order(order, allowed) => self.order_guard(host, order, &allowed),
        }
    }

    fn feed_guard(&mut self, host: usize, fed: Deadline, decided_at: Moment) {
        let now = self.moment(host);
        let fed = if self.is(Mistake::BelieveALateGrant) {
            // It hands on how much time is left, and not until when.
            Deadline {
                epoch: fed.epoch,
                asked_at: now,
                soft: now + decided_at.time_left(fed.soft),
                hard: now + decided_at.time_left(fed.hard),
            }
        } else {
            fed
        };
        let Some(guard) = &mut self.hosts[host].guard else {
            return;
        };
        if let Err(refusal) = guard.feed(fed) {
            self.log(|it| format!("{} guard: {refusal}", it.hosts[host].node));
        }
    }

    fn order_guard(&mut self, host: usize, order: GuardOrder, allowed_then: &Result<(), Refusal>) {
        let now = self.moment(host);
        let it = &self.hosts[host];
        let Some(guard) = &it.guard else {
            return;
        };
        let allows = |epoch| {
            if self.is(Mistake::ActAfterAFreeze) {
                return allowed_then.is_ok();
            }
            guard.allow(now, epoch).is_ok()
        };
        let (state, directory) = (it.server.state, it.server.directory);
        let stopping = it.server.stopping || it.server.dying;
        match order {
            GuardOrder::StartPrimary(epoch, commits) => {
                let stands = state == State::Ended && directory == Directory::Primary;
                if stands && allows(epoch) {
                    let commits = if self.is(Mistake::AcknowledgeBeforeOpen) {
                        Commits::Acknowledged
                    } else {
                        commits
                    };
                    self.announce_a_writer(host);
                    self.start_primary(host, commits);
                    self.freeze_guard_after_the_start(host);
                }
            }
            GuardOrder::StartStandby => {
                if state == State::Ended
                    && matches!(directory, Directory::Standby | Directory::Primary)
                {
                    self.start_standby(host);
                }
            }
            GuardOrder::Promote(epoch, timeline) => {
                let taken = it.server.histories.taken_from(timeline);
                let checks =
                    !self.is(Mistake::PromoteOverAHistory) && !self.is(Mistake::ReuseATimeline);
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
            GuardOrder::Acknowledge(epoch) => {
                let runs = it.server.seen_by_guard() == guard::Server::MayWrite && !stopping;
                if runs && guard.allow_commits(now, epoch).is_ok() {
                    self.hosts[host].server.commits = Commits::Acknowledged;
                    self.log(|it| format!("{} acknowledges commits", it.hosts[host].node));
                    self.note_acknowledged(host);
                }
            }
            GuardOrder::End(drain) => self.end_by_order(host, drain),
        }
    }

    /// Gives the supervisor the deadline of a server that may write before it may.
    fn announce_a_writer(&mut self, host: usize) {
        if !self.is(Mistake::AnnounceAfterTheStart) {
            self.announce(host, Some(guard::Server::MayWrite));
        }
    }

    fn end_by_order(&mut self, host: usize, drain: std::time::Duration) {
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
        // Also of a server that is being stopped already, and may hang in that.
        let life = self.hosts[host].server.life;
        let drain = u64::try_from(drain.as_micros()).unwrap();
        self.after(drain, What::KillNow { host, life });
    }
}
