//! Histories generated from a seed: faults, and commands of an operator.

use std::fmt;
use std::time::Duration;

use crate::fault::{Fault, NodeSelector, RegionSelector};
use crate::seeded_rng::SeededRng;

/// Period of faults and commands. Two lease durations, so that faults also hit a takeover.
const FAULT_PERIOD: Duration = Duration::from_secs(25);

/// Maximum delay of a command after a fault.
const MAX_COMMAND_DELAY: Duration = Duration::from_secs(15);

/// Maximum interval between two events in quick succession.
const MAX_QUICK_INTERVAL: Duration = Duration::from_secs(4);

/// Range of the time from the last event to the heal, in milliseconds.
const HEAL_DELAY_MILLIS: (u64, u64) = (2_000, 20_000);

/// History.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSchedule {
    /// Seed that generates it.
    pub seed: u64,
    /// Events, in order.
    pub events: Vec<ScheduledEvent>,
    /// Time at which everything is healed.
    pub healed_at: Duration,
}

/// Event of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// Time since the clients' first acknowledged row.
    pub at: Duration,
    /// Action.
    pub action: ScheduledAction,
}

/// Action of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledAction {
    /// Injects a fault.
    Break(FaultKind),
    /// Heals every fault so far.
    Heal,
    /// Runs an operator's command on a node.
    Command(OperatorCommand, ScheduledNode),
}

/// Kind of a fault.
#[derive(Clone, Copy)]
pub enum FaultKind {
    /// Fault of one node.
    Node(NodeFault, ScheduledNode),
    /// Fault of a shared service.
    Shared(SharedFault),
}

/// Node, selected when the event runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledNode {
    /// Node with the latest acknowledged write.
    Primary,
    /// Other node of its region, or the first standby.
    Neighbour,
    /// Remaining node.
    Third,
}

/// Command of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorCommand {
    /// `status`
    Status,
    /// `plan promote --to`
    PlanPromote,
    /// `promote --to`, accepting the stated data loss
    Promote,
    /// The same with `--stop-instance`
    PromoteStopping,
    /// The same as [`OperatorCommand::Promote`], with the operator's process killed two seconds
    /// later
    PromoteCutOff,
    /// `resume`, accepting the stated data loss
    Resume,
    /// `abandon`
    Abandon,
    /// `rejoin --node`
    Rejoin,
    /// `rejoin --rebuild --node`
    Rebuild,
}

/// Constructor of a fault of one node.
type NodeFault = fn(NodeSelector) -> Fault;

/// Constructor of a fault of a shared service.
type SharedFault = fn() -> Fault;

/// Faults of one node, with their weights.
const NODE_FAULTS: &[(NodeFault, u64)] = &[
    (Fault::PostmasterKilled, 2),
    (Fault::NodeLost, 5),
    (Fault::NodeSilent, 2),
    (Fault::AgentFrozen, 2),
    (Fault::GuardFrozen, 2),
    (Fault::AgentAndGuardFrozen, 2),
    (Fault::PostgresFrozen, 2),
    (Fault::AgentAndPostgresFrozen, 2),
    (Fault::GuardAndPostgresFrozen, 2),
    (Fault::EverythingFrozen, 2),
    (Fault::HostPaused, 2),
    (Fault::AgentKilled, 2),
    (Fault::AgentRestarted, 3),
    (Fault::AgentGone, 2),
    (Fault::GuardKilled, 2),
    (Fault::GuardRestarted, 2),
    (Fault::GuardGone, 2),
    (Fault::AgentAndGuardKilled, 2),
    (Fault::PostgresStartedByHand, 1),
    (Fault::PostgresCannotStart, 2),
    (Fault::ConfigurationBroken, 2),
    (Fault::ConfigurationRewritten, 2),
    (Fault::ReplaySlow, 3),
    (Fault::ReplayPaused, 2),
    (Fault::WalRemoved, 2),
    (Fault::DiskFull, 2),
    (Fault::DiskReadOnly, 2),
    (Fault::NodeCloned, 3),
    (Fault::LeaseCut, 2),
    (Fault::LeaseSlow, 1),
    (Fault::NodeIsolated, 3),
];

/// Faults of shared services, with their weights.
const SHARED_FAULTS: &[(SharedFault, u64)] = &[
    (|| Fault::LeaseStoreDown, 2),
    (|| Fault::LeaseStoreSlow, 1),
    (|| Fault::LeaseStoreThrottled, 2),
    (|| Fault::LeaseStoreLate, 2),
    (|| Fault::DnsSilent, 1),
    (|| Fault::DnsSlow, 1),
    (|| Fault::DnsThrottled, 1),
    (|| Fault::DnsLate, 1),
    (|| Fault::RegionLost(RegionSelector::default()), 2),
];

/// Commands, with their weights.
const COMMANDS: &[(OperatorCommand, u64)] = &[
    (OperatorCommand::Status, 1),
    (OperatorCommand::PlanPromote, 2),
    (OperatorCommand::Promote, 5),
    (OperatorCommand::PromoteStopping, 1),
    (OperatorCommand::PromoteCutOff, 3),
    (OperatorCommand::Resume, 3),
    (OperatorCommand::Abandon, 2),
    (OperatorCommand::Rejoin, 3),
    (OperatorCommand::Rebuild, 1),
];

