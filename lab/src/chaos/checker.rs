//! Checker: properties of every history, checked on the observations, without I/O.

use std::fmt;
use std::time::Duration;

use causeway_core::NodeId;
use serde::Serialize;

use super::observations::{
    CommandClaim, CommandObservation, ObservationRound, Observations, ObservedNode,
    ServerObservation,
};
use crate::workload::checker::{TimeSpan, split_brain_duration};

/// Time limit for every node to recover after healing.
pub const RECOVERY_TIMEOUT: Duration = Duration::from_mins(2);

/// Time limit for a reason to be reported.
pub const REASON_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum age of an output of `failover-ctl status`, which is polled every few seconds and waits
/// for nodes that do not respond.
pub const MAX_STATUS_AGE: Duration = Duration::from_secs(15);

/// Maximum age of a write that proves a writable node.
const MAX_WRITE_AGE: Duration = Duration::from_secs(2);

/// The same through the API, which searches for a primary for 8 s and whose clients cache an
/// address for 5 s.
const MAX_API_WRITE_AGE: Duration = Duration::from_secs(5);

/// Maximum age of a stated data loss at a takeover: the lease duration and one poll.
const MAX_STATEMENT_AGE: Duration = Duration::from_secs(25);

/// Tolerance of the times of a claim: observations are a second apart.
const CLAIM_TOLERANCE: Duration = Duration::from_millis(2_500);

/// Violation of a property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChaosViolation {
    /// Violated property.
    pub property: ChaosProperty,
    /// Observation that violates it.
    pub seen: String,
}

/// Property of every history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChaosProperty {
    /// Two nodes never accept writes at once.
    NoSplitBrain,
    /// The data loss is at most what was stated before it.
    LossIsStated,
    /// Lost rows are saved on the node that had them.
    LossIsSaved,
    /// After healing, one node accepts writes and every other one streams from it.
    RecoversAfterHealing,
    /// A metric reports the reason while a node is out of service.
    MetricNamesReason,
    /// The log reports the reason while a node is out of service.
    LogNamesReason,
    /// `failover-ctl status` reports the reason while a node is out of service.
    StatusNamesReason,
    /// A successful command did what it reports.
    ReportIsTrue,
    /// Every command ends.
    CommandEnds,
}

impl fmt::Display for ChaosViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.property, self.seen)
    }
}

/// Returns every violation.
pub fn check(observed: &Observations) -> Vec<ChaosViolation> {
    let mut found = Vec::new();
    found.extend(check_single_writer(observed));
    found.extend(check_stated_loss(observed));
    found.extend(check_saved_loss(observed));
    found.extend(check_recovery(observed));
    for property in [
        ChaosProperty::MetricNamesReason,
        ChaosProperty::LogNamesReason,
        ChaosProperty::StatusNamesReason,
    ] {
        found.extend(check_reasons(observed, property));
    }
    found.extend(
        observed
            .commands
            .iter()
            .filter_map(|command| check_command(observed, command)),
    );
    found
}

fn violation(property: ChaosProperty, seen: impl Into<String>) -> ChaosViolation {
    ChaosViolation {
        property,
        seen: seen.into(),
    }
}

fn check_single_writer(observed: &Observations) -> Option<ChaosViolation> {
    let together = split_brain_duration(&observed.accepted);
    let seen = format!("two nodes accepted writes for {together:.1?}");
    (!together.is_zero()).then(|| violation(ChaosProperty::NoSplitBrain, seen))
}

fn check_stated_loss(observed: &Observations) -> Option<ChaosViolation> {
    let lost = observed.rows_lost? as u64;
    let stated = max_stated_loss(observed);
    let seen = format!("{lost} acknowledged rows are lost, and at most {stated} were stated");
    (lost > stated).then(|| violation(ChaosProperty::LossIsStated, seen))
}

