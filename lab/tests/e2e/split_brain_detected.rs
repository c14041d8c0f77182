//! The checker detects split-brain: a checker that misses it would prove nothing.

use lab::workload::history::WritePath;

use crate::run_scenario;

#[tokio::test(flavor = "multi_thread")]
async fn fencing_disabled_then_split_brain_detected() {
    let result = run_scenario(lab::scenarios::split_brain).await;

    assert!(!result.passed, "{result:?}");
    assert!(result.split_brain_seconds > 0.0, "{result:?}");
    assert!(result.rows_lost > 0, "{result:?}");
    assert!(
        result
            .downtime_seconds_by_path
            .contains_key(&WritePath::Sql),
        "{result:?}"
    );
}