impl FaultSchedule {
    /// Generates the history of a seed, always the same for the same seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = ScheduleRng(SeededRng::new(seed));
        let mut events = Vec::new();
        let faults = 1 + rng.below(4);
        let mut at = Duration::ZERO;
        let mut active_faults: Vec<FaultKind> = Vec::new();
        for number in 0..faults {
            at = rng.time_after(at);
            if number > 0 && rng.below(10) < 3 {
                events.push(ScheduledEvent {
                    at,
                    action: ScheduledAction::Heal,
                });
                active_faults.clear();
                at = rng.time_after(at);
            }
            let mut kind = rng.fault_kind();
            while active_faults.contains(&kind) {
                kind = rng.fault_kind();
            }
            active_faults.push(kind);
            let action = ScheduledAction::Break(kind);
            events.push(ScheduledEvent { at, action });
        }
        let broken: Vec<Duration> = events.iter().map(|event| event.at).collect();
        for _command in 0..rng.below(6) {
            // An operator acts after a fault.
            let after = broken.get(rng.index(broken.len()));
            let after = after.copied().unwrap_or(Duration::ZERO);
            let at = after + rng.between(500, millis(MAX_COMMAND_DELAY));
            let command = rng.weighted(COMMANDS).unwrap_or(OperatorCommand::Status);
            let promotes = matches!(
                command,
                OperatorCommand::Promote
                    | OperatorCommand::PromoteStopping
                    | OperatorCommand::PromoteCutOff
                    | OperatorCommand::PlanPromote
            );
            // The neighbour takes over automatically, so most promotions are of the third node.
            let usual = if promotes {
                ScheduledNode::Third
            } else {
                ScheduledNode::Neighbour
            };
            let action = ScheduledAction::Command(command, rng.select_node(usual));
            events.push(ScheduledEvent { at, action });
        }
        events.sort_by_key(|event| event.at);
        let last = events.last().map_or(Duration::ZERO, |event| event.at);
        let healed_at = last + rng.between(HEAL_DELAY_MILLIS.0, HEAL_DELAY_MILLIS.1);
        Self {
            seed,
            events,
            healed_at,
        }
    }
}

impl FaultKind {
    /// Returns the fault of the selected node.
    pub fn fault(self, node: NodeSelector) -> Fault {
        match self {
            Self::Node(fault, _) => fault(node),
            Self::Shared(fault) => fault(),
        }
    }

    /// Returns the selection of the node.
    pub fn selection(self) -> Option<ScheduledNode> {
        match self {
            Self::Node(_, selection) => Some(selection),
            Self::Shared(_) => None,
        }
    }
}

impl PartialEq for FaultKind {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for FaultKind {}

impl fmt::Debug for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.fault(NodeSelector::default()).name();
        match self.selection() {
            Some(selection) => write!(f, "{name} on the {selection}"),
            None => f.write_str(&name),
        }
    }
}

impl fmt::Display for ScheduledNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Neighbour => "neighbour",
            Self::Third => "third node",
        })
    }
}

impl fmt::Display for ScheduledAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Break(kind) => write!(f, "break {kind}"),
            Self::Heal => f.write_str("heal"),
            Self::Command(command, selection) => write!(f, "{command:?} of the {selection}"),
        }
    }
}

impl fmt::Display for FaultSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for event in &self.events {
            writeln!(f, "{:6.1} s  {}", event.at.as_secs_f64(), event.action)?;
        }
        write!(f, "{:6.1} s  heal everything", self.healed_at.as_secs_f64())
    }
}

/// Random choices of a history.
struct ScheduleRng(SeededRng);

impl ScheduleRng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    fn index(&mut self, length: usize) -> usize {
        self.0.index(length)
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        self.0.between(from, to)
    }

    /// Returns a time after `at`: soon after it, or any within the period.
    fn time_after(&mut self, at: Duration) -> Duration {
        let end = millis(FAULT_PERIOD);
        let at = millis(at);
        if self.below(2) == 0 {
            self.between(at + 200, (at + millis(MAX_QUICK_INTERVAL)).max(at + 201))
        } else {
            self.between(at + 200, end.max(at + 201))
        }
    }

    fn weighted<T: Copy>(&mut self, elements: &[(T, u64)]) -> Option<T> {
        self.0.weighted(elements)
    }

    fn fault_kind(&mut self) -> FaultKind {
        if self.below(5) == 0 {
            let shared = self.weighted(SHARED_FAULTS);
            return FaultKind::Shared(shared.unwrap_or(|| Fault::LeaseStoreDown));
        }
        let fault = self.weighted(NODE_FAULTS).unwrap_or(Fault::NodeLost);
        // Only a standby replays and can lack removed WAL.
        let replays = matches!(
            fault(NodeSelector::default()),
            Fault::ReplaySlow(_) | Fault::ReplayPaused(_) | Fault::WalRemoved(_)
        );
        FaultKind::Node(
            fault,
            self.select_node(if replays {
                ScheduledNode::Neighbour
            } else {
                ScheduledNode::Primary
            }),
        )
    }

    /// Selects a node, usually `usual`.
    fn select_node(&mut self, usual: ScheduledNode) -> ScheduledNode {
        match self.below(10) {
            0..=5 => usual,
            6..=7 if usual != ScheduledNode::Neighbour => ScheduledNode::Neighbour,
            8 => ScheduledNode::Primary,
            _ => ScheduledNode::Third,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
