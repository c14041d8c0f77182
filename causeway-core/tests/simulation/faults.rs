//! Fault injection: each history generates its own mixture of faults and rates, so that some faults occur
//! alone and often, and others together.

use causeway_core::agent::{FencingProof, WriteProbeFailure};

use crate::cloning::CLONE;
use crate::cluster::{Cluster, SimEvent};
use crate::healing::Heal;
use crate::host::FreezePoint;
use crate::postgres::{Broken, Replays};
use crate::seeded_rng::{MILLI, Micros, SECOND, SeededRng};
use crate::server::State;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGSTOP to the agent, and SIGCONT later: it continues with the waiting events.
    FreezeAgent,
    /// The same between a decision and its effects.
    FreezeBeforeTheAct,
    /// The same between the decision to start a crashed server and the start.
    FreezeBeforeTheStart,
    CrashAgent,
    /// The agent keeps crashing, each time soon after its start.
    KeepCrashingAgent,
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
    /// An operator stops the holder's instance and promotes another node without waiting.
    StopInstanceAndTake,
    /// SIGSTOP to guard, while PostgreSQL keeps running.
    FreezeGuard,
    FreezeAgentAndGuard,
    /// The same right after guard has started or promoted a server that may write.
    FreezeGuardAfterTheStart,
    /// Guard stays away until an operator restarts it.
    LoseGuard,
    /// No start succeeds until an operator has corrected the configuration.
    BreakConfiguration,
    /// Each start and promotion replays WAL for long, or stalls.
    ReplayForLong,
    /// A server that responds proves no write.
    FailWrites,
    /// A new host starts from an image or a snapshot of another's disk.
    CloneHost,
}

const FAULTS: [Fault; 26] = [
    Fault::FreezeAgent,
    Fault::FreezeBeforeTheAct,
    Fault::FreezeBeforeTheStart,
    Fault::CrashAgent,
    Fault::KeepCrashingAgent,
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
    Fault::FreezeGuard,
    Fault::FreezeAgentAndGuard,
    Fault::FreezeGuardAfterTheStart,
    Fault::LoseGuard,
    Fault::BreakConfiguration,
    Fault::ReplayForLong,
    Fault::FailWrites,
    Fault::CloneHost,
];

/// Faults of requests to the store, in cases of a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Requests that never arrive.
    pub(crate) lost: u64,
    /// Requests that take effect, with a lost response.
    pub(crate) answer_lost: u64,
    /// Requests or responses that take up to seconds.
    pub(crate) slow: u64,
    /// Writes that take effect long after their timeout.
    pub(crate) late: u64,
    /// Requests that a client library repeats, so that the response is that of the second attempt.
    pub(crate) repeated: u64,
    /// Writes with the response 409.
    pub(crate) conflict: u64,
    /// Whether an unreachable store rejects connections at once, instead of a timeout.
    pub(crate) refuses: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Faults {
    pub(crate) weather: Weather,
    pub(crate) store_is_down: bool,
    kinds: Vec<Fault>,
    /// Longest time from one fault to the next.
    pace: Micros,
    deleted_at: Option<Micros>,
    pub(crate) calm: bool,
}

impl Faults {
    pub(crate) fn generate(rng: &mut SeededRng, only: Option<&[Fault]>) -> Self {
        let share = rng.pick(&[100, 150, 300, 600, 1000]);
        let kinds = FAULTS
            .into_iter()
            .filter(|_| rng.in_thousand(share))
            .collect();
        let weather = Weather {
            lost: rng.pick(&[0, 0, 20, 200]),
            answer_lost: rng.pick(&[0, 0, 20, 200]),
            slow: rng.pick(&[0, 20, 400]),
            late: rng.pick(&[0, 20, 100]),
            repeated: rng.pick(&[0, 20, 200]),
            conflict: rng.pick(&[0, 10, 100]),
            refuses: rng.in_thousand(500),
        };
        Self {
            weather,
            store_is_down: false,
            kinds: only.map_or(kinds, <[Fault]>::to_vec),
            pace: rng.pick(&[2, 6, 15, 40]) * SECOND,
            deleted_at: None,
            calm: false,
        }
    }

    pub(crate) fn may_clone(&self) -> bool {
        !self.calm && self.kinds.contains(&Fault::CloneHost)
    }
}