fn check_saved_loss(observed: &Observations) -> Option<ChaosViolation> {
    let unsaved = observed.rows_unsaved;
    let seen = format!("{unsaved} acknowledged rows are lost and in no node's saved WAL");
    (unsaved > 0).then(|| violation(ChaosProperty::LossIsSaved, seen))
}

/// Returns the maximum data loss that was stated, in rows: for each change of the writing node, the
/// highest statement shortly before it.
pub fn max_stated_loss(observed: &Observations) -> u64 {
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
        let from = last.saturating_sub(MAX_STATEMENT_AGE);
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

fn check_recovery(observed: &Observations) -> Option<ChaosViolation> {
    let after = |round: &ObservationRound| round.at >= observed.healed_at;
    let since = observed.rounds.iter().position(after)?;
    let (_, rounds) = observed.rounds.split_at(since);
    let limit = observed.healed_at + RECOVERY_TIMEOUT;
    let recovered = rounds.windows(2).find(
        |pair| matches!(pair, [one, two] if unrecovered_reason(observed, one, two).is_none()),
    );
    if recovered.is_some_and(|pair| pair.last().is_some_and(|round| round.at <= limit)) {
        return None;
    }
    let reason = match rounds {
        [.., one, two] => unrecovered_reason(observed, one, two)
            .unwrap_or_else(|| "the platform recovered only after the limit".to_owned()),
        _ => "no round was observed after healing".to_owned(),
    };
    let seen = format!("after {} s: {reason}", RECOVERY_TIMEOUT.as_secs());
    Some(violation(ChaosProperty::RecoversAfterHealing, seen))
}

/// Returns why the platform has not recovered in the second of two rounds; `None` if it has.
pub fn unrecovered_reason(
    observed: &Observations,
    one: &ObservationRound,
    two: &ObservationRound,
) -> Option<String> {
    let Some((primary, server)) = primary(observed, two) else {
        return Some("no node accepts writes".to_owned());
    };
    let by_api = observed.through_api.iter().rev().find(|at| **at <= two.at);
    if by_api.is_none_or(|at| two.at.saturating_sub(*at) > MAX_API_WRITE_AGE) {
        let seen = "the API, found by DNS, acknowledged no row";
        return Some(seen.to_owned());
    }
    let position = primary_at(one, primary).unwrap_or(server.position);
    for (node, seen) in &two.nodes {
        let Some(agent) = &seen.agent else {
            return Some(format!("the agent of `{node}` does not respond"));
        };
        if node == primary {
            continue;
        }
        let agent_state = || {
            format!(
                "its agent: {} {:?} {}",
                agent.role, agent.problems, agent.details
            )
        };
        match &seen.server {
            None => {
                return Some(format!(
                    "PostgreSQL of `{node}` does not respond; {}",
                    agent_state()
                ));
            }
            Some(standby) if !streams_from(standby, server) => {
                return Some(format!(
                    "`{node}` does not stream from `{primary}`: {standby:?}; {}",
                    agent_state()
                ));
            }
            Some(standby) if standby.position < position => {
                return Some(format!("`{node}` does not replay; {}", agent_state()));
            }
            Some(_) => {}
        }
    }
    None
}

/// Returns the node that accepts writes in a round, and its server.
fn primary<'a>(
    observed: &Observations,
    round: &'a ObservationRound,
) -> Option<(&'a NodeId, &'a ServerObservation)> {
    round.nodes.iter().find_map(|(node, seen)| {
        let server = seen.server.as_ref().filter(|server| !server.in_recovery)?;
        accepted_write(
            observed,
            node,
            round.at.saturating_sub(MAX_WRITE_AGE),
            round.at,
        )
        .then_some((node, server))
    })
}

fn primary_at(round: &ObservationRound, node: &NodeId) -> Option<u64> {
    let server = round.nodes.get(node)?.server.as_ref()?;
    (!server.in_recovery).then_some(server.position)
}

fn streams_from(standby: &ServerObservation, primary: &ServerObservation) -> bool {
    standby.in_recovery && standby.receives && standby.timeline == primary.timeline
}

