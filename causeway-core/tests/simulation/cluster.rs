//! The simulated cluster: its queue of events, and their processing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use causeway_core::HostInstant;
use causeway_core::agent::{AgentEvent, WriteProbeFailure};
use causeway_core::failover::observation::DataDirectoryState;

use crate::cloning::{CLONE, Snapshot};
use crate::faults::{Fault, Faults};
use crate::healing::{Heal, OPERATOR_AFTER};
use crate::host::Host;
use crate::invariants::{Invariants, Violation};
use crate::mutants::Mutant;
use crate::network::LeaseRequest;
use crate::seeded_rng::{MILLI, Micros, SECOND, SeededRng};
use crate::server::{MOST_WRITTEN, Server, State};
use crate::shell::Effects;
use crate::store::{Store, first_record};
use crate::wal::Acknowledged;

/// Duration of fault injection, and of the recovery after it.
pub(crate) const FAULT_PHASE: Micros = 65 * SECOND;
pub(crate) const RECOVERY_PHASE: Micros = 60 * SECOND;

#[derive(Debug)]
pub(crate) enum SimEvent {
    /// One iteration of an agent's loop.
    Tick {
        host: usize,
        life: u64,
    },
    /// An event reaches an agent.
    Deliver {
        host: usize,
        life: u64,
        delivery: Box<Delivery>,
    },
    /// The effects of an agent's decision are executed.
    ExecuteEffects {
        host: usize,
        life: u64,
        effects: Box<Effects>,
    },
    /// A request reaches the store.
    Arrive(Box<LeaseRequest>),
    /// One iteration of a guard's loop.
    GuardTick {
        host: usize,
        life: u64,
    },
    /// PostgreSQL reaches a state.
    Reach {
        host: usize,
        life: u64,
        state: State,
    },
    /// PostgreSQL has stopped.
    EndNow {
        host: usize,
        life: u64,
    },
    /// The time to drain has passed.
    KillNow {
        host: usize,
        life: u64,
    },
    /// Guard's supervisor has waited for the time that guard announced.
    Supervise {
        host: usize,
        life: u64,
    },
    /// `pg_rewind` has finished.
    Rewound {
        host: usize,
        life: u64,
    },
    /// Clients write and standbys receive.
    Stream,
    Fault,
    Heal(Heal),
    EndFaults,
    /// An operator checks whether a command is needed.
    RunOperator,
}

#[derive(Debug)]
pub(crate) enum Delivery {
    Now(AgentEvent),
    /// The response to a request, or its timeout; the first one counts.
    Answer {
        id: u64,
        event: AgentEvent,
    },
}

/// Counters of a history, by which a test checks that every property is exercised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) faults: u32,
    pub(crate) promotions: u32,
    pub(crate) ended_by_guard: u32,
    pub(crate) ended_by_agent: u32,
    pub(crate) ended_by_supervisor: u32,
    pub(crate) commands: u32,
    pub(crate) epochs: u64,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) now: Micros,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(crate) rng: SeededRng,
    pub(crate) faults: Faults,
    pub(crate) store: Store,
    pub(crate) hosts: Vec<Host>,
    pub(crate) invariants: Invariants,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) tally: Tally,
    pub(crate) requests: u64,
    /// Last time at which clients were served, or an agent reported why they are not.
    pub(crate) quiet_since: Micros,
    pub(crate) acknowledged: Acknowledged,
    /// The host that recorded the position in the lease.
    pub(crate) last_primary: Option<usize>,
    pub(crate) snapshot: Option<Snapshot>,
    history: Option<Vec<String>>,
}

impl Cluster {
    /// Returns the cluster of history `seed`, in which any fault may be injected, or `only` these.
    pub(crate) fn new(seed: u64, only: Option<&'static [Fault]>, mutant: Option<Mutant>) -> Self {
        let mut rng = SeededRng::new(seed);
        let faults = Faults::generate(&mut rng, only);
        let c_is_automatic = rng.in_thousand(300);
        let mut hosts = vec![
            Host::new("a", DataDirectoryState::Primary, true, &mut rng),
            Host::new("b", DataDirectoryState::Standby, true, &mut rng),
            Host::new("c", DataDirectoryState::Standby, c_is_automatic, &mut rng),
            Host::new("a", DataDirectoryState::Standby, true, &mut rng),
        ];
        hosts[CLONE].host_id = "clone-of-a".into();
        (hosts[CLONE].exists, hosts[CLONE].powered) = (false, false);
        if let Some(mutant) = mutant {
            for host in &mut hosts {
                mutant.set(&mut host.settings);
            }
        }
        let members = hosts[..CLONE]
            .iter()
            .map(|host| host.node.clone())
            .collect();
        let mut cluster = Self {
            now: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            rng,
            faults,
            store: Store::holding(first_record(members)),
            hosts,
            invariants: Invariants::default(),
            mutant,
            tally: Tally::default(),
            requests: 0,
            quiet_since: 0,
            acknowledged: Acknowledged::default(),
            last_primary: None,
            snapshot: None,
            history: None,
        };
        for host in 0..CLONE {
            cluster.start_guard(host);
            cluster.start_agent(host);
        }
        cluster.after(0, SimEvent::Stream);
        cluster.after(5 * SECOND, SimEvent::Fault);
        cluster.after(FAULT_PHASE, SimEvent::EndFaults);
        cluster.after(FAULT_PHASE + OPERATOR_AFTER, SimEvent::RunOperator);
        cluster
    }