impl Cluster {
    pub(crate) fn fault(&mut self) {
        if self.faults.calm || self.faults.kinds.is_empty() {
            return;
        }
        let wait = self.rng.between(100 * MILLI, self.faults.pace);
        self.after(wait, SimEvent::Fault);
        let kind = self.rng.pick(&self.faults.kinds);
        let host = self.victim();
        if !self.hosts[host].powered {
            return;
        }
        self.tally.faults += 1;
        self.log(|cluster| format!("{} fault: {kind:?}", cluster.hosts[host].node));
        self.inject(kind, host);
    }

    /// Returns the host for a fault: often the holder.
    fn victim(&mut self) -> usize {
        match self.holder() {
            Some(index) if self.rng.in_thousand(700) => index,
            _ => self.rng.pick(&[0, 0, 1, 1, 2, 2, CLONE]),
        }
    }

    fn inject(&mut self, kind: Fault, host: usize) {
        let long = self.duration();
        match kind {
            Fault::FreezeGuard
            | Fault::FreezeAgentAndGuard
            | Fault::FreezeGuardAfterTheStart
            | Fault::LoseGuard
            | Fault::CrashGuard => self.inject_on_guard(kind, host, long),
            Fault::CrashPostgres
            | Fault::HangPostgres
            | Fault::BreakConfiguration
            | Fault::ReplayForLong
            | Fault::FailWrites => self.inject_on_postgres(kind, host, long),
            Fault::FreezeAgent
            | Fault::FreezeBeforeTheAct
            | Fault::FreezeBeforeTheStart
            | Fault::CrashAgent
            | Fault::KeepCrashingAgent
            | Fault::CrashAgentAndGuard => self.inject_on_agent(kind, host, long),
            Fault::TakeByCommand | Fault::ReleaseByCommand | Fault::StopInstanceAndTake => {
                self.inject_command(kind, host, long);
            }
            Fault::RebootHost
            | Fault::CutFromStore
            | Fault::CutFromPeers
            | Fault::StoreOutage
            | Fault::DeleteLease
            | Fault::JumpWallClock
            | Fault::CloneHost => self.inject_on_environment(kind, host, long),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`inject` passes only the faults of this kind"
    )]
    fn inject_on_agent(&mut self, kind: Fault, host: usize, long: Micros) {
        match kind {
            Fault::FreezeAgent => {
                if self.hosts[host].agent.is_some() {
                    self.freeze(host, long);
                }
            }
            Fault::FreezeBeforeTheAct => {
                let before = self.rng.pick(&[FreezePoint::Write, FreezePoint::Start]);
                self.hosts[host].freezes_for = Some((before, long));
            }
            Fault::FreezeBeforeTheStart => {
                self.kill(host, "the postmaster crashes");
                self.hosts[host].freezes_for = Some((FreezePoint::Start, long));
            }
            Fault::CrashAgent => self.crash_agent(host),
            Fault::KeepCrashingAgent => {
                self.hosts[host].agent_crashes_until = self.now + 6 * long;
                self.crash_agent(host);
            }
            Fault::CrashAgentAndGuard => {
                self.crash_agent(host);
                self.crash_guard(host, "its guard died");
            }
            other => unreachable!("{other:?} is not a fault of the agent"),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`inject` passes only the faults of this kind"
    )]
    fn inject_on_guard(&mut self, kind: Fault, host: usize, long: Micros) {
        match kind {
            Fault::CrashGuard => self.crash_guard(host, "its guard died"),
            Fault::FreezeGuard => self.freeze_guard_for(host, long),
            Fault::FreezeAgentAndGuard => {
                self.freeze_guard_for(host, long);
                if self.hosts[host].agent.is_some() {
                    self.freeze(host, long);
                }
            }
            Fault::FreezeGuardAfterTheStart => {
                self.kill(host, "the postmaster crashes");
                self.hosts[host].guard_freezes_for = Some(long);
            }
            Fault::LoseGuard => {
                self.hosts[host].end_guard();
                self.kill(host, "its guard is gone");
            }
            other => unreachable!("{other:?} is not a fault of guard"),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`inject` passes only the faults of this kind"
    )]
    fn inject_on_postgres(&mut self, kind: Fault, host: usize, long: Micros) {
        match kind {
            Fault::CrashPostgres => self.kill(host, "the postmaster crashes"),
            Fault::HangPostgres => {
                let server = &mut self.hosts[host].server;
                if server.state != State::Ended && !server.hung {
                    server.hung = true;
                }
            }
            Fault::BreakConfiguration => {
                let broken = [
                    Broken::NoProcess,
                    Broken::EndsAtOnce,
                    Broken::EndsAfterReplay,
                ];
                self.hosts[host].broken = Some(self.rng.pick(&broken));
                if self.rng.in_thousand(700) {
                    self.kill(host, "it is restarted with a broken configuration");
                }
                let wait = self.rng.pick(&[long, 4 * long]);
                self.after(wait, SimEvent::Heal(Heal::Mend { host }));
            }
            Fault::ReplayForLong => {
                let replays = [Replays::Slowly, Replays::Slowly, Replays::NotAtAll];
                self.hosts[host].replays = Some(self.rng.pick(&replays));
                if self.rng.in_thousand(500) {
                    self.kill(host, "the postmaster crashes");
                }
                self.after(4 * long, SimEvent::Heal(Heal::Replay { host }));
            }
            Fault::FailWrites => {
                let failure = self.rng.pick(&[
                    WriteProbeFailure::Stalled,
                    WriteProbeFailure::NoConnectionLeft,
                    WriteProbeFailure::XidLimit,
                    WriteProbeFailure::DiskFull,
                    WriteProbeFailure::Error,
                ]);
                self.hosts[host].server.failure = Some(failure);
                self.after(long, SimEvent::Heal(Heal::Writes { host }));
            }
            other => unreachable!("{other:?} is not a fault of PostgreSQL"),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`inject` passes only the faults of this kind"
    )]
    fn inject_command(&mut self, kind: Fault, host: usize, long: Micros) {
        match kind {
            Fault::TakeByCommand => {
                if !self.hosts[host].frozen {
                    self.command_take(host, FencingProof::LeaseExpired);
                }
            }
            Fault::ReleaseByCommand => {
                if !self.hosts[host].frozen {
                    self.command_release(host);
                }
            }
            Fault::StopInstanceAndTake => {
                let old = self.holder();
                if let Some(old) = old.filter(|old| *old != host && self.hosts[*old].powered) {
                    self.power_off(old, long);
                    if !self.hosts[host].frozen {
                        self.command_take(host, FencingProof::OperatorAsserted);
                    }
                }
            }
            other => unreachable!("{other:?} is not a command"),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "`inject` passes only the faults of this kind"
    )]
    fn inject_on_environment(&mut self, kind: Fault, host: usize, long: Micros) {
        match kind {
            Fault::RebootHost => self.power_off(host, long),
            Fault::CutFromStore => {
                self.hosts[host].cut_from_store = true;
                self.after(long, SimEvent::Heal(Heal::Reconnect { host }));
            }
            Fault::CutFromPeers => {
                self.hosts[host].cut_from_peers = true;
                self.after(long, SimEvent::Heal(Heal::Reconnect { host }));
            }
            Fault::StoreOutage => {
                self.faults.store_is_down = true;
                self.after(long / 2, SimEvent::Heal(Heal::StoreUp));
            }
            Fault::DeleteLease => {
                // A second deletion while a write without a version is still in transit is outside the
                // fault model: the longest such write takes 20 s.
                let again = self.faults.deleted_at;
                if again.is_none_or(|deleted_at| self.now > deleted_at + 45 * SECOND) {
                    self.faults.deleted_at = Some(self.now);
                    self.store.delete();
                    let restored_after = self.rng.between(10 * SECOND, 40 * SECOND);
                    self.after(restored_after, SimEvent::Heal(Heal::Undelete));
                }
            }
            Fault::JumpWallClock => {
                let by = self.rng.between(500 * MILLI, 7200 * SECOND);
                let wall = &mut self.hosts[host].clocks.wall_ahead;
                *wall = if self.rng.in_thousand(700) {
                    *wall + by
                } else {
                    wall.saturating_sub(by)
                };
            }
            Fault::CloneHost => self.clone_host(),
            other => unreachable!("{other:?} is not a fault of the environment"),
        }
    }

    /// Returns the duration of a fault: short, about the lease duration, or long.
    fn duration(&mut self) -> Micros {
        let (least, most) = self.rng.pick(&[
            (100, 2_000),
            (2_000, 8_000),
            (8_000, 15_000),
            (10_000, 20_000),
            (14_000, 45_000),
        ]);
        self.rng.between(least * MILLI, most * MILLI)
    }
}
