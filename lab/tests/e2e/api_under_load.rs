//! The API serves 200 requests a second while what it writes to is lost: no client hears anything wrong.

use lab::workload::api_checker::ApiCheckResult;
use lab::workload::checker::CheckResult;

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_primary_costs_no_wrong_answer() {
    judged(run_scenario(lab::scenarios::primary_lost_under_load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_region_costs_no_wrong_answer() {
    judged(run_scenario(lab::scenarios::region_lost_under_load).await);
}

/// Checks what the clients of the API heard, and then the story itself.
#[track_caller]
fn judged((result, load): (CheckResult, ApiCheckResult)) {
    println!(
        "measured: {} requests, {} right, {} told to retry ({} for want of room), {} unanswered, \
         {} rows lost, writes again {:?} after the new primary accepted them",
        load.sent,
        load.right,
        load.told_to_retry,
        load.overloaded,
        load.unanswered,
        load.lost,
        load.found_after
    );
    assert_eq!(load.failures, Vec::<String>::new());
    assert_passed(&result);
}
