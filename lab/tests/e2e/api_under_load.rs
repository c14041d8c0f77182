//! The API serves 200 requests per second while the primary or its region is lost: no wrong response.

use lab::workload::api_checker::ApiCheckResult;
use lab::workload::checker::CheckResult;

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn primary_lost_then_no_wrong_response() {
    assert_load_passed(run_scenario(lab::scenarios::primary_lost_under_load).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn region_lost_then_no_wrong_response() {
    assert_load_passed(run_scenario(lab::scenarios::region_lost_under_load).await);
}

/// Asserts the responses of the API, and then the scenario.
#[track_caller]
fn assert_load_passed((result, load): (CheckResult, ApiCheckResult)) {
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