    /// Records the history as text, which takes time.
    pub(crate) fn recorded(mut self) -> Self {
        self.history = Some(Vec::new());
        self
    }

    /// Runs to the end, or to the first violation.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > FAULT_PHASE + RECOVERY_PHASE {
                break;
            }
            self.now = next.at;
            self.process(next.what);
            self.invariants.check(&self.hosts)?;
        }
        self.tally.epochs = self.store.record().map_or(0, |record| record.epoch.get());
        self.check_service()
    }

    pub(crate) fn history(&self) -> &[String] {
        self.history.as_deref().unwrap_or_default()
    }

    pub(crate) fn log(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.history.is_none() {
            return;
        }
        let line = format!("{:11.6} {}", seconds(self.now), line(self));
        if let Some(history) = &mut self.history {
            history.push(line);
        }
    }

    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn after(&mut self, wait: Micros, what: SimEvent) {
        self.planned += 1;
        self.queue.push(Reverse(Planned {
            at: self.now + wait,
            order: self.planned,
            what,
        }));
    }

    /// Returns the readings of a host's clocks.
    pub(crate) fn instant(&self, host: usize) -> HostInstant {
        let clocks = &self.hosts[host].clocks;
        if self.is(Mutant::TrustASlewedClock) {
            return clocks.slewed(self.now);
        }
        clocks.instant(self.now)
    }

    fn process(&mut self, what: SimEvent) {
        match what {
            SimEvent::Tick { host, life } => {
                if self.runs(host, life) {
                    if self.hosts[host].frozen {
                        self.hosts[host].waiting.push(SimEvent::Tick { host, life });
                    } else {
                        self.tick(host);
                        self.after(100 * MILLI, SimEvent::Tick { host, life });
                    }
                }
            }
            SimEvent::Deliver {
                host,
                life,
                delivery,
            } => {
                if self.runs(host, life) {
                    if self.hosts[host].frozen {
                        let delivery = SimEvent::Deliver {
                            host,
                            life,
                            delivery,
                        };
                        self.hosts[host].waiting.push(delivery);
                    } else {
                        self.deliver(host, *delivery);
                    }
                }
            }
            SimEvent::ExecuteEffects {
                host,
                life,
                effects,
            } => {
                if self.runs(host, life) {
                    if self.hosts[host].frozen {
                        let execution = SimEvent::ExecuteEffects {
                            host,
                            life,
                            effects,
                        };
                        self.hosts[host].waiting.push(execution);
                    } else {
                        self.execute_effects(host, *effects);
                    }
                }
            }
            SimEvent::Arrive(request) => self.arrive(&request),
            SimEvent::GuardTick { host, life } => self.tick_guard(host, life),
            SimEvent::Reach { host, life, state } => self.reach(host, life, state),
            SimEvent::EndNow { host, life } => self.end_now(host, life),
            SimEvent::KillNow { host, life } => {
                if self.hosts[host].server.life == life {
                    self.kill(host, "it did not end in time");
                }
            }
            SimEvent::Supervise { host, life } => self.supervise(host, life),
            SimEvent::Rewound { host, life } => self.rewound(host, life),
            SimEvent::Stream => self.stream(),
            SimEvent::Fault => self.fault(),
            SimEvent::Heal(heal) => self.heal(heal),
            SimEvent::EndFaults => self.calm(),
            SimEvent::RunOperator => self.run_operator(),
        }
    }

    fn runs(&self, host: usize, life: u64) -> bool {
        let host = &self.hosts[host];
        host.agent.is_some() && host.agent_life == life
    }

    /// Lets clients write and standbys receive for a tenth of a second.
    fn stream(&mut self) {
        for host in 0..self.hosts.len() {
            self.write(host);
        }
        let sources: Vec<Option<Server>> = (self.hosts.iter())
            .map(|host| {
                let sends = host.server.state == State::Writable && !host.cut_from_peers;
                sends.then(|| host.server.clone())
            })
            .collect();
        for (index, host) in self.hosts.iter_mut().enumerate() {
            let server = &mut host.server;
            let follows = server.follows.filter(|source| *source != index);
            let Some(source) = follows.and_then(|source| sources[source].as_ref()) else {
                continue;
            };
            let streams = server.state == State::Following && !host.cut_from_peers;
            if streams && server.log.leads_to(&source.log) && !self.rng.in_thousand(100) {
                server.log = source.log.clone();
                server.histories.receive(&source.histories);
            }
        }
        self.note_service();
        if self.faults.may_clone() && self.rng.in_thousand(20) {
            self.take_snapshot();
        }
        self.after(100 * MILLI, SimEvent::Stream);
    }

    /// Lets clients write on a primary. Commits that it holds back are written too.
    fn write(&mut self, host: usize) {
        let server = &mut self.hosts[host].server;
        let runs = server.state == State::Writable && server.answers();
        let fails = server
            .failure
            .is_some_and(|failure| failure != WriteProbeFailure::NoConnectionLeft);
        if !runs || fails {
            return;
        }
        server.log.end += self.rng.between(1, MOST_WRITTEN);
        let timeline = server.log.timeline();
        self.invariants.wrote(timeline, host);
        self.note_acknowledged(host);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a history lasts two minutes")]
pub(crate) fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}

/// A planned event. Events of one instant are processed in the order in which they were planned.
#[derive(Debug)]
struct Planned {
    at: Micros,
    order: u64,
    what: SimEvent,
}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Planned {}
