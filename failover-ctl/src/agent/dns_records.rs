//! The DNS records, which follow the primary: its own agent moves them, and tries until they stand.

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

/// How often records that could not be moved are tried again: Route 53 throttles at five calls a second
/// for an account.
const RECORDS_EVERY: Duration = Duration::from_secs(3);

/// For how long a record may stand elsewhere before that is a problem: a few tries.
const NOT_MOVED: Duration = Duration::from_secs(10);

/// What became of the records since this node was last seen to accept writes.
#[derive(Debug, Default)]
pub(super) struct RecordMoves {
    /// The epoch under which they were sent on their way, and when.
    epoch: Option<(Epoch, HostInstant)>,
    /// Why one is not moved yet.
    why: Option<watch::Receiver<Option<String>>>,
}

impl RecordMoves {
    /// Returns the problem that a record is not moved, once it has stood for a few tries.
    pub(super) fn problem(&self, now: HostInstant) -> Option<NodeProblem> {
        let (_, since) = self.epoch?;
        if now.elapsed_upper_bound(since) < NOT_MOVED {
            return None;
        }
        let why = self.why.as_ref()?.borrow().clone()?;
        Some(NodeProblem::new(ProblemKind::RecordNotMoved, why))
    }

    /// Says whether the records were sent on their way under `epoch`.
    pub(super) fn has_begun(&self, epoch: Epoch) -> bool {
        self.epoch.is_some_and(|(begun, _)| begun == epoch)
    }

    /// Moves the DNS records to this node, and tries until it has, or until the lease is another's.
    /// Clients do not wait for it: they take several hosts.
    pub(super) fn start(&mut self, now: HostInstant, records: RecordMove, tasks: &Tasks) {
        let (tell, why) = watch::channel(None);
        *self = Self {
            epoch: Some((records.epoch, now)),
            why: Some(why),
        };
        RecordMoveTask { records, tell }.start(tasks);
    }
}

/// Records on their way to this node.
pub(super) struct RecordMove {
    pub(super) dns: DnsSettings,
    pub(super) wanted: Vec<(String, String)>,
    pub(super) epoch: Epoch,
    pub(super) shown: watch::Receiver<StatusSnapshot>,
}

/// A move, and where its problem is reported.
struct RecordMoveTask {
    records: RecordMove,
    tell: watch::Sender<Option<String>>,
}

impl RecordMoveTask {
    fn start(self, tasks: &Tasks) {
        tasks.start("point records", |stop| async move { self.run(stop).await });
    }

    async fn run(mut self, stop: CancellationToken) {
        let records = DnsRecords::open(&self.records.dns).await;
        loop {
            self.try_each(&records).await;
            if self.records.wanted.is_empty() || self.is_deposed() {
                self.tell.send_replace(None);
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(RECORDS_EVERY) => {}
            }
        }
    }

    /// Tries every record that does not stand yet, so that one which cannot be moved keeps no other.
    async fn try_each(&mut self, records: &DnsRecords) {
        let mut left = Vec::new();
        let mut last = None;
        for (name, target) in std::mem::take(&mut self.records.wanted) {
            match records.point(&name, &target, self.records.epoch).await {
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
        self.tell.send_replace(last);
    }

    fn is_deposed(&self) -> bool {
        let shown = self.records.shown.borrow();
        let lease = shown.status.as_ref().and_then(|status| status.lease.as_ref());
        lease.is_some_and(|lease| lease.record.epoch != self.records.epoch)
    }
}