fn accepted_write(observed: &Observations, node: &NodeId, from: Duration, to: Duration) -> bool {
    let writes = observed.accepted.get(node);
    writes.is_some_and(|writes| writes.iter().any(|at| from <= *at && *at <= to))
}

/// Returns the first node that was out of service for longer than the time limit without a reported
/// reason.
fn check_reasons(observed: &Observations, property: ChaosProperty) -> Option<ChaosViolation> {
    let timeout = if property == ChaosProperty::StatusNamesReason {
        REASON_TIMEOUT + MAX_STATUS_AGE
    } else {
        REASON_TIMEOUT
    };
    let nodes = observed.rounds.first()?.nodes.keys();
    nodes.into_iter().find_map(|node| {
        let mut since: Option<Duration> = None;
        for round in &observed.rounds {
            let Some(seen) = round.nodes.get(node) else {
                continue;
            };
            let in_service = is_in_service(observed, round, node, seen);
            if in_service || is_reason_reported(observed, property, round.at, node, seen) {
                since = None;
                continue;
            }
            let began = *since.get_or_insert(round.at);
            if round.at.saturating_sub(began) > timeout {
                let agent = match &seen.agent {
                    Some(agent) => format!("{agent:?}"),
                    None => "no response of the agent".to_owned(),
                };
                let seen = format!(
                    "`{node}` is out of service from {:.1} s to {:.1} s without a reported reason: {}, \
                     server {:?}",
                    began.as_secs_f64(),
                    round.at.as_secs_f64(),
                    agent,
                    seen.server
                );
                return Some(violation(property, seen));
            }
        }
        None
    })
}

fn is_in_service(
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
        Some((_, primary)) => streams_from(server, primary),
        // A standby streams from its upstream even if that accepts no writes.
        None => server.in_recovery && server.receives,
    }
}

fn is_reason_reported(
    observed: &Observations,
    property: ChaosProperty,
    at: Duration,
    node: &NodeId,
    seen: &ObservedNode,
) -> bool {
    // A failed scrape reports an agent that does not respond. Its log cannot.
    let agent = seen.agent.as_ref();
    if property == ChaosProperty::StatusNamesReason {
        let status = observed
            .statuses
            .iter()
            .rev()
            .find(|status| status.at <= at);
        return status.is_some_and(|status| status.reasons.contains_key(node));
    }
    if property == ChaosProperty::MetricNamesReason {
        return agent.is_none_or(|agent| !agent.alerts.is_empty());
    }
    let spans = observed.logged.get(node).into_iter().flatten();
    let covers =
        |span: &TimeSpan| span.from <= at + CLAIM_TOLERANCE && at <= span.to + CLAIM_TOLERANCE;
    agent.is_none() || spans.copied().any(|span| covers(&span))
}

/// Returns the violation in the report of a command.
fn check_command(observed: &Observations, command: &CommandObservation) -> Option<ChaosViolation> {
    let Some(code) = command.code else {
        let seen = format!("`{}` did not end", command.command_line);
        return Some(violation(ChaosProperty::CommandEnds, seen));
    };
    if code != 0 {
        return None;
    }
    let from = command.from.saturating_sub(CLAIM_TOLERANCE);
    let to = command.to + CLAIM_TOLERANCE;
    let reason = match &command.claim {
        CommandClaim::Nothing => return None,
        CommandClaim::Primary(node) if accepted_write(observed, node, from, to) => return None,
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
        CommandClaim::NoneUnfinished { unfinished } if unfinished.is_empty() => return None,
        CommandClaim::NoneUnfinished { unfinished } => {
            format!("operations are unfinished: {unfinished:?}")
        }
    };
    let seen = format!(
        "`{}` exited with 0 at {:.1} s, and {reason}; output: {}",
        command.command_line,
        command.to.as_secs_f64(),
        command.output.trim()
    );
    Some(violation(ChaosProperty::ReportIsTrue, seen))
}

#[cfg(test)]
mod tests;
