//! Transitions of PostgreSQL over time: start, replay, promotion and end.

use causeway_core::Timeline;
use causeway_core::agent::{Commits, WriteProbeFailure};
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::guard;

use crate::cluster::{Cluster, SimEvent};
use crate::mutants::Mutant;
use crate::seeded_rng::{MILLI, Micros, SECOND};
use crate::server::{Replay, State};

/// Reason why no start succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// No process starts: the program is missing, or its configuration is rejected.
    NoProcess,
    /// It ends at once.
    EndsAtOnce,
    /// It replays for seconds, and then fails at a record that it cannot replay.
    EndsAfterReplay,
}

/// Speed of a long replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replays {
    Slowly,
    NotAtAll,
}

impl Cluster {
    pub(crate) fn start_primary(&mut self, host: usize, commits: Commits) {
        let wait = self.slowness(20 * MILLI, 4 * SECOND);
        let (state, then) = (State::StartingPrimary, State::Writable);
        self.start(host, state, then, commits, wait);
    }

    pub(crate) fn start_standby(&mut self, host: usize) {
        let wait = self.slowness(100 * MILLI, 3 * SECOND);
        let commits = if self.is(Mutant::AcknowledgeBeforeOpen) {
            Commits::Acknowledged
        } else {
            Commits::HeldBack
        };
        let (state, then) = (State::StartingStandby, State::Following);
        self.start(host, state, then, commits, wait);
    }

    fn start(&mut self, host: usize, state: State, then: State, commits: Commits, wait: Micros) {
        let leave_placeholders = self.is(Mutant::LeavePlaceholdersBehind);
        let server = &mut self.hosts[host].server;
        server.attempt();
        if !leave_placeholders {
            server.histories.remove_dangling();
        }
        self.hosts[host].starts_since_proof += 1;
        let broken = self.hosts[host].broken;
        if broken == Some(Broken::NoProcess) {
            self.log(|cluster| format!("{} server cannot be started", cluster.hosts[host].node));
            return;
        }
        let server = &mut self.hosts[host].server;
        server.start(state, commits);
        let life = server.life;
        self.log(|cluster| format!("{} server is {state:?}", cluster.hosts[host].node));
        if broken.is_some() {
            let mut wait = self.rng.between(50 * MILLI, 200 * MILLI);
            if broken == Some(Broken::EndsAfterReplay) {
                wait = self.rng.between(SECOND, 12 * SECOND);
                self.replay(host, true);
            }
            self.after(wait, SimEvent::EndNow { host, life });
            return;
        }
        let waits_for_ever =
            state == State::StartingStandby && self.hosts[host].server.histories.are_dangling();
        if waits_for_ever {
            self.log(|cluster| {
                format!(
                    "{} waits for WAL that no primary wrote",
                    cluster.hosts[host].node
                )
            });
            self.replay(host, false);
            return;
        }
        self.advance(host, wait, then);
    }

    pub(crate) fn promote(&mut self, host: usize, timeline: Timeline) {
        self.log(|cluster| format!("{} promotes, {timeline} reserved", cluster.hosts[host].node));
        let reuse = self.is(Mutant::ReuseATimeline);
        let server = &mut self.hosts[host].server;
        if !reuse {
            let own = server.log.timeline();
            server.histories.reserve(own, timeline);
        }
        // The postmaster stays the same, so pending events still apply to it.
        server.state = State::Promoting(timeline);
        let wait = self.slowness(50 * MILLI, 6 * SECOND);
        self.advance(host, wait, State::Writable);
    }

    /// Plans that a server reaches `then` after its replay.
    fn advance(&mut self, host: usize, wait: Micros, then: State) {
        let (life, state) = (self.hosts[host].server.life, then);
        let wait = match self.hosts[host].replays {
            Some(Replays::NotAtAll) => {
                self.replay(host, false);
                return;
            }
            Some(Replays::Slowly) => {
                self.replay(host, true);
                self.rng.between(10 * SECOND, 90 * SECOND)
            }
            None => wait,
        };
        self.after(wait, SimEvent::Reach { host, life, state });
    }

    fn replay(&mut self, host: usize, advances: bool) {
        let since = self.now;
        self.hosts[host].server.replay = Some(Replay { since, advances });
    }

    /// Ends a long replay, so that the server reaches its next state.
    pub(crate) fn replay_goes_on(&mut self, host: usize) {
        self.hosts[host].replays = None;
        let server = &self.hosts[host].server;
        let dangles = server.state == State::StartingStandby && server.histories.are_dangling();
        if server.replay.is_none() || dangles {
            return;
        }
        let state = match server.state {
            State::StartingStandby => State::Following,
            State::StartingPrimary | State::Promoting(_) => State::Writable,
            State::Ended | State::Following | State::Writable => return,
        };
        let life = server.life;
        let wait = self.rng.between(100 * MILLI, 3 * SECOND);
        self.after(wait, SimEvent::Reach { host, life, state });
    }

