//! The process around a guard, and what it does to PostgreSQL.

use ha_core::agent::GuardOrder;
use ha_core::failover::observation::Directory;
use ha_core::guard::{self, Act, Deadline, Guard, Refusal};
use ha_core::{Moment, Timeline};

use crate::chance::{MILLI, SECOND};
use crate::cluster::{Cluster, What};
use crate::mistakes::Mistake;
use crate::server::State;

impl Cluster {
    /// Starts a guard, which begins by sweeping.
    pub(crate) fn start_guard(&mut self, host: usize) {
        self.hosts[host].guard = Some(Guard::new());
        self.hosts[host].guard_life += 1;
        let life = self.hosts[host].guard_life;
        self.after(0, What::Turn { host, life });
        if !self.is(Mistake::LetPostgresOutliveGuard) {
            self.kill(host, "guard starts");
        }
    }

    pub(crate) fn turn_guard(&mut self, host: usize, life: u64) {
        if self.hosts[host].guard_life != life {
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
        // It looks twenty times a second, and may be woken late.
        let wait = 50 * MILLI + self.chance.between(0, 50 * MILLI);
        self.after(wait, What::Turn { host, life });
    }

    pub(crate) fn feed_guard(&mut self, host: usize, fed: Deadline, decided_at: Moment) {
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

    pub(crate) fn order_guard(
        &mut self,
        host: usize,
        order: GuardOrder,
        allowed_then: &Result<(), Refusal>,
    ) {
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
        match order {
            GuardOrder::StartPrimary(epoch, _) => {
                let stands = state == State::Ended && directory == Directory::Primary;
                if stands && allows(epoch) {
                    self.start_primary(host);
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
                let stands = state == State::Following && !it.server.dying;
                // A number above the placeholders would be one that nobody reserved.
                let next = it.server.newest_history < timeline
                    || self.is(Mistake::ReuseATimeline)
                    || self.is(Mistake::PromoteOverAHistory);
                if stands && next && allows(epoch) {
                    self.promote(host, timeline);
                }
            }
            GuardOrder::Acknowledge(_) => {}
            GuardOrder::End(drain) => {
                if state != State::Ended {
                    if !it.server.stopping {
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
                    let sweep = self.chance.between(10 * MILLI, SECOND / 2);
                    self.after(drain + sweep, What::EndNow { host, life });
                }
            }
        }
    }

    fn start_primary(&mut self, host: usize) {
        let wait = self.slowness(20 * MILLI, 4 * SECOND);
        self.start(host, State::StartingPrimary, State::Writable, wait);
    }

    pub(crate) fn start_standby(&mut self, host: usize) {
        let wait = self.slowness(100 * MILLI, 3 * SECOND);
        self.start(host, State::StartingStandby, State::Following, wait);
    }

    fn promote(&mut self, host: usize, timeline: Timeline) {
        self.log(|it| format!("{} promotes, {timeline} reserved", it.hosts[host].node));
        let server = &mut self.hosts[host].server;
        // The placeholders.
        if let Some(below) = Timeline::new(timeline.get() - 1)
            && !(self.mistake == Some(Mistake::ReuseATimeline))
        {
            server.newest_history = server.newest_history.max(below);
        }
        let wait = self.slowness(50 * MILLI, 6 * SECOND);
        // It goes on being the same postmaster, so what was meant for it still is.
        let server = &mut self.hosts[host].server;
        server.state = State::Promoting(timeline);
        let life = server.life;
        let state = State::Writable;
        self.after(wait, What::Reach { host, life, state });
    }

    fn slowness(&mut self, least: u64, most: u64) -> u64 {
        if self.chance.in_thousand(200) {
            self.chance.between(least, most)
        } else {
            self.chance.between(least, 5 * least)
        }
    }

    fn start(&mut self, host: usize, state: State, then: State, wait: u64) {
        let server = &mut self.hosts[host].server;
        server.start(state);
        let life = server.life;
        self.log(|it| format!("{} server is {state:?}", it.hosts[host].node));
        let state = then;
        self.after(wait, What::Reach { host, life, state });
    }

    pub(crate) fn reach(&mut self, host: usize, life: u64, state: State) {
        let server = &mut self.hosts[host].server;
        // A postmaster that got SIGINT while it starts goes no further, nor does one that is gone. A
        // promotion is the startup process's, which goes on until the sweep finds it.
        let promotes = matches!(server.state, State::Promoting(_));
        if server.life != life || server.stopping || (server.dying && !promotes) {
            return;
        }
        if let State::Promoting(reserved) = server.state {
            self.begin_timeline(host, reserved);
            self.hosts[host].server.directory = Directory::Primary;
        }
        self.hosts[host].server.state = state;
        self.log(|it| {
            let it = &it.hosts[host];
            let (timeline, end) = (it.server.log.timeline(), it.server.log.end);
            format!(
                "{} server is {state:?}, timeline {timeline}, up to {end}",
                it.node
            )
        });
    }

    fn begin_timeline(&mut self, host: usize, reserved: Timeline) {
        let timeline = self.hosts[host].server.begin_timeline();
        self.tally.promotions += 1;
        let node = self.hosts[host].node.clone();
        self.invariants.began(timeline, reserved, &node);
    }

    /// SIGINT: perhaps it ends, and perhaps a walsender or the archiver keeps it.
    pub(crate) fn interrupt(&mut self, host: usize) {
        let server = &mut self.hosts[host].server;
        if server.state == State::Ended || std::mem::replace(&mut server.stopping, true) {
            return;
        }
        let life = server.life;
        let hangs = self.chance.in_thousand(500) || server.hung;
        self.log(|it| format!("{} server gets SIGINT", it.hosts[host].node));
        if !hangs {
            let wait = self.chance.between(20 * MILLI, 3 * SECOND);
            self.after(wait, What::EndNow { host, life });
        }
    }

    /// SIGKILL, and the sweep until nothing is left.
    pub(crate) fn kill(&mut self, host: usize, why: &str) {
        let server = &mut self.hosts[host].server;
        if server.state == State::Ended || std::mem::replace(&mut server.dying, true) {
            return;
        }
        let life = server.life;
        self.log(|it| format!("{} server is killed: {why}", it.hosts[host].node));
        let longest = if self.is(Mistake::LeaveBackendsBehind) {
            6 * SECOND
        } else {
            SECOND / 2
        };
        let some = self.chance.between(10 * MILLI, longest);
        let wait = self.chance.pick(&[some, longest]);
        self.after(wait, What::EndNow { host, life });
    }

    pub(crate) fn end_now(&mut self, host: usize, life: u64) {
        if self.hosts[host].server.life == life {
            self.end(host);
        }
    }

    /// Every process of PostgreSQL is gone. A promotion may have come to any point.
    pub(crate) fn end(&mut self, host: usize) {
        if self.hosts[host].server.seen_by_guard() == guard::Server::Ended {
            return;
        }
        if let State::Promoting(reserved) = self.hosts[host].server.state {
            let (began, done) = self
                .chance
                .pick(&[(false, false), (true, false), (true, true)]);
            if began {
                let before = self.hosts[host].server.log.clone();
                self.begin_timeline(host, reserved);
                if !done {
                    self.hosts[host].server.log = before;
                }
            }
            self.hosts[host].server.directory = if done {
                Directory::Primary
            } else {
                Directory::Standby
            };
        }
        self.hosts[host].server.end();
        self.log(|it| format!("{} server has ended", it.hosts[host].node));
    }
}
