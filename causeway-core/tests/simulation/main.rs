//! Simulation: thousands of histories of three nodes and a lease store under fault injection, each from a seed.
//!
//! Agents and guards are the real code. The store, PostgreSQL, the network, the clocks and the faults are
//! simulated, in one thread and in virtual time, so a seed always gives the same history. In every history,
//! after every event:
//!
//! - at most one node could acknowledge a write, and on each timeline one host writes;
//! - no timeline is begun by two promotions, or without a reservation;
//! - each epoch has one holder, and an automatic takeover stays in the region of the last holder;
//! - no more acknowledged commits are lost than were stated when the lease was taken, none if the last primary
//!   returns, and no more than the limit without a command;
//! - no node renews the lease for long without a proven write and without progress, restarts its server without
//!   end, or releases the lease while its server replays;
//! - while no commit is acknowledged, an agent reports a problem within 30 s;
//! - no node sends requests to the store without a pause;
//!
//! and after a minute without faults, one node acknowledges writes and all others are its standbys. The minute
//! is the sum of the lease duration and the time to yield (10 s each), the limits on a start and on a server
//! that proves no write (15 s), and the operator's 20 s, where the design needs one.
//!
//! `CAUSEWAY_FIRST_SEED=3000` begins at another seed than 0, `CAUSEWAY_SEEDS=100000` runs more histories, and
//! `CAUSEWAY_SEED=17` runs one and prints it.

#![expect(
    clippy::disallowed_methods,
    reason = "threads run the histories, and the environment has the seeds; a history uses neither"
)]
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failed test may panic; hosts are identified by their index"
)]

mod cloning;
mod cluster;
mod faults;
mod guarding;
mod healing;
mod host;
mod invariants;
mod liveness;
mod local_observation;
mod mutants;
mod network;
mod postgres;
mod seeded_rng;
mod server;
mod shell;
mod store;
mod wal;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use cluster::{Cluster, Tally};
use faults::Fault;
use invariants::Violation;
use mutants::Mutant;

const HISTORIES: u64 = 3000;

#[test]
fn any_faults_then_one_node_writes() {
    if let Some(seed) = number("CAUSEWAY_SEED") {
        let mut cluster = Cluster::new(seed, None, None).recorded();
        let result = cluster.run();
        println!("{}\n{:?}", cluster.history().join("\n"), cluster.tally);
        assert_eq!(result, Ok(()));
        return;
    }
    let first = number("CAUSEWAY_FIRST_SEED").unwrap_or(0);
    let histories = number("CAUSEWAY_SEEDS").unwrap_or(HISTORIES / 3);
    every_one_holds(first..first + histories);
}

#[test]
fn any_faults_then_one_node_writes_in_the_second_third() {
    every_one_holds(HISTORIES / 3..HISTORIES / 3 * 2);
}

#[test]
fn any_faults_then_one_node_writes_in_the_last_third() {
    every_one_holds(HISTORIES / 3 * 2..HISTORIES);
}

/// Checks a range of histories. The range is split over several tests, so that none takes long on a busy host.
fn every_one_holds(histories: Range<u64>) {
    if let Some((seed, violation)) = first_violation(None, None, histories) {
        panic!("{}", failure_report(seed, None, None, &violation));
    }
}

#[test]
fn same_seed_then_same_history() {
    for seed in 0..20 {
        let run_histories = || {
            let mut cluster = Cluster::new(seed, None, None).recorded();
            let result = cluster.run();
            (result, cluster.tally, cluster.history().to_vec())
        };
        assert_eq!(run_histories(), run_histories(), "seed {seed}");
    }
}

#[test]
fn three_hundred_seeds_then_enough_faults_and_promotions() {
    let tallies: Vec<Tally> = (0..300)
        .map(|seed| {
            let mut cluster = Cluster::new(seed, None, None);
            assert_eq!(cluster.run(), Ok(()), "seed {seed}");
            cluster.tally
        })
        .collect();
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    assert!(sum(|tally| tally.faults.into()) > 500, "{tallies:?}");
    assert!(sum(|tally| tally.promotions.into()) > 100, "{tallies:?}");
    assert!(sum(|tally| tally.ended_by_guard.into()) > 50, "{tallies:?}");
    assert!(sum(|tally| tally.ended_by_agent.into()) > 50, "{tallies:?}");
    assert!(
        sum(|tally| tally.ended_by_supervisor.into()) > 50,
        "{tallies:?}"
    );
}

/// Runs histories on every processor until one has a violation, and returns the first of those.
fn first_violation(
    only: Option<&'static [Fault]>,
    mutant: Option<Mutant>,
    histories: Range<u64>,
) -> Option<(u64, Violation)> {
    let Range { start, end } = histories;
    let next = AtomicU64::new(start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let run_histories = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return None;
            }
            if let Err(violation) = Cluster::new(seed, only, mutant).run()
                && mutant.is_none_or(|mutant| mutant.is_shown_by(&violation))
            {
                next.store(end, Ordering::Relaxed);
                return Some((seed, violation));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run_histories)).collect();
        let found = threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap());
        found.min_by_key(|(seed, _)| *seed)
    })
}

/// Returns the end of a history and its violation.
fn failure_report(
    seed: u64,
    only: Option<&'static [Fault]>,
    mutant: Option<Mutant>,
    violation: &Violation,
) -> String {
    let mut cluster = Cluster::new(seed, only, mutant).recorded();
    cluster.run().ok();
    let history = cluster.history();
    let end = &history[history.len().saturating_sub(60)..];
    format!(
        "{}\n{violation}; CAUSEWAY_SEED={seed} prints the whole history",
        end.join("\n")
    )
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("`{name}` is `{text}`, and must be a number")),
    )
}