    fn slowness(&mut self, least: u64, most: u64) -> u64 {
        if self.rng.in_thousand(200) {
            self.rng.between(least, most)
        } else {
            self.rng.between(least, 5 * least)
        }
    }

    pub(crate) fn reach(&mut self, host: usize, life: u64, state: State) {
        let server = &mut self.hosts[host].server;
        // A postmaster that got SIGINT during its start, or was killed, reaches no further state. A promotion
        // continues in the startup process until the sweep kills it.
        let promotes = matches!(server.state, State::Promoting(_));
        if server.life != life || server.stopping || (server.dying && !promotes) {
            return;
        }
        let comes_from = match state {
            State::Following => server.state == State::StartingStandby,
            State::Writable => promotes || server.state == State::StartingPrimary,
            State::Ended
            | State::StartingPrimary
            | State::StartingStandby
            | State::Promoting(_) => false,
        };
        if !comes_from {
            return;
        }
        if let State::Promoting(reserved) = server.state {
            self.begin_timeline(host, reserved);
            self.hosts[host].server.directory = DataDirectoryState::Primary;
        }
        self.hosts[host].server.reach(state);
        self.log(|cluster| {
            let host = &cluster.hosts[host];
            let (timeline, end) = (host.server.log.timeline(), host.server.log.end);
            format!(
                "{} server is {state:?}, timeline {timeline}, up to {end}",
                host.node
            )
        });
        self.note_acknowledged(host);
    }

    fn begin_timeline(&mut self, host: usize, reserved: Timeline) {
        let timeline = self.hosts[host].server.begin_timeline();
        self.tally.promotions += 1;
        let node = self.hosts[host].node.clone();
        self.invariants.began(timeline, reserved, &node);
    }

    /// SIGINT: the server stops, or a walsender or the archiver keeps it running.
    pub(crate) fn interrupt(&mut self, host: usize) {
        let server = &mut self.hosts[host].server;
        if server.state == State::Ended || std::mem::replace(&mut server.stopping, true) {
            return;
        }
        let life = server.life;
        let hangs = self.rng.in_thousand(500) || server.hung;
        self.log(|cluster| format!("{} server gets SIGINT", cluster.hosts[host].node));
        if !hangs {
            let wait = self.rng.between(20 * MILLI, 3 * SECOND);
            self.after(wait, SimEvent::EndNow { host, life });
        }
    }

    /// SIGKILL, and the sweep until no process is left.
    pub(crate) fn kill(&mut self, host: usize, why: &str) {
        let server = &mut self.hosts[host].server;
        if server.state == State::Ended || std::mem::replace(&mut server.dying, true) {
            return;
        }
        let life = server.life;
        let stalls =
            server.failure == Some(WriteProbeFailure::Stalled) && self.rng.in_thousand(300);
        self.log(|cluster| format!("{} server is killed: {why}", cluster.hosts[host].node));
        let longest = if self.is(Mutant::LeaveBackendsBehind) {
            6 * SECOND
        } else {
            SECOND / 2
        };
        let some = self.rng.between(10 * MILLI, longest);
        let mut wait = self.rng.pick(&[some, longest]);
        if stalls {
            self.hosts[host].server.silenced = true;
            wait = self.rng.between(SECOND, 20 * SECOND);
        }
        self.after(wait, SimEvent::EndNow { host, life });
    }

    pub(crate) fn end_now(&mut self, host: usize, life: u64) {
        if self.hosts[host].server.life == life {
            self.end(host);
        }
    }

    /// Ends every process of PostgreSQL. A promotion may be interrupted at any point.
    pub(crate) fn end(&mut self, host: usize) {
        if self.hosts[host].server.seen_by_guard() == guard::PostgresProcess::Stopped {
            return;
        }
        if let State::Promoting(reserved) = self.hosts[host].server.state {
            let (began, done) = self
                .rng
                .pick(&[(false, false), (true, false), (true, true)]);
            if began {
                // The first segment of the new timeline exists before its history file does.
                self.begin_timeline(host, reserved);
            }
            self.hosts[host].server.directory = if done {
                DataDirectoryState::Primary
            } else {
                DataDirectoryState::Standby
            };
        }
        self.hosts[host].server.end();
        self.log(|cluster| format!("{} server has ended", cluster.hosts[host].node));
    }
}
