//! Histories: what breaks when, and what an operator does meanwhile, as a seed decides.

use std::fmt;
use std::time::Duration;

use crate::fault::{Fault, NodeSelector, RegionSelector};
use crate::seeded_rng::SeededRng;

/// For how long faults come and operators act. Two leases: so that a takeover may be disturbed.
const EVENTS_WITHIN: Duration = Duration::from_secs(25);

/// How soon an operator acts after something has happened.
const OPERATOR_WITHIN: Duration = Duration::from_secs(15);

/// The longest time between two events of a quick succession.
const QUICK: Duration = Duration::from_secs(4);

/// How long what stands at the end may last before it is healed.
const LASTS: (u64, u64) = (2_000, 20_000);

/// A history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSchedule {
    /// The seed that it comes from.
    pub seed: u64,
    /// What happens, in order.
    pub events: Vec<ScheduledEvent>,
    /// When everything is healed.
    pub healed_at: Duration,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// When, counted from the moment at which the clients write.
    pub at: Duration,
    /// What.
    pub act: ScheduledAction,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledAction {
    /// Something breaks.
    Break(FaultKind),
    /// Everything that broke until now is healed.
    Heal,
    /// An operator gives a command.
    Command(OperatorCommand, ScheduledNode),
}

/// What breaks.
#[derive(Clone, Copy)]
pub enum FaultKind {
    /// One node.
    Node(NodeFault, ScheduledNode),
    /// What all of them share.
    Shared(SharedFault),
}

/// Which node, when it comes to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduledNode {
    /// The node that took a write last.
    Primary,
    /// The other node of its region, or else the first that is not the primary.
    Neighbour,
    /// The node that is neither.
    Third,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorCommand {
    /// `status`
    Status,
    /// `plan promote --to`
    PlanPromote,
    /// `promote --to`, which accepts what is stated
    Promote,
    /// The same with `--stop-instance`
    PromoteStopping,
    /// The same as [`OperatorCommand::Promote`], and the operator's process is killed two seconds later
    PromoteCutOff,
    /// `resume`, which accepts what was accepted
    Resume,
    /// `abandon`
    Abandon,
    /// `rejoin --node`
    Rejoin,
    /// `rejoin --rebuild --node`
    Rebuild,
}

/// A fault of one node.
type NodeFault = fn(NodeSelector) -> Fault;

/// A fault of what the nodes share.
type SharedFault = fn() -> Fault;

/// Every fault of one node, and how often it comes beside the others.
const ON_A_NODE: &[(NodeFault, u64)] = &[
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

/// Every fault of what the nodes share, and how often it comes beside the others.
const SHARED: &[(SharedFault, u64)] = &[
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

/// Every command, and how often it is given beside the others.
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
    /// Returns the history of a seed: the same for the same seed, always.
    pub fn of(seed: u64) -> Self {
        let mut chance = ScheduleRng(SeededRng::new(seed));
        let mut events = Vec::new();
        let faults = 1 + chance.below(4);
        let mut at = Duration::ZERO;
        let mut active_faults: Vec<FaultKind> = Vec::new();
        for number in 0..faults {
            at = chance.moment_after(at);
            if number > 0 && chance.below(10) < 3 {
                events.push(ScheduledEvent {
                    at,
                    act: ScheduledAction::Heal,
                });
                active_faults.clear();
                at = chance.moment_after(at);
            }
            let mut kind = chance.kind();
            while active_faults.contains(&kind) {
                kind = chance.kind();
            }
            active_faults.push(kind);
            let act = ScheduledAction::Break(kind);
            events.push(ScheduledEvent { at, act });
        }
        let broken: Vec<Duration> = events.iter().map(|event| event.at).collect();
        for _command in 0..chance.below(6) {
            // An operator acts when something has happened.
            let after = broken.get(chance.index(broken.len()));
            let after = after.copied().unwrap_or_default();
            let at = after + chance.between(500, millis(OPERATOR_WITHIN));
            let order = chance.weighted(COMMANDS).unwrap_or(OperatorCommand::Status);
            let promotes = matches!(
                order,
                OperatorCommand::Promote
                    | OperatorCommand::PromoteStopping
                    | OperatorCommand::PromoteCutOff
                    | OperatorCommand::PlanPromote
            );
            // The neighbour takes over automatically, so a promotion is mostly of the other.
            let usual = if promotes {
                ScheduledNode::Third
            } else {
                ScheduledNode::Neighbour
            };
            let act = ScheduledAction::Command(order, chance.who(usual));
            events.push(ScheduledEvent { at, act });
        }
        events.sort_by_key(|event| event.at);
        let last = events.last().map(|event| event.at).unwrap_or_default();
        let healed_at = last + chance.between(LASTS.0, LASTS.1);
        Self {
            seed,
            events,
            healed_at,
        }
    }
}

impl FaultKind {
    /// Returns the fault, on the node that is meant.
    pub fn fault(self, on: NodeSelector) -> Fault {
        match self {
            Self::Node(fault, _) => fault(on),
            Self::Shared(fault) => fault(),
        }
    }

    /// Returns which node is meant.
    pub fn who(self) -> Option<ScheduledNode> {
        match self {
            Self::Node(_, who) => Some(who),
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
        match self.who() {
            Some(who) => write!(f, "{name} on the {who}"),
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
            Self::Command(order, who) => write!(f, "{order:?} of the {who}"),
        }
    }
}

impl fmt::Display for FaultSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for event in &self.events {
            writeln!(f, "{:6.1} s  {}", event.at.as_secs_f64(), event.act)?;
        }
        write!(f, "{:6.1} s  heal everything", self.healed_at.as_secs_f64())
    }
}

/// What a seed decides of a history.
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

    /// Returns a moment after `at`: soon after it, or any until the end.
    fn moment_after(&mut self, at: Duration) -> Duration {
        let end = millis(EVENTS_WITHIN);
        let at = millis(at);
        if self.below(2) == 0 {
            self.between(at + 200, (at + millis(QUICK)).max(at + 201))
        } else {
            self.between(at + 200, end.max(at + 201))
        }
    }

    fn weighted<T: Copy>(&mut self, of: &[(T, u64)]) -> Option<T> {
        self.0.weighted(of)
    }

    fn kind(&mut self) -> FaultKind {
        if self.below(5) == 0 {
            let shared = self.weighted(SHARED);
            return FaultKind::Shared(shared.unwrap_or(|| Fault::LeaseStoreDown));
        }
        let fault = self.weighted(ON_A_NODE).unwrap_or(Fault::NodeLost);
        // A standby replays, and its WAL can be removed; a primary does neither.
        let replays = matches!(
            fault(NodeSelector::default()),
            Fault::ReplaySlow(_) | Fault::ReplayPaused(_) | Fault::WalRemoved(_)
        );
        FaultKind::Node(
            fault,
            self.who(if replays {
                ScheduledNode::Neighbour
            } else {
                ScheduledNode::Primary
            }),
        )
    }

    /// Returns which node: mostly the usual one.
    fn who(&mut self, usual: ScheduledNode) -> ScheduledNode {
        match self.below(10) {
            0..=5 => usual,
            6..=7 if usual != ScheduledNode::Neighbour => ScheduledNode::Neighbour,
            8 => ScheduledNode::Primary,
            _ => ScheduledNode::Third,
        }
    }
}

fn millis(of: Duration) -> u64 {
    u64::try_from(of.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
