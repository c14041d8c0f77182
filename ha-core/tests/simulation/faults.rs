//! What can go wrong, and how often: each history draws its own mixture, so that some faults come
//! alone and often, and others together.

use ha_core::agent::Fenced;

use crate::chance::{Chance, MILLI, Micros, SECOND};
use crate::cluster::{Cluster, What};
use crate::host::Before;
use crate::server::State;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGSTOP, and SIGCONT later: the agent goes on with whatever waited for it.
    FreezeAgent,
    /// The same between a decision to act and the act.
    FreezeBeforeTheAct,
    /// The same between the decision to start a server that crashed and the start.
    FreezeBeforeTheStart,
    CrashAgent,
    CrashGuard,
    CrashAgentAndGuard,
    RebootHost,
    CutFromStore,
    CutFromPeers,
    CrashPostgres,
    HangPostgres,
    StoreOutage,
    DeleteLease,
    TakeByCommand,
    ReleaseByCommand,
    JumpWallClock,
    /// A person stops the holder's instance and promotes another node without waiting.
    StopInstanceAndTake,
}

const FAULTS: [Fault; 17] = [
    Fault::FreezeAgent,
    Fault::FreezeBeforeTheAct,
    Fault::FreezeBeforeTheStart,
    Fault::CrashAgent,
    Fault::CrashGuard,
    Fault::CrashAgentAndGuard,
    Fault::RebootHost,
    Fault::CutFromStore,
    Fault::CutFromPeers,
    Fault::CrashPostgres,
    Fault::HangPostgres,
    Fault::StoreOutage,
    Fault::DeleteLease,
    Fault::TakeByCommand,
    Fault::ReleaseByCommand,
    Fault::JumpWallClock,
    Fault::StopInstanceAndTake,
];

/// What becomes of requests to the store, in cases of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Never arrive.
    pub(crate) lost: u64,
    /// Take effect, and nobody hears of it.
    pub(crate) answer_lost: u64,
    /// Take up to seconds, there or back.
    pub(crate) slow: u64,
    /// Are writes that take effect long after they were given up.
    pub(crate) late: u64,
    /// Are sent again by something in between, so that the answer is that of the second try.
    pub(crate) repeated: u64,
    /// Are answered 409.
    pub(crate) conflict: u64,
    /// Whether a store that is out of reach refuses at once rather than be silent.
    pub(crate) refuses: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) weather: Weather,
    pub(crate) store_is_down: bool,
    kinds: Vec<Fault>,
    /// The longest time from one fault to the next.
    pace: Micros,
    deleted_at: Option<Micros>,
    calm: bool,
}

impl Faults {
    pub(crate) fn draw(chance: &mut Chance, only: Option<&[Fault]>) -> Self {
        let share = chance.pick(&[100, 150, 300, 600, 1000]);
        let kinds = FAULTS
            .into_iter()
            .filter(|_| chance.in_thousand(share))
            .collect();
        let weather = Weather {
            lost: chance.pick(&[0, 0, 20, 200]),
            answer_lost: chance.pick(&[0, 0, 20, 200]),
            slow: chance.pick(&[0, 20, 400]),
            late: chance.pick(&[0, 20, 100]),
            repeated: chance.pick(&[0, 20, 200]),
            conflict: chance.pick(&[0, 10, 100]),
            refuses: chance.in_thousand(500),
        };
        Self {
            weather,
            store_is_down: false,
            kinds: only.map_or(kinds, <[Fault]>::to_vec),
            pace: chance.pick(&[2, 6, 15, 40]) * SECOND,
            deleted_at: None,
            calm: false,
        }
    }
}

/// What ends a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heal {
    Thaw { host: usize, life: u64 },
    StartAgent { host: usize },
    StartGuard { host: usize },
    Boot { host: usize },
    Reconnect { host: usize },
    StoreUp,
    Undelete,
}

