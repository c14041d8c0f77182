//! `backup-agent verify-restore`: proof that a restored database answers, for the metrics.

use std::time::Duration;

use causeway_runtime::shutdown::Tasks;
use jiff::Timestamp;

use crate::base_backup::session::Session;
use crate::cli;
use crate::config::Config;
use crate::config::postgres::{Host, ServerAddress};
use crate::control_file;
use crate::display;
use crate::error::Error;
use crate::output;
use crate::restore::target_directories;
use crate::storage::bucket_health::BucketHealth;

pub(super) async fn run(config: &Config, args: &cli::VerifyRestoreArgs) -> Result<(), Error> {
    let directory = target_directories::absolute(&args.target_directory)?;
    let health = BucketHealth::of(config);
    let unverified = health.report().restore.unverified;
    let filled = unverified.filter(|filled| filled.path == directory);
    let refuse = |why: String| Err(Error::Refused(format!("`{}` {why}", directory.display())));
    let Some(filled) = filled else {
        return refuse(
            "is not the last restore on this host, or is verified already: run `backup-agent restore` first".to_owned(),
        );
    };
    let now = Timestamp::now().as_second();
    let answered_at = args.answered_at.unwrap_or(now);
    if !(filled.began_at..=now).contains(&answered_at) {
        let began_at = display::seconds(filled.began_at);
        return refuse(format!(
            "has been restored since {began_at}: `--answered-at` must be a time from then to now"
        ));
    }
    let found = control_file::system_id(&directory)?;
    if found != filled.system_id {
        let restored = filled.system_id;
        return refuse(format!(
            "holds database {found}, and {restored} was restored into it"
        ));
    }
    let server = ServerAddress {
        host: Host::Socket(args.socket_directory.clone()),
        port: args.port,
        ..config.postgres.server.clone()
    };
    let tasks = Tasks::new();
    let session = Session::connect(&server, config.limits.server, &tasks).await?;
    session.verify_directory(&directory).await?;
    let is_recovering = session.is_standby().await.map_err(Error::Postgres)?;
    let relations = session.relations().await.map_err(Error::Postgres)?;
    drop(session);
    tasks.stop(Duration::from_secs(1)).await;
    if is_recovering {
        return refuse("is still in recovery: run this command when that has ended".to_owned());
    }
    health.record_verified(&directory, answered_at);
    let secs = answered_at - filled.began_at;
    output::line(&format!(
        "restore verified: {relations} relations, answering {secs} s after the restore began"
    ));
    Ok(())
}
