//! `backup-agent restore`.

use ha_core::backup::Target;
use serde::Serialize;

use crate::buckets::{Buckets, LONG};
use crate::catalog;
use crate::cli;
use crate::config::Config;
use crate::error::Failure;
use crate::output;
use crate::restore::{self, Archiving, Order, Purpose};

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Restored {
    format: u32,
    backup: super::list::Backup,
    files: usize,
    directory: String,
    archiving: bool,
}

pub(super) async fn run(config: &Config, args: cli::Restore) -> Result<(), Failure> {
    let buckets = Buckets::new(config, LONG).await;
    let buckets = buckets.only(args.from.as_deref())?;
    let system_id = catalog::system_id(config, &buckets, args.system_id).await?;
    let (purpose, usual) = if args.standby {
        (Purpose::Standby, Archiving::Preserve)
    } else {
        (Purpose::Recover(args.action), Archiving::Off)
    };
    let order = Order {
        directory: args.target_directory,
        target: Target::from(args.target),
        backup: args.backup,
        timeline: args.target_timeline,
        purpose,
        archiving: args.archive_mode.unwrap_or(usual),
        from: args.from,
        tablespaces: args.tablespace_mapping,
    };
    let restored = restore::restore(config, &buckets, system_id, &order).await?;

    let archiving = order.archiving == Archiving::Preserve;
    let summary = &restored.summary;
    if args.json {
        return output::json(&Restored {
            format: 1,
            backup: super::list::Backup::new(summary, &[]),
            files: restored.files,
            directory: order.directory.display().to_string(),
            archiving,
        });
    }
    output::line(&format!(
        "backup {} restored to `{}`: {} files, {}; start PostgreSQL there to replay the log",
        summary.id,
        order.directory.display(),
        restored.files,
        output::bytes(summary.raw_bytes),
    ));
    if !archiving {
        output::line(
            "it will not archive its own log (`archive_mode = off` in postgresql.auto.conf)",
        );
    }
    Ok(())
}
