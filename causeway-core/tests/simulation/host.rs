//! A simulated host: its clocks, disk, agent, guard and PostgreSQL.

use std::collections::BTreeSet;
use std::time::Duration;

use causeway_core::agent::{Agent, AgentConfig, AgentIdentity, LocalObservation};
use causeway_core::failover::decision::FailoverPolicy;
use causeway_core::failover::observation::DataDirectoryState;
use causeway_core::guard::{Guard, GuardDeadline};
use causeway_core::lease::LeaseTiming;
use causeway_core::{Epoch, HostInstant, NodeId, Timeline};

use crate::cluster::SimEvent;
use crate::guarding::Message;
use crate::liveness::Service;
use crate::postgres::{Broken, Replays};
use crate::seeded_rng::{Micros, SECOND, SeededRng};
use crate::server::Server;

/// Effect before which an agent is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FreezePoint {
    Write,
    Start,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fault")]
pub(crate) struct Host {
    pub(crate) node: NodeId,
    /// Identity of the host, which its clone does not have.
    pub(crate) host_id: String,
    /// Whether the host exists: the clone appears later, or never.
    pub(crate) exists: bool,
    pub(crate) automatic: bool,
    pub(crate) settings: AgentConfig,
    pub(crate) clocks: Clocks,
    pub(crate) boots: u32,
    pub(crate) powered: bool,
    /// Highest record, as stored by `StoreHighest`.
    pub(crate) remembered: (Epoch, u64),

    pub(crate) agent: Option<Agent>,
    /// Number of the agent, so that a response to one does not reach the next.
    pub(crate) agent_life: u64,
    pub(crate) frozen: bool,
    /// End of the time in which it crashes soon after each start.
    pub(crate) agent_crashes_until: Micros,
    /// Effect before which it will be frozen, and for how long.
    pub(crate) freezes_for: Option<(FreezePoint, Micros)>,
    /// Timeline that guard found in use and reported to the agent.
    pub(crate) taken_timeline: Option<Timeline>,
    /// Last observation, for a mutant that keeps using it.
    pub(crate) last_observation: Option<LocalObservation>,
    /// Events and effects that wait while the agent is frozen.
    pub(crate) waiting: Vec<SimEvent>,
    /// Requests without a response or a timeout.
    pub(crate) pending: BTreeSet<u64>,
    pub(crate) observing: bool,
    /// Time of the agent's last effects, which stay in order.
    pub(crate) sent_at: Micros,
    /// Last deadline and its delay, for a mutant that adds it.
    pub(crate) counted: Option<(GuardDeadline, Duration)>,

    pub(crate) guard: Option<Guard>,
    pub(crate) guard_life: u64,
    pub(crate) guard_frozen_at: Option<Micros>,
    /// Time for which guard and agent will be frozen after a start or a promotion.
    pub(crate) guard_freezes_for: Option<Micros>,
    /// Messages that wait while guard is frozen.
    pub(crate) guard_waiting: Vec<Message>,
    /// Time of guard's last announcement to its supervisor, and the announced end.
    pub(crate) announced_at: Micros,
    pub(crate) announced_until: Micros,

    pub(crate) server: Server,
    pub(crate) broken: Option<Broken>,
    pub(crate) replays: Option<Replays>,
    /// Number of starts since the last proven write.
    pub(crate) starts_since_proof: u32,
    pub(crate) service: Service,
    /// Epoch that a command had this node take. The write may arrive after its agent has ended.
    pub(crate) commanded: Option<Epoch>,
    /// Data loss stated when this node took the lease, in bytes.
    pub(crate) stated_loss: u64,

    pub(crate) cut_from_store: bool,
    pub(crate) cut_from_peers: bool,
    /// Current second, and the number of requests sent in it.
    pub(crate) requests: (u64, u32),
}

