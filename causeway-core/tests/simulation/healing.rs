//! Freezes and crashes, the end of each fault, and the operator after the last one.

use causeway_core::agent::FencingProof;
use causeway_core::problem::ProblemKind;

use crate::cluster::{Cluster, SimEvent};
use crate::faults::Weather;
use crate::mutants::Mutant;
use crate::seeded_rng::{MILLI, Micros, SECOND};
use crate::server::State;

/// Time after the last fault at which the operator begins to check: an automatic takeover comes first.
pub(crate) const OPERATOR_AFTER: Micros = 20 * SECOND;

/// End of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heal {
    Thaw { host: usize, life: u64 },
    StartAgent { host: usize },
    CrashAgentAgain { host: usize, life: u64 },
    StartGuard { host: usize },
    Boot { host: usize },
    Reconnect { host: usize },
    ThawGuard { host: usize, life: u64 },
    Mend { host: usize },
    Replay { host: usize },
    Writes { host: usize },
    StoreUp,
    Undelete,
}

impl Cluster {
    pub(crate) fn freeze(&mut self, host: usize, long: Micros) {
        self.log(|cluster| format!("{} agent freezes", cluster.hosts[host].node));
        self.hosts[host].frozen = true;
        let life = self.hosts[host].agent_life;
        self.after(long, SimEvent::Heal(Heal::Thaw { host, life }));
    }

    pub(crate) fn crash_agent(&mut self, host: usize) {
        self.hosts[host].end_agent();
        let keeps_crashing = self.now < self.hosts[host].agent_crashes_until;
        let longest = if keeps_crashing {
            SECOND
        } else {
            self.rng.pick(&[5, 20]) * SECOND
        };
        let wait = self.rng.between(100 * MILLI, longest);
        self.after(wait, SimEvent::Heal(Heal::StartAgent { host }));
    }

    /// Plans the next crash of an agent that keeps crashing: it runs long enough to resume its lease and renew.
    fn crash_agent_again(&mut self, host: usize) {
        if self.faults.calm || self.now >= self.hosts[host].agent_crashes_until {
            return;
        }
        let life = self.hosts[host].agent_life;
        let wait = self.rng.between(SECOND, 12 * SECOND);
        self.after(wait, SimEvent::Heal(Heal::CrashAgentAgain { host, life }));
    }

    pub(crate) fn freeze_guard_for(&mut self, host: usize, long: Micros) {
        self.freeze_guard(host);
        let life = self.hosts[host].guard_life;
        self.after(long, SimEvent::Heal(Heal::ThawGuard { host, life }));
    }

    /// Freezes guard and agent in the iteration in which guard has started a server that may write.
    pub(crate) fn freeze_guard_after_the_start(&mut self, host: usize) {
        if let Some(long) = self.hosts[host].guard_freezes_for.take() {
            self.freeze_guard_for(host, long);
            if self.hosts[host].agent.is_some() {
                self.freeze(host, long);
            }
        }
    }

    /// Ends guard, and PostgreSQL with it (PDEATHSIG, and the unit's cgroup).
    pub(crate) fn crash_guard(&mut self, host: usize, why: &str) {
        self.hosts[host].end_guard();
        if !self.is(Mutant::LetPostgresOutliveGuard) {
            self.kill(host, why);
        }
        let longest = self.rng.pick(&[3, 15]) * SECOND;
        let wait = self.rng.between(100 * MILLI, longest);
        self.after(wait, SimEvent::Heal(Heal::StartGuard { host }));
    }

