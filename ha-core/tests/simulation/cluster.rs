//! The simulated world: what happens next, and how a message gets from one place to another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use ha_core::agent::Event;
use ha_core::failover::observation::Directory;
use ha_core::lease::{FORMAT, Holder, LeaseRecord, LeaseState, Nonces};
use ha_core::{Epoch, Moment, NodeId, Timeline};

use crate::chance::{Chance, MILLI, Micros, SECOND};
use crate::faults::{Fault, Faults, Heal};
use crate::host::Host;
use crate::invariants::{Invariants, Violation};
use crate::mistakes::Mistake;
use crate::network::Request;
use crate::server::{SYSTEM, Server, State};
use crate::shell::Effects;

/// For how long things go wrong, and for how long nothing does after that.
pub(crate) const STORM: Micros = 65 * SECOND;
pub(crate) const CALM: Micros = 60 * SECOND;

#[derive(Debug)]
pub(crate) enum What {
    /// An agent's loop turns.
    Tick {
        host: usize,
        life: u64,
    },
    /// Something reaches an agent.
    Tell {
        host: usize,
        life: u64,
        told: Box<Told>,
    },
    /// What an agent decided leaves it.
    Carry {
        host: usize,
        life: u64,
        effects: Box<Effects>,
    },
    /// A request reaches the store.
    Arrive(Box<Request>),
    /// A guard's loop turns.
    Turn {
        host: usize,
        life: u64,
    },
    /// A PostgreSQL has come to where it was going.
    Reach {
        host: usize,
        life: u64,
        state: State,
    },
    /// The time to end by itself is over.
    EndNow {
        host: usize,
        life: u64,
    },
    /// `pg_rewind` is done.
    Rewound {
        host: usize,
        life: u64,
    },
    /// Clients write and standbys receive.
    Stream,
    Fault,
    Heal(Heal),
    Calm,
}

#[derive(Debug)]
pub(crate) enum Told {
    Now(Event),
    /// The answer to a request, or that it was given up; whichever comes first counts.
    Answer {
        id: u64,
        event: Event,
    },
}

/// How much happened, so that a property which nothing tests is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) faults: u32,
    pub(crate) promotions: u32,
    pub(crate) ended_by_guard: u32,
    pub(crate) ended_by_agent: u32,
    pub(crate) epochs: u64,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) now: Micros,
    queue: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    pub(crate) chance: Chance,
    pub(crate) faults: Faults,
    pub(crate) store: crate::store::Store,
    pub(crate) hosts: Vec<Host>,
    pub(crate) invariants: Invariants,
    pub(crate) mistake: Option<Mistake>,
    pub(crate) tally: Tally,
    pub(crate) requests: u64,
    history: Option<Vec<String>>,
}

impl Cluster {
    /// Returns the world of history `seed`, in which any fault may happen, or `only` these.
    pub(crate) fn new(seed: u64, only: Option<&'static [Fault]>, mistake: Option<Mistake>) -> Self {
        let mut chance = Chance::new(seed);
        let faults = Faults::draw(&mut chance, only);
        let c_is_automatic = chance.in_thousand(300);
        let mut hosts = vec![
            Host::new("a", Directory::Primary, true, &mut chance),
            Host::new("b", Directory::Standby, true, &mut chance),
            Host::new("c", Directory::Standby, c_is_automatic, &mut chance),
        ];
        if let Some(mistake) = mistake {
            for host in &mut hosts {
                mistake.set(&mut host.settings);
            }
        }
        let members = hosts.iter().map(|it| it.node.clone()).collect();
        let mut cluster = Self {
            now: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            chance,
            faults,
            store: crate::store::Store::holding(first_record(members)),
            hosts,
            invariants: Invariants::default(),
            mistake,
            tally: Tally::default(),
            requests: 0,
            history: None,
        };
        for host in 0..cluster.hosts.len() {
            cluster.start_guard(host);
            cluster.start_agent(host);
        }
        cluster.after(0, What::Stream);
        cluster.after(5 * SECOND, What::Fault);
        cluster.after(STORM, What::Calm);
        cluster
    }

    /// Keeps a history, which takes time.
    pub(crate) fn recorded(mut self) -> Self {
        self.history = Some(Vec::new());
        self
    }