impl Cluster {
    pub(crate) fn fault(&mut self) {
        if self.faults.calm || self.faults.kinds.is_empty() {
            return;
        }
        let wait = self.chance.between(100 * MILLI, self.faults.pace);
        self.after(wait, What::Fault);
        let kind = self.chance.pick(&self.faults.kinds);
        let host = self.victim();
        if !self.hosts[host].powered {
            return;
        }
        self.tally.faults += 1;
        self.log(|it| format!("{} fault: {kind:?}", it.hosts[host].node));
        self.inject(kind, host);
    }

    /// Returns a host to trouble: often the one that matters.
    fn victim(&mut self) -> usize {
        let holder = self.store.record().map(|it| &it.holder.node);
        let index = self.hosts.iter().position(|it| Some(&it.node) == holder);
        match index {
            Some(index) if self.chance.in_thousand(700) => index,
            _ => self.chance.pick(&[0, 1, 2]),
        }
    }

    fn inject(&mut self, kind: Fault, host: usize) {
        let long = self.duration();
        match kind {
            Fault::FreezeAgent => {
                if self.hosts[host].agent.is_some() {
                    self.freeze(host, long);
                }
            }
            Fault::FreezeBeforeTheAct => {
                let before = self.chance.pick(&[Before::Write, Before::Start]);
                self.hosts[host].freezes_for = Some((before, long));
            }
            Fault::FreezeBeforeTheStart => {
                self.kill(host, "the postmaster crashes");
                self.hosts[host].freezes_for = Some((Before::Start, long));
            }
            Fault::CrashAgent => self.crash_agent(host),
            Fault::CrashGuard => self.crash_guard(host),
            Fault::CrashAgentAndGuard => {
                self.crash_agent(host);
                self.crash_guard(host);
            }
            Fault::RebootHost => self.power_off(host, long),
            Fault::CutFromStore => {
                self.hosts[host].cut_from_store = true;
                self.after(long, What::Heal(Heal::Reconnect { host }));
            }
            Fault::CutFromPeers => {
                self.hosts[host].cut_from_peers = true;
                self.after(long, What::Heal(Heal::Reconnect { host }));
            }
            Fault::CrashPostgres => self.kill(host, "the postmaster crashes"),
            Fault::HangPostgres => {
                let server = &mut self.hosts[host].server;
                if server.state != State::Ended && !server.hung {
                    server.hung = true;
                }
            }
            Fault::StoreOutage => {
                self.faults.store_is_down = true;
                self.after(long / 2, What::Heal(Heal::StoreUp));
            }
            Fault::DeleteLease => {
                // A second deletion while a write that names no version is still on its way is one
                // fault too many: the longest takes 20 s.
                let again = self.faults.deleted_at;
                if again.is_none_or(|it| self.now > it + 45 * SECOND) {
                    self.faults.deleted_at = Some(self.now);
                    self.store.delete();
                    let person = self.chance.between(10 * SECOND, 40 * SECOND);
                    self.after(person, What::Heal(Heal::Undelete));
                }
            }
            Fault::TakeByCommand => {
                if !self.hosts[host].frozen {
                    self.command_take(host, Fenced::LeaseOver);
                }
            }
            Fault::ReleaseByCommand => {
                if !self.hosts[host].frozen {
                    self.command_release(host);
                }
            }
            Fault::JumpWallClock => {
                let by = self.chance.between(500 * MILLI, 7200 * SECOND);
                let wall = &mut self.hosts[host].clocks.wall_ahead;
                *wall = if self.chance.in_thousand(700) {
                    *wall + by
                } else {
                    wall.saturating_sub(by)
                };
            }
            Fault::StopInstanceAndTake => {
                let holder = self.store.record().map(|it| it.holder.node.clone());
                let old = self
                    .hosts
                    .iter()
                    .position(|it| Some(&it.node) == holder.as_ref());
                if let Some(old) = old.filter(|it| *it != host && self.hosts[*it].powered) {
                    self.power_off(old, long);
                    if !self.hosts[host].frozen {
                        self.command_take(host, Fenced::Vouched);
                    }
                }
            }
        }
    }

    /// Returns how long a fault lasts: a moment, about as long as a lease, or long.
    fn duration(&mut self) -> Micros {
        let (least, most) = self.chance.pick(&[
            (100, 2_000),
            (2_000, 8_000),
            (8_000, 15_000),
            (10_000, 20_000),
            (14_000, 45_000),
        ]);
        self.chance.between(least * MILLI, most * MILLI)
    }

