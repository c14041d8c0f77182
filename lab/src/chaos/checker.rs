//! The checker: what must hold in every history. It judges what was seen and looks at nothing.

use std::fmt;
use std::time::Duration;

use causeway_core::NodeId;
use serde::Serialize;

use super::observations::{
    CommandClaim, CommandObservation, ObservationRound, Observations, ObservedNode,
    ServerObservation,
};
use crate::workload::checker::{TimeSpan, split_brain_duration};

/// How long after healing every node may take to do its part.
pub const WHOLE_WITHIN: Duration = Duration::from_mins(2);

/// How long a reason may take to be named.
pub const NAMED_WITHIN: Duration = Duration::from_secs(30);

/// How old what `failover-ctl status` said may be: it is asked every few seconds, and waits for nodes that
/// do not answer.
pub const STATUS_EVERY: Duration = Duration::from_secs(15);

/// How long ago a write may be that shows that a node accepts writes.
const LATELY: Duration = Duration::from_secs(2);

/// The same for the API, which tries for 8 s to find a primary, and whose clients keep an address for 5 s.
const API_LATELY: Duration = Duration::from_secs(5);

/// How long before a takeover a statement still speaks of it: the lease, and one look.
const STATED_WITHIN: Duration = Duration::from_secs(25);

/// How much earlier or later a claim may have been true: the looks are a second apart.
const SIDE: Duration = Duration::from_millis(2_500);

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChaosViolation {
    /// What should.
    pub property: ChaosProperty,
    /// What was seen instead.
    pub seen: String,
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChaosProperty {
    /// No two nodes accept writes at once.
    OneWriter,
    /// Not more is lost than was stated before.
    LossIsStated,
    /// What is lost is saved on the node that had it.
    LossIsSaved,
    /// After healing, one node accepts writes and every other follows it.
    WholeAfterHealing,
    /// While a node does not do its part, a metric says why.
    MetricNamesReason,
    /// While a node does not do its part, its log says why.
    LogNamesReason,
    /// While a node does not do its part, `failover-ctl status` says why.
    StatusNamesReason,
    /// What a command reports is so.
    ReportIsTrue,
    /// A command ends.
    CommandEnds,
}

impl fmt::Display for ChaosViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.seen)
    }
}

/// Returns everything that does not hold.
pub fn check(observed: &Observations) -> Vec<ChaosViolation> {
    let mut found = Vec::new();
    found.extend(one_writer(observed));
    found.extend(loss_is_stated(observed));
    found.extend(loss_is_saved(observed));
    found.extend(whole_after_healing(observed));
    for property in [
        ChaosProperty::MetricNamesReason,
        ChaosProperty::LogNamesReason,
        ChaosProperty::StatusNamesReason,
    ] {
        found.extend(reason_is_named(observed, property));
    }
    found.extend(
        observed
            .commands
            .iter()
            .filter_map(|command| judge(observed, command)),
    );
    found
}

fn violation(property: ChaosProperty, seen: impl Into<String>) -> ChaosViolation {
    ChaosViolation {
        property,
        seen: seen.into(),
    }
}

fn one_writer(observed: &Observations) -> Option<ChaosViolation> {
    let together = split_brain_duration(&observed.accepted);
    let seen = format!("two nodes accepted writes for {together:.1?}");
    (!together.is_zero()).then(|| violation(ChaosProperty::OneWriter, seen))
}

fn loss_is_stated(observed: &Observations) -> Option<ChaosViolation> {
    let lost = observed.rows_lost? as u64;
    let stated = stated(observed);
    let seen = format!("{lost} acknowledged rows are lost, and at most {stated} were stated");
    (lost > stated).then(|| violation(ChaosProperty::LossIsStated, seen))
}

fn loss_is_saved(observed: &Observations) -> Option<ChaosViolation> {
    let unsaved = observed.rows_unsaved;
    let seen = format!("{unsaved} acknowledged rows are lost, and in no node's saves");
    (unsaved > 0).then(|| violation(ChaosProperty::LossIsSaved, seen))
}