    pub(crate) fn power_off(&mut self, host: usize, wait: Micros) {
        self.hosts[host].powered = false;
        self.hosts[host].end_agent();
        self.hosts[host].end_guard();
        self.end(host);
        self.after(wait, SimEvent::Heal(Heal::Boot { host }));
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
                    self.crash_agent_again(host);
                }
            }
            Heal::CrashAgentAgain { host, life } => {
                if self.hosts[host].agent_life == life {
                    self.crash_agent(host);
                }
            }
            Heal::StartGuard { host } => {
                if self.hosts[host].powered && self.hosts[host].guard.is_none() {
                    self.start_guard(host);
                }
            }
            Heal::Boot { host } => {
                let machine = &mut self.hosts[host];
                if machine.exists && !std::mem::replace(&mut machine.powered, true) {
                    self.hosts[host].boots += 1;
                    let now = self.now;
                    self.hosts[host].clocks.boot(now);
                    self.log(|cluster| format!("{} boots", cluster.hosts[host].node));
                    self.after(SECOND, SimEvent::Heal(Heal::StartGuard { host }));
                    let wait = self.rng.between(SECOND, 3 * SECOND);
                    self.after(wait, SimEvent::Heal(Heal::StartAgent { host }));
                }
            }
            Heal::Reconnect { host } => {
                self.hosts[host].cut_from_store = false;
                self.hosts[host].cut_from_peers = false;
            }
            Heal::ThawGuard { host, life } => self.thaw_guard(host, life),
            Heal::Mend { host } => self.hosts[host].broken = None,
            Heal::Replay { host } => self.replay_goes_on(host),
            Heal::Writes { host } => self.hosts[host].server.failure = None,
            Heal::StoreUp => self.faults.store_is_down = false,
            Heal::Undelete => self.store.undelete(),
        }
    }

    /// SIGCONT. Pending effects are executed first and in order; waiting events arrive in any order.
    fn thaw(&mut self, host: usize) {
        if !std::mem::replace(&mut self.hosts[host].frozen, false) {
            return;
        }
        self.log(|cluster| format!("{} agent thaws", cluster.hosts[host].node));
        self.hosts[host].service.agent_since = self.now;
        for what in std::mem::take(&mut self.hosts[host].waiting) {
            let goes_out = matches!(what, SimEvent::ExecuteEffects { .. });
            let wait = if goes_out {
                0
            } else {
                10 + self.rng.between(0, 3 * MILLI)
            };
            self.after(wait, what);
        }
    }

    /// Ends every fault, and injects no more.
    pub(crate) fn calm(&mut self) {
        self.log(|_| "calm".into());
        self.faults.calm = true;
        self.faults.weather = Weather::default();
        self.heal(Heal::StoreUp);
        self.heal(Heal::Undelete);
        self.remove_duplicate();
        for host in 0..self.hosts.len() {
            self.heal(Heal::Boot { host });
            self.heal(Heal::Reconnect { host });
            let life = self.hosts[host].guard_life;
            self.heal(Heal::ThawGuard { host, life });
            self.heal(Heal::StartGuard { host });
            self.heal(Heal::StartAgent { host });
            let life = self.hosts[host].agent_life;
            self.heal(Heal::Thaw { host, life });
            self.heal(Heal::Mend { host });
            self.heal(Heal::Replay { host });
            self.heal(Heal::Writes { host });
            let machine = &mut self.hosts[host];
            (machine.freezes_for, machine.guard_freezes_for) = (None, None);
            machine.server.hung = false;
        }
    }

    /// Commands a takeover as an operator where the design needs one: an agent reports that, and no node
    /// serves clients.
    pub(crate) fn run_operator(&mut self) {
        self.after(3 * SECOND, SimEvent::RunOperator);
        if self.hosts.iter().any(|host| host.server.serves()) {
            return;
        }
        let asks = |host: &usize| {
            let agent = self.hosts[*host].agent.as_ref();
            let problems = agent
                .map(|agent| agent.problems(self.instant(*host)))
                .unwrap_or_default();
            problems
                .iter()
                .any(|problem| problem.kind == ProblemKind::OperatorNeeded)
        };
        if !(0..self.hosts.len()).any(|host| asks(&host)) {
            return;
        }
        let candidates =
            (0..self.hosts.len()).filter(|host| self.hosts[*host].server.state == State::Following);
        let last = self
            .store
            .record()
            .and_then(|record| record.last_position)
            .map(|position| position.timeline);
        let worth = |host: &usize| {
            let log = &self.hosts[*host].server.log;
            (Some(log.timeline()) == last, log.end)
        };
        if let Some(best) = candidates.max_by_key(worth) {
            self.tally.commands += 1;
            self.command_take(best, FencingProof::LeaseExpired);
        }
    }
}