    pub(crate) fn freeze(&mut self, host: usize, long: Micros) {
        self.log(|it| format!("{} agent freezes", it.hosts[host].node));
        self.hosts[host].frozen = true;
        let life = self.hosts[host].agent_life;
        self.after(long, What::Heal(Heal::Thaw { host, life }));
    }

    fn crash_agent(&mut self, host: usize) {
        self.hosts[host].end_agent();
        let longest = self.chance.pick(&[5, 20]) * SECOND;
        let wait = self.chance.between(100 * MILLI, longest);
        self.after(wait, What::Heal(Heal::StartAgent { host }));
    }

    /// PostgreSQL ends with its guard (PDEATHSIG, and the unit's cgroup).
    fn crash_guard(&mut self, host: usize) {
        self.hosts[host].end_guard();
        if !self.is(crate::mistakes::Mistake::LetPostgresOutliveGuard) {
            self.kill(host, "its guard died");
        }
        let longest = self.chance.pick(&[3, 15]) * SECOND;
        let wait = self.chance.between(100 * MILLI, longest);
        self.after(wait, What::Heal(Heal::StartGuard { host }));
    }

    fn power_off(&mut self, host: usize, wait: Micros) {
        self.hosts[host].powered = false;
        self.hosts[host].end_agent();
        self.hosts[host].end_guard();
        self.end(host);
        self.after(wait, What::Heal(Heal::Boot { host }));
    }

    pub(crate) fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::Thaw { host, life } => {
                if self.hosts[host].agent_life == life {
                    self.thaw(host);
                }
            }
            Heal::StartAgent { host } => {
                if self.hosts[host].powered && self.hosts[host].agent.is_none() {
                    self.start_agent(host);
                }
            }
            Heal::StartGuard { host } => {
                if self.hosts[host].powered && self.hosts[host].guard.is_none() {
                    self.start_guard(host);
                }
            }
            Heal::Boot { host } => {
                if !std::mem::replace(&mut self.hosts[host].powered, true) {
                    self.hosts[host].boots += 1;
                    let now = self.now;
                    self.hosts[host].clocks.boot(now);
                    self.log(|it| format!("{} boots", it.hosts[host].node));
                    self.after(SECOND, What::Heal(Heal::StartGuard { host }));
                    let wait = self.chance.between(SECOND, 3 * SECOND);
                    self.after(wait, What::Heal(Heal::StartAgent { host }));
                }
            }
            Heal::Reconnect { host } => {
                self.hosts[host].cut_from_store = false;
                self.hosts[host].cut_from_peers = false;
            }
            Heal::StoreUp => self.faults.store_is_down = false,
            Heal::Undelete => self.store.undelete(),
        }
    }

    /// SIGCONT. What was on its way out goes first and in order; what waited to be read comes in any
    /// order.
    fn thaw(&mut self, host: usize) {
        if !std::mem::replace(&mut self.hosts[host].frozen, false) {
            return;
        }
        self.log(|it| format!("{} agent thaws", it.hosts[host].node));
        for what in std::mem::take(&mut self.hosts[host].waiting) {
            let goes_out = matches!(what, What::Carry { .. });
            let wait = if goes_out {
                0
            } else {
                10 + self.chance.between(0, 3 * MILLI)
            };
            self.after(wait, what);
        }
    }

    /// Ends every fault, and lets nothing else go wrong.
    pub(crate) fn calm(&mut self) {
        self.log(|_| "calm".into());
        self.faults.calm = true;
        self.faults.weather = Weather::default();
        self.heal(Heal::StoreUp);
        self.heal(Heal::Undelete);
        for host in 0..self.hosts.len() {
            self.heal(Heal::Boot { host });
            self.heal(Heal::Reconnect { host });
            self.heal(Heal::StartGuard { host });
            self.heal(Heal::StartAgent { host });
            let life = self.hosts[host].agent_life;
            self.heal(Heal::Thaw { host, life });
            self.hosts[host].freezes_for = None;
            self.hosts[host].server.hung = false;
        }
    }
}