    /// Runs to the end, or to the first instant at which something does not hold.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > STORM + CALM {
                break;
            }
            self.now = next.at;
            self.happen(next.what);
            self.invariants.check(&self.hosts)?;
        }
        self.tally.epochs = self.store.record().map_or(0, |it| it.epoch.get());
        Invariants::check_service(&self.hosts)
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

    pub(crate) fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    pub(crate) fn after(&mut self, wait: Micros, what: What) {
        self.planned += 1;
        self.queue.push(Reverse(Planned {
            at: self.now + wait,
            order: self.planned,
            what,
        }));
    }

    /// Returns what the clocks of a host show to its processes.
    pub(crate) fn moment(&self, host: usize) -> Moment {
        let clocks = &self.hosts[host].clocks;
        if self.is(Mistake::BelieveASlewedClock) {
            return clocks.slewed(self.now);
        }
        clocks.moment(self.now)
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Tick { host, life } => {
                if self.runs(host, life) {
                    if self.hosts[host].frozen {
                        self.hosts[host].waiting.push(What::Tick { host, life });
                    } else {
                        self.tick(host);
                        self.after(100 * MILLI, What::Tick { host, life });
                    }
                }
            }
            What::Tell { host, life, told } => {
                if self.runs(host, life) {
                    if self.hosts[host].frozen {
                        let told = What::Tell { host, life, told };
                        self.hosts[host].waiting.push(told);
                    } else {
                        self.tell(host, *told);
                    }
                }
            }
            What::Carry {
                host,
                life,
                effects,
            } => {
                if self.runs(host, life) {
                    if self.hosts[host].frozen {
                        let carried = What::Carry {
                            host,
                            life,
                            effects,
                        };
                        self.hosts[host].waiting.push(carried);
                    } else {
                        self.carry(host, *effects);
                    }
                }
            }
            What::Arrive(request) => self.arrive(&request),
            What::Turn { host, life } => self.turn_guard(host, life),
            What::Reach { host, life, state } => self.reach(host, life, state),
            What::EndNow { host, life } => self.end_now(host, life),
            What::Rewound { host, life } => self.rewound(host, life),
            What::Stream => self.stream(),
            What::Fault => self.fault(),
            What::Heal(heal) => self.heal(heal),
            What::Calm => self.calm(),
        }
    }

    fn runs(&self, host: usize, life: u64) -> bool {
        let host = &self.hosts[host];
        host.agent.is_some() && host.agent_life == life
    }

    /// Lets clients write and standbys receive, a tenth of a second's worth.
    fn stream(&mut self) {
        let sources: Vec<Option<Server>> = (self.hosts.iter())
            .map(|it| (it.server.acknowledges() && !it.cut_from_peers).then(|| it.server.clone()))
            .collect();
        for (index, host) in self.hosts.iter_mut().enumerate() {
            let server = &mut host.server;
            if server.acknowledges() && server.answers() {
                server.log.end += self.chance.between(1, 400);
            }
            let follows = server.follows.filter(|it| *it != index);
            let Some(source) = follows.and_then(|it| sources[it].as_ref()) else {
                continue;
            };
            let streams = server.state == State::Following && !host.cut_from_peers;
            if streams && server.log.leads_to(&source.log) && !self.chance.in_thousand(100) {
                server.log = source.log.clone();
                server.newest_history = server.newest_history.max(source.newest_history);
            }
        }
        self.after(100 * MILLI, What::Stream);
    }
}

/// The record that `init` writes: node a is to be the primary.
fn first_record(members: Vec<NodeId>) -> LeaseRecord {
    LeaseRecord {
        format: FORMAT,
        cluster: "causeway".into(),
        system_id: SYSTEM,
        epoch: Epoch::new(1),
        sequence: 1,
        nonce: Nonces::new(0).draw(),
        holder: Holder {
            node: members[0].clone(),
            host_id: String::new(),
            boot_id: "init".into(),
        },
        state: LeaseState::Released,
        position: None,
        last_primary: None,
        highest_timeline: Timeline::FIRST,
        synchronous_standby: None,
        members,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a history lasts two minutes")]
pub(crate) fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}

/// Something that will happen; what was planned first happens first at the same instant.
#[derive(Debug)]
struct Planned {
    at: Micros,
    order: u64,
    what: What,
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
