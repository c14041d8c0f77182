//! Schedules: reproducible from their seeds, bounded, and with every fault and command.

use std::collections::BTreeSet;

use clap::Subcommand as _;

use super::*;

#[test]
fn same_seed_then_same_history() {
    for seed in 0..200 {
        assert_eq!(FaultSchedule::of(seed), FaultSchedule::of(seed));
    }
    let distinct: BTreeSet<_> = (0..200)
        .map(|seed| FaultSchedule::of(seed).to_string())
        .collect();
    assert_eq!(distinct.len(), 200);
}

/// A printed seed generates the same history in each release.
#[test]
fn known_seed_then_known_history() {
    let text = FaultSchedule::of(2).to_string();
    assert_eq!(text.lines().collect::<Vec<_>>(), KNOWN);
}

#[test]
fn many_seeds_then_every_fault_and_every_command() {
    let events: Vec<_> = (0..400)
        .flat_map(|seed| FaultSchedule::of(seed).events)
        .collect();
    let faults = events.iter().filter_map(|event| match event.action {
        ScheduledAction::Break(kind) => Some(kind.fault(NodeSelector::default()).name()),
        ScheduledAction::Heal | ScheduledAction::Command(..) => None,
    });
    let mut faults: BTreeSet<String> = faults.collect();
    // A sleeping supervisor allows split-brain, which only a watchdog device prevents.
    faults.insert("supervisor-asleep".to_owned());
    // Failovers use no backup bucket. `lab backup-faults` breaks them.
    faults.insert("buckets-down".to_owned());
    let command = Fault::augment_subcommands(clap::Command::new("break"));
    let every = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned());
    assert_eq!(faults, every.collect());

    for (command, _weight) in COMMANDS {
        let runs_command = |event: &ScheduledEvent| matches!(event.action, ScheduledAction::Command(scheduled, _) if scheduled == *command);
        assert!(events.iter().any(runs_command), "{command:?}");
    }
}

#[test]
fn every_history_then_one_to_four_faults_in_order_and_bounded() {
    for history in (0..1_000).map(FaultSchedule::of) {
        let is_fault = |event: &&ScheduledEvent| matches!(event.action, ScheduledAction::Break(_));
        let faults = history.events.iter().filter(is_fault).count();
        assert!((1..=4).contains(&faults), "{history}");
        assert!(
            history.events.is_sorted_by_key(|event| event.at),
            "{history}"
        );
        assert!(history.healed_at < Duration::from_secs(90), "{history}");
    }
}

const KNOWN: [&str; 7] = [
    "seed 2",
    "   2.4 s  break wal-removed on the third node",
    "   3.9 s  break postmaster-killed on the primary",
    "  12.1 s  break agent-and-guard-killed on the primary",
    "  13.4 s  PromoteStopping of the third node",
    "  16.7 s  PromoteStopping of the third node",
    "  29.8 s  heal everything",
];