impl Host {
    pub(crate) fn new(
        name: &str,
        directory: DataDirectoryState,
        automatic: bool,
        rng: &mut SeededRng,
    ) -> Self {
        let settings = AgentConfig {
            timing: LeaseTiming::default(),
            policy: FailoverPolicy {
                lease_duration: LeaseTiming::default().lease_duration,
                automatic,
                region_nodes: region_of(name)
                    .iter()
                    .map(|name| name.parse().unwrap())
                    .collect(),
                max_loss_bytes: 16 << 10,
                peer_preference_timeout: Duration::from_secs(2),
            },
            write_probe_timeout: Duration::from_secs(5),
            write_stall_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(15),
            max_restarts_per_minute: 3,
        };
        Self {
            node: name.parse().unwrap(),
            host_id: format!("host-{name}"),
            exists: true,
            automatic,
            settings,
            clocks: Clocks::new(rng),
            boots: 1,
            powered: true,
            remembered: (Epoch::new(0), 0),
            agent: None,
            agent_life: 0,
            frozen: false,
            agent_crashes_until: 0,
            freezes_for: None,
            taken_timeline: None,
            last_observation: None,
            waiting: Vec::new(),
            pending: BTreeSet::new(),
            observing: false,
            sent_at: 0,
            counted: None,
            guard: None,
            guard_life: 0,
            guard_frozen_at: None,
            guard_freezes_for: None,
            guard_waiting: Vec::new(),
            announced_at: 0,
            announced_until: 0,
            server: Server::new(directory),
            broken: None,
            replays: None,
            starts_since_proof: 0,
            service: Service::default(),
            commanded: None,
            stated_loss: 0,
            cut_from_store: false,
            cut_from_peers: false,
            requests: (0, 0),
        }
    }

    pub(crate) fn boot_id(&self) -> String {
        format!("{}-{}", self.host_id, self.boots)
    }

    pub(crate) fn start_agent(&mut self, members: Vec<NodeId>, seed: u64) {
        let identity = AgentIdentity {
            cluster: "causeway".into(),
            node: self.node.clone(),
            host_id: self.host_id.clone(),
            boot_id: self.boot_id(),
            members,
        };
        let agent = Agent::new(
            identity,
            self.settings.clone(),
            self.remembered,
            seed.into(),
        );
        self.agent = Some(agent);
        self.agent_life += 1;
    }

    pub(crate) fn end_agent(&mut self) {
        self.agent = None;
        self.agent_life += 1;
        self.frozen = false;
        self.freezes_for = None;
        self.observing = false;
        self.counted = None;
        self.taken_timeline = None;
        self.last_observation = None;
        self.waiting.clear();
        self.pending.clear();
    }

    pub(crate) fn end_guard(&mut self) {
        self.guard = None;
        self.guard_life += 1;
        self.guard_frozen_at = None;
        self.guard_freezes_for = None;
        self.guard_waiting.clear();
    }
}

/// Returns the nodes of the region of `name`: two are in the primary region, and one is elsewhere.
pub(crate) fn region_of(name: &str) -> &'static [&'static str] {
    if name == "c" { &["c"] } else { &["a", "b"] }
}

/// Clocks of one host, each with its own rate.
#[derive(Clone, Debug)]
pub(crate) struct Clocks {
    booted_at: Micros,
    base: Micros,
    boottime_ppm: i64,
    raw_ppm: i64,
    /// Slew of `CLOCK_MONOTONIC`, for a mutant that trusts it.
    slewed_ppm: i64,
    pub(crate) wall_ahead: Micros,
}

impl Clocks {
    fn new(rng: &mut SeededRng) -> Self {
        let mut rate = || {
            let within = i64::try_from(rng.between(0, 2000)).unwrap() - 1000;
            rng.pick(&[-1000, 1000, within])
        };
        let (boottime_ppm, raw_ppm) = (rate(), rate());
        Self {
            booted_at: 0,
            base: rng.between(SECOND, 10_000_000 * SECOND),
            boottime_ppm,
            raw_ppm,
            slewed_ppm: rng.pick(&[-80_000, 80_000]),
            wall_ahead: 10_000 * SECOND,
        }
    }

    pub(crate) fn boot(&mut self, now: Micros) {
        self.booted_at = now;
        self.base = SECOND;
    }

    pub(crate) fn instant(&self, now: Micros) -> HostInstant {
        let shows = |ppm| Duration::from_micros(self.base + at_rate(now - self.booted_at, ppm));
        HostInstant::new(shows(self.boottime_ppm), shows(self.raw_ppm))
    }

    pub(crate) fn slewed(&self, now: Micros) -> HostInstant {
        let passed = at_rate(now - self.booted_at, self.slewed_ppm);
        HostInstant::at(Duration::from_micros(self.base + passed))
    }

    pub(crate) fn wall(&self, now: Micros) -> Duration {
        Duration::from_micros(now + self.wall_ahead)
    }
}

fn at_rate(passed: Micros, ppm: i64) -> Micros {
    let passed = i64::try_from(passed).unwrap();
    u64::try_from(passed + passed * ppm / 1_000_000).unwrap()
}
