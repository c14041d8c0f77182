//! The operator's process is killed in the midst of a promotion, another operator is told who is at
//! work, and `resume` finishes it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use lab::fault::{Fault, RegionSelector};
use lab::scenarios::bounds::{bound, commanded};
use lab::scenarios::scenario_run::SCENARIO_TIMEOUT;
use lab::scenarios::scenario_run::ScenarioRun;
use lab::wait;
use lab::workload::checker::Expectation;
use serde_json::Value;

use crate::{assert_passed, run_scenario};

#[tokio::test(flavor = "multi_thread")]
async fn second_operator_rejected_and_resume_finishes() {
    let result = run_scenario(async |run| {
        let start = run.begin("operator_killed").await?;
        run.inject(&Fault::RegionLost(RegionSelector::default()))
            .await?;
        let rows_lost = run.planned_loss().await?;

        let mut command = run.lab.programs().failover_ctl(&PROMOTE).command()?;
        let mut operator = command
            .spawn()
            .context("the first operator did not begin")?;
        let begun_steps = wait::until("the first step to begin", SCENARIO_TIMEOUT, || async {
            let steps = steps(run).await.map_err(|error| format!("{error:#}"))?;
            if steps == 0 {
                Err("none has begun".to_owned())
            } else {
                Ok(steps)
            }
        });
        let at = begun_steps.await?;

        // The first operator is at work: another sees that within two beats of the journal.
        let second = run
            .lab
            .programs()
            .failover_ctl(&PROMOTE)
            .run(None, SCENARIO_TIMEOUT)
            .await;
        let refused = format!(
            "{:#}",
            second.err().context("a second operator was let in")?
        );
        if !refused.contains("is at work: operation") {
            bail!("the second operator was told something else: {refused}");
        }
        operator.kill().await?;
        run.announce(&format!(
            "the operator's process is killed, with {at} steps begun or more"
        ));
        let resume = ["resume", "--yes", "--accept-loss", "1GiB", "--json"];
        let resume = run.lab.programs().failover_ctl(&resume);
        let journal: Value = serde_json::from_str(&resume.run(None, SCENARIO_TIMEOUT).await?)?;
        if journal.pointer("/ended_at").is_none_or(Value::is_null) {
            bail!("resume did not end the operation: {journal}");
        }
        let done_at = run.history().now();
        run.wait_for_acknowledged_rows(done_at, SCENARIO_TIMEOUT)
            .await?;
        // Twice a command, and the ten seconds for which the first operator's lock outlives it.
        let once = commanded().downtime;
        let expectation = Expectation {
            rows_lost,
            ..bound(Duration::from_secs(10) + 2 * once, Duration::ZERO)
        };
        run.finish(&start, expectation).await
    });
    assert_passed(&result.await);
}

const PROMOTE: [&str; 6] = [
    "promote",
    "--to",
    "eu-central-1",
    "--yes",
    "--accept-loss",
    "1GiB",
];

/// Returns how many steps of the last operation were begun.
async fn steps(run: &ScenarioRun<'_>) -> anyhow::Result<usize> {
    let history = run.lab.programs().failover_ctl(&["history", "--json"]);
    let history: Value = serde_json::from_str(&history.run(None, SCENARIO_TIMEOUT).await?)?;
    let last = history.as_array().and_then(|history| history.last());
    let entries = last
        .and_then(|entry| entry.pointer("/entries"))
        .and_then(Value::as_array);
    Ok(entries.map_or(0, Vec::len))
}
