//! `backup-agent backup`.

use std::time::Duration;

use ha_runtime::shutdown::Tasks;
use serde::Serialize;

use crate::base_backup;
use crate::buckets::{Buckets, LONG};
use crate::cli;
use crate::config::Config;
use crate::error::Failure;
use crate::output;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Made<'a> {
    format: u32,
    backup: super::list::Backup,
    left_out: &'a [String],
}

pub(super) async fn run(config: &Config, args: &cli::Backup) -> Result<(), Failure> {
    let tasks = Tasks::new();
    let buckets = Buckets::new(config, LONG).await;
    let made = base_backup::make(config, &buckets, &args.label, &tasks).await;
    tasks.stop(Duration::from_secs(1)).await;
    let made = made?;

    if args.json {
        return output::json(&Made {
            format: 1,
            backup: super::list::Backup::new(&made.summary, &made.buckets),
            left_out: &made.left_out,
        });
    }
    let summary = &made.summary;
    output::line(&format!(
        "backup {} made: {} in {}, log from {} to {}, stored in {}",
        summary.id,
        output::bytes(summary.raw_bytes),
        output::bytes(summary.stored_bytes),
        summary.start_lsn,
        summary.stop_lsn,
        made.buckets.join(" and "),
    ));
    if !made.left_out.is_empty() {
        let left_out = made.left_out.join(" and ");
        output::line(&format!("NOT stored in {left_out}, which failed meanwhile"));
    }
    Ok(())
}
