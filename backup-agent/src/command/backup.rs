//! `backup-agent backup`.

use std::time::Duration;

use ha_core::backup::manifest::DamagedFile;
use ha_runtime::shutdown::Tasks;
use serde::Serialize;

use crate::base_backup::{self, Request};
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
    pages_checked: bool,
    damaged: &'a [DamagedFile],
    accepted_and_undamaged: &'a [String],
    left_out: &'a [String],
}

pub(super) async fn run(config: &Config, args: &cli::Backup) -> Result<(), Failure> {
    let tasks = Tasks::new();
    let buckets = Buckets::new(config, LONG).await;
    let request = Request {
        label: args.label.clone(),
        checkpoint: args.checkpoint,
        accepted: args.accept_damaged.clone(),
    };
    let made = base_backup::make(config, &buckets, &request, &tasks).await;
    tasks.stop(Duration::from_secs(1)).await;
    let made = made?;

    if args.json {
        return output::json(&Made {
            format: 1,
            backup: super::list::Backup::new(&made.summary, &made.buckets),
            pages_checked: made.pages_checked,
            damaged: &made.damaged,
            accepted_and_undamaged: &made.undamaged,
            left_out: &made.left_out,
        });
    }
    let summary = &made.summary;
    output::line(&format!(
        "backup {} made: {} in {}, WAL from {} to {}, stored in {}",
        summary.id,
        output::bytes(summary.raw_bytes),
        output::bytes(summary.stored_bytes),
        summary.start_lsn,
        summary.stop_lsn,
        made.buckets.join(" and "),
    ));
    for file in &made.damaged {
        let pages = file.pages();
        output::line(&format!(
            "DAMAGED: {pages} pages of {}, as accepted",
            file.path
        ));
    }
    for file in &made.undamaged {
        output::line(&format!("no page of {file} is damaged"));
    }
    if !made.pages_checked {
        output::line("pages were not checked: the server has no checksums");
    }
    if !made.left_out.is_empty() {
        let left_out = made.left_out.join(" and ");
        output::line(&format!("NOT stored in {left_out}, which failed meanwhile"));
    }
    Ok(())
}
