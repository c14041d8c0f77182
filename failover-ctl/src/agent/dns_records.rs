//! DNS records that point to the primary: the primary's own agent moves them, and retries until they are moved.

use std::time::Duration;

use causeway_core::problem::{NodeProblem, ProblemKind};
use causeway_core::{Epoch, HostInstant};
use causeway_runtime::shutdown::Tasks;
use causeway_runtime::telemetry::chain;
use tokio::sync::watch;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::status_snapshot::StatusSnapshot;
use crate::clients::route53::DnsRecords;
use crate::config::DnsSettings;

/// Interval between attempts. Route 53 limits an account to five requests a second, and only the primary sends them: a
/// backoff would only delay clients.
const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// Time for a few attempts, after which a record that is not moved is a problem.
const PROBLEM_AFTER: Duration = Duration::from_secs(10);

/// Latest move of the DNS records to this node.
#[derive(Debug, Default)]
pub(super) struct RecordMoves {
    /// Epoch and time of its start.
    started: Option<(Epoch, HostInstant)>,
    /// Error of a record that is not moved yet.
    error: Option<watch::Receiver<Option<String>>>,
}

impl RecordMoves {
    /// Returns the problem of a record that is still not moved after a few attempts.
    pub(super) fn problem(&self, now: HostInstant) -> Option<NodeProblem> {
        let (_, since) = self.started?;
        if now.elapsed_upper_bound(since) < PROBLEM_AFTER {
            return None;
        }
        let error = self.error.as_ref()?.borrow().clone()?;
        Some(NodeProblem::new(ProblemKind::RecordNotMoved, error))
    }

    /// Returns whether the move under `epoch` has started.
    pub(super) fn has_started(&self, epoch: Epoch) -> bool {
        self.started.is_some_and(|(started, _)| started == epoch)
    }

    /// Starts moving the DNS records to this node. The task retries until they are moved or the lease has a
    /// newer epoch. Clients need not wait for it: their connection strings list every host.
    pub(super) fn start(&mut self, now: HostInstant, records: RecordMove, tasks: &Tasks) {
        let (error_sender, error) = watch::channel(None);
        *self = Self {
            started: Some((records.epoch, now)),
            error: Some(error),
        };
        let task = RecordMoveTask {
            records,
            error_sender,
        };
        tasks.start("move DNS records", |stop| task.run(stop));
    }
}

/// Records to move to this node.
pub(super) struct RecordMove {
    pub(super) dns: DnsSettings,
    pub(super) wanted: Vec<(String, String)>,
    pub(super) epoch: Epoch,
    pub(super) status: watch::Receiver<StatusSnapshot>,
}

/// Task that moves the records.
struct RecordMoveTask {
    records: RecordMove,
    error_sender: watch::Sender<Option<String>>,
}

impl RecordMoveTask {
    async fn run(mut self, stop: CancellationToken) {
        let records = DnsRecords::open(&self.records.dns).await;
        loop {
            self.move_remaining(&records).await;
            if self.records.wanted.is_empty() || self.has_newer_epoch() {
                self.error_sender.send_replace(None);
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(RETRY_INTERVAL) => {}
            }
        }
    }

    /// Tries each record that is not moved yet: one that fails does not delay the others.
    async fn move_remaining(&mut self, records: &DnsRecords) {
        let mut left = Vec::new();
        let mut last = None;
        for (name, target) in std::mem::take(&mut self.records.wanted) {
            match records
                .move_record(&name, &target, self.records.epoch)
                .await
            {
                Ok(_) => {
                    info!(name, target, epoch = %self.records.epoch, "DNS record moved to this node");
                }
                Err(error) => {
                    let error = chain(&error);
                    warn!(error, name, "DNS record not moved, retrying");
                    last = Some(error);
                    left.push((name, target));
                }
            }
        }
        self.records.wanted = left;
        self.error_sender.send_replace(last);
    }

    fn has_newer_epoch(&self) -> bool {
        let snapshot = self.records.status.borrow();
        let lease = snapshot
            .status
            .as_ref()
            .and_then(|status| status.lease.as_ref());
        lease.is_some_and(|lease| lease.record.epoch != self.records.epoch)
    }
}