/// Returns how many rows were stated to be lost at most: at each change of the writing node, the most of what
/// was stated shortly before it.
pub fn stated(observed: &Observations) -> u64 {
    let mut writes: Vec<(Duration, &NodeId)> = observed
        .accepted
        .iter()
        .flat_map(|(node, at)| at.iter().map(move |at| (*at, node)))
        .collect();
    writes.sort();
    let mut total = 0;
    for pair in writes.windows(2) {
        let [(last, old), (first, new)] = pair else {
            continue;
        };
        if old == new {
            continue;
        }
        let before = || {
            observed
                .stated
                .iter()
                .filter(|statement| statement.at <= *first)
        };
        let from = last.saturating_sub(STATED_WITHIN);
        let near = before()
            .filter(|statement| statement.at >= from)
            .map(|statement| statement.rows)
            .max();
        total += near
            .or(before().map(|statement| statement.rows).next_back())
            .unwrap_or(0);
    }
    total
}

fn whole_after_healing(observed: &Observations) -> Option<ChaosViolation> {
    let after = |round: &ObservationRound| round.at >= observed.healed_at;
    let since = observed.rounds.iter().position(after)?;
    let (_, rounds) = observed.rounds.split_at(since);
    let limit = observed.healed_at + WHOLE_WITHIN;
    let whole = rounds
        .windows(2)
        .find(|round| matches!(round, [one, two] if not_whole(observed, one, two).is_none()));
    if whole.is_some_and(|pair| pair.last().is_some_and(|pair| pair.at <= limit)) {
        return None;
    }
    let why = match rounds {
        [.., one, two] => not_whole(observed, one, two)
            .unwrap_or_else(|| "the platform was whole only after the limit".to_owned()),
        _ => "nothing was seen after healing".to_owned(),
    };
    let seen = format!("after {} s: {why}", WHOLE_WITHIN.as_secs());
    Some(violation(ChaosProperty::WholeAfterHealing, seen))
}

/// Returns why the platform is not whole at the second of two moments; none if it is.
pub fn not_whole(
    observed: &Observations,
    one: &ObservationRound,
    two: &ObservationRound,
) -> Option<String> {
    let Some((primary, server)) = primary(observed, two) else {
        return Some("no node accepts writes".to_owned());
    };
    let by_api = observed.through_api.iter().rev().find(|at| **at <= two.at);
    if by_api.is_none_or(|at| two.at.saturating_sub(*at) > API_LATELY) {
        let seen = "no row was acknowledged through the API, whose name is found by DNS";
        return Some(seen.to_owned());
    }
    let position = primary_at(one, primary).unwrap_or(server.position);
    for (node, seen) in &two.nodes {
        let Some(agent) = &seen.agent else {
            return Some(format!("the agent of `{node}` does not answer"));
        };
        if node == primary {
            continue;
        }
        let says = || {
            format!(
                "its agent: {} {:?} {}",
                agent.role, agent.problems, agent.says
            )
        };
        match &seen.server {
            None => {
                return Some(format!(
                    "the server of `{node}` does not answer; {}",
                    says()
                ));
            }
            Some(it) if !follows(it, server) => {
                return Some(format!(
                    "`{node}` does not follow `{primary}`: {it:?}; {}",
                    says()
                ));
            }
            Some(it) if it.position < position => {
                return Some(format!("`{node}` does not replay; {}", says()));
            }
            Some(_) => {}
        }
    }
    None
}

/// Returns the node that accepts writes at a moment, and its server.
fn primary<'a>(
    observed: &Observations,
    round: &'a ObservationRound,
) -> Option<(&'a NodeId, &'a ServerObservation)> {
    round.nodes.iter().find_map(|(node, seen)| {
        let server = seen.server.as_ref().filter(|server| !server.in_recovery)?;
        wrote(observed, node, round.at.saturating_sub(LATELY), round.at).then_some((node, server))
    })
}

fn primary_at(round: &ObservationRound, node: &NodeId) -> Option<u64> {
    let server = round.nodes.get(node)?.server.as_ref()?;
    (!server.in_recovery).then_some(server.position)
}

fn follows(it: &ServerObservation, primary: &ServerObservation) -> bool {
    it.in_recovery && it.receives && it.timeline == primary.timeline
}

fn wrote(observed: &Observations, node: &NodeId, from: Duration, to: Duration) -> bool {
    let at = observed.accepted.get(node);
    at.is_some_and(|at| at.iter().any(|at| from <= *at && *at <= to))
}

