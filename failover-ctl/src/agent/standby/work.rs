//! Background tasks of the standby setup; at most one runs.

use causeway_core::failover::observation::DataDirectoryState;
use tokio::sync::oneshot;

use crate::agent::event_loop::AgentLoop;
use crate::agent::standby::state::WorkOutcome;
use crate::agent::standby_setup::replication_settings::remove_overrides;
use crate::agent::standby_setup::{StandbySetup, StandbySetupError};

impl AgentLoop {
    pub(super) fn prepare(
        &mut self,
        setup: StandbySetup,
        directory: DataDirectoryState,
        rebuild: bool,
    ) {
        self.start_work("rewinding or copying the data directory", async move {
            setup.prepare(directory, rebuild).await?;
            Ok(WorkOutcome::Prepared { rebuilt: rebuild })
        });
    }

    /// Examines a directory before PostgreSQL starts, which would silently leave diverged WAL behind where it finds
    /// the new timeline's history file first.
    pub(super) fn examine_before_start(&mut self, setup: StandbySetup) {
        let data = self.host.postgres.data_directory.clone();
        self.start_work("comparing with the primary's history", async move {
            let examined = match setup.compare_all().await {
                Err(trouble @ StandbySetupError::NotSaved(_)) => return Err(trouble),
                examined => examined,
            };
            remove_overrides(&data).map_err(|error| StandbySetupError::Here(error.into()))?;
            setup
                .raise_replication_settings()
                .await
                .map_err(StandbySetupError::Here)?;
            Ok(WorkOutcome::ReadyToStart(examined))
        });
        self.standby.settings_written_for = None;
    }

    pub(super) fn examine(&mut self, setup: StandbySetup, stuck: bool) {
        self.start_work("comparing with the primary's history", async move {
            let examined = setup.examine(stuck).await?;
            Ok(WorkOutcome::Compared(examined, false))
        });
        // `/status` shows only tasks that change the node.
        self.standby.busy = None;
    }

    /// Compares a server that was started while the primary was unreachable.
    pub(super) fn compare_started(&mut self, setup: StandbySetup) {
        self.start_work("comparing with the primary's history", async move {
            let examined = setup.compare_all().await?;
            Ok(WorkOutcome::Compared(examined, true))
        });
        self.standby.busy = None;
    }

    /// Raises settings that are too low for the primary's WAL, which pause replay.
    pub(super) fn raise_settings(&mut self, setup: StandbySetup) {
        self.start_work("comparing settings with the primary's", async move {
            let raised = setup
                .raise_replication_settings()
                .await
                .map_err(StandbySetupError::Here)?;
            Ok(WorkOutcome::SettingsRaised(!raised.is_empty()))
        });
        self.standby.busy = None;
    }

    fn start_work<F>(&mut self, what: &'static str, work: F)
    where
        F: Future<Output = Result<WorkOutcome, StandbySetupError>> + Send + 'static,
    {
        let (result_sender, result) = oneshot::channel();
        self.standby.busy = Some(what);
        self.standby.done = Some(result);
        self.connections
            .tasks
            .start("standby setup", |stop| async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    result = work => { result_sender.send(result).ok(); }
                }
            });
    }
}
