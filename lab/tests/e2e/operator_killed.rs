//! The operator's process is killed in the midst of a promotion, another operator is told who is at
//! work, and `resume` finishes it.

use std::time::Duration;

use anyhow::{Context as _, bail};
use lab::fault::{Fault, In};
use lab::scenarios::LONG;
use lab::scenarios::bounds::{bound, commanded};
use lab::scenarios::scenario_run::Stage;
use lab::wait;
use lab::workload::checker::Promise;
use serde_json::Value;

use crate::{kept, on_a_stage};

#[tokio::test(flavor = "multi_thread")]
async fn another_is_told_and_resume_finishes_it() {
    let verdict = on_a_stage(async |stage| {
        let begun = stage.begin("operator_killed").await?;
        stage.break_with(&Fault::RegionLost(In::default())).await?;
        let rows_lost = stage.stated_loss().await?;

        let mut command = stage.lab.programs().failover_ctl(&PROMOTE).command()?;
        let mut operator = command
            .spawn()
            .context("the first operator did not begin")?;
        let begun_steps = wait::until("the first step to begin", LONG, || async {
            let steps = steps(stage).await.map_err(|it| format!("{it:#}"))?;
            if steps == 0 {
                Err("none has begun".to_owned())
            } else {
                Ok(steps)
            }
        });
        let at = begun_steps.await?;

        // The first operator is at work: another sees that within two beats of the journal.
        let second = stage
            .lab
            .programs()
            .failover_ctl(&PROMOTE)
            .run(None, LONG)
            .await;
        let refused = format!(
            "{:#}",
            second.err().context("a second operator was let in")?
        );
        if !refused.contains("is at work: operation") {
            bail!("the second operator was told something else: {refused}");
        }
        operator.kill().await?;
        stage.say(&format!(
            "the operator's process is killed, with {at} steps begun or more"
        ));
        let resume = ["resume", "--yes", "--accept-loss", "1GiB", "--json"];
        let resume = stage.lab.programs().failover_ctl(&resume);
        let journal: Value = serde_json::from_str(&resume.run(None, LONG).await?)?;
        if journal.pointer("/ended_at").is_none_or(Value::is_null) {
            bail!("resume did not end the operation: {journal}");
        }
        let done_at = stage.memory().now();
        stage.acknowledged_since(done_at, LONG).await?;
        // Twice a command, and the ten seconds for which the first operator's lock outlives it.
        let once = commanded().without_writes;
        let promise = Promise {
            rows_lost,
            ..bound(Duration::from_secs(10) + 2 * once, Duration::ZERO)
        };
        stage.end(&begun, promise).await
    });
    kept(&verdict.await);
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
async fn steps(stage: &Stage<'_>) -> anyhow::Result<usize> {
    let history = stage.lab.programs().failover_ctl(&["history", "--json"]);
    let history: Value = serde_json::from_str(&history.run(None, LONG).await?)?;
    let last = history.as_array().and_then(|it| it.last());
    let entries = last
        .and_then(|it| it.pointer("/entries"))
        .and_then(Value::as_array);
    Ok(entries.map_or(0, Vec::len))
}
