//! `backup-agent role`: whether the server is a primary or a standby.

use std::time::Duration;

use causeway_runtime::shutdown::Tasks;

use crate::base_backup::session::Session;
use crate::config::Config;
use crate::error::Error;
use crate::output;

pub(super) async fn run(config: &Config) -> Result<(), Error> {
    let tasks = Tasks::new();
    let session = Session::connect(&config.postgres.server, config.limits.server, &tasks).await?;
    let is_standby = session.is_standby().await.map_err(Error::Postgres)?;
    drop(session);
    tasks.stop(Duration::from_secs(1)).await;
    output::line(if is_standby { "standby" } else { "primary" });
    Ok(())
}