/// Returns the first node that did not do its part for so long that its reason should have been named, and was
/// not.
fn reason_is_named(observed: &Observations, property: ChaosProperty) -> Option<ChaosViolation> {
    let timeout = if property == ChaosProperty::StatusNamesReason {
        NAMED_WITHIN + STATUS_EVERY
    } else {
        NAMED_WITHIN
    };
    let nodes = observed.rounds.first()?.nodes.keys();
    nodes.into_iter().find_map(|node| {
        let mut since: Option<Duration> = None;
        for round in &observed.rounds {
            let Some(seen) = round.nodes.get(node) else {
                continue;
            };
            let fine = does_its_part(observed, round, node, seen);
            if fine || is_named(observed, property, round.at, node, seen) {
                since = None;
                continue;
            }
            let began = *since.get_or_insert(round.at);
            if round.at.saturating_sub(began) > timeout {
                let says = seen.agent.as_ref().map(|agent| format!("{agent:?}"));
                let seen = format!(
                    "`{node}` does not do its part from {:.1} s to {:.1} s, and no reason is named: {}, \
                     server {:?}",
                    began.as_secs_f64(),
                    round.at.as_secs_f64(),
                    says.unwrap_or_default(),
                    seen.server
                );
                return Some(violation(property, seen));
            }
        }
        None
    })
}

fn does_its_part(
    observed: &Observations,
    round: &ObservationRound,
    node: &NodeId,
    seen: &ObservedNode,
) -> bool {
    let Some(server) = &seen.server else {
        return false;
    };
    match primary(observed, round) {
        Some((primary, _)) if primary == node => true,
        Some((_, primary)) => follows(server, primary),
        // Whoever receives from a server that accepts no writes is not to blame for that.
        None => server.in_recovery && server.receives,
    }
}

fn is_named(
    observed: &Observations,
    property: ChaosProperty,
    at: Duration,
    node: &NodeId,
    seen: &ObservedNode,
) -> bool {
    // An agent that does not answer is what a scrape that fails says, and what its log cannot.
    let agent = seen.agent.as_ref();
    if property == ChaosProperty::StatusNamesReason {
        let said = observed
            .statuses
            .iter()
            .rev()
            .find(|status| status.at <= at);
        return said.is_some_and(|status| status.reasons.contains_key(node));
    }
    if property == ChaosProperty::MetricNamesReason {
        return agent.is_none_or(|agent| !agent.alerts.is_empty());
    }
    let spans = observed.logged.get(node).into_iter().flatten();
    let stands = |span: &TimeSpan| span.from <= at + SIDE && at <= span.to + SIDE;
    agent.is_none() || spans.copied().any(|span| stands(&span))
}

/// Returns what is wrong with what a command reported.
fn judge(observed: &Observations, command: &CommandObservation) -> Option<ChaosViolation> {
    let Some(code) = command.code else {
        let seen = format!("`{}` did not end", command.typed);
        return Some(violation(ChaosProperty::CommandEnds, seen));
    };
    if code != 0 {
        return None;
    }
    let (from, to) = (command.from.saturating_sub(SIDE), command.to + SIDE);
    let why = match &command.claim {
        CommandClaim::Nothing => return None,
        CommandClaim::Primary(node) if wrote(observed, node, from, to) => return None,
        CommandClaim::Primary(node) => format!("`{node}` accepted no write"),
        CommandClaim::Streams(node) => {
            let inside = |round: &&ObservationRound| from <= round.at && round.at <= to;
            let streams = |round: &ObservationRound| {
                let server = round.nodes.get(node).and_then(|node| node.server.as_ref());
                server.is_some_and(|server| server.in_recovery && server.receives)
            };
            if observed.rounds.iter().filter(inside).any(streams) {
                return None;
            }
            format!("`{node}` did not stream")
        }
        CommandClaim::NothingOpen { left } if left.is_empty() => return None,
        CommandClaim::NothingOpen { left } => format!("unfinished are {left:?}"),
    };
    let seen = format!(
        "`{}` ended with 0 at {:.1} s, and {why}; it printed: {}",
        command.typed,
        command.to.as_secs_f64(),
        command.printed.trim()
    );
    Some(violation(ChaosProperty::ReportIsTrue, seen))
}

#[cfg(test)]
mod tests;
