//! DNS records in Route 53 that point to the primary.
//!
//! Route 53 has no conditional write, but a change batch is atomic and a DELETE must match the record
//! exactly. Each move therefore deletes the epoch record that it read, creates its own, and upserts the record in
//! one batch: Route 53 rejects the whole batch of a writer with an outdated epoch.

mod change;

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use anyhow::bail;
use aws_sdk_route53::Client;
use aws_sdk_route53::types::{ChangeBatch, ChangeStatus, ResourceRecordSet, RrType};
use causeway_core::Epoch;
use causeway_runtime::aws::{self, AwsService, AwsTimeouts, SdkRetries};
use causeway_runtime::poll;
use causeway_runtime::retry::{self, RetryClass, RetryPolicy};
use tokio::time::{self, Instant};

use self::change::{
    RecordChange, absolute, classify_move_error, describe, epoch_name, malformed, read_epoch,
    values,
};
use crate::config::{DnsSettings, NodeSettings, Settings};

/// Timeouts of a request. Route 53's control plane is in us-east-1 and responds within a second.
const TIMEOUTS: AwsTimeouts = AwsTimeouts {
    connect: Duration::from_secs(2),
    attempt: Duration::from_secs(5),
};

/// Interval at which the status of a change is read. Route 53 limits an account to five requests a second (Route 53
/// quotas).
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Time for a change to become INSYNC: usually 60 seconds according to Route 53.
const INSYNC_TIMEOUT: Duration = Duration::from_mins(2);

/// Backoff before the records are read again, because another program may have moved them.
const RETRY_POLICY: RetryPolicy = RetryPolicy {
    initial_backoff: Duration::from_millis(200),
    max_backoff: Duration::from_secs(2),
};

/// Client of the zones that hold the records.
#[derive(Clone, Debug)]
pub(crate) struct DnsRecords {
    client: Client,
    zone: String,
    /// The API's record and its zone, where it differs from the writer's: the API's name is public.
    api_zone: Option<(String, String)>,
    ttl: i64,
}

/// Result of a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordMoved {
    /// Route 53 accepted the batch under this change id.
    Changed(String),
    /// The record already had the target, under this or a later epoch.
    Already,
}

/// Reason why a record was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordMoveError {
    /// It was moved under a later epoch, so the caller's plan is outdated.
    #[error("DNS record `{name}` was moved under epoch {found}, after epoch {epoch}: plan again")]
    Later {
        /// Name of the record.
        name: String,
        /// Epoch of the record.
        found: Epoch,
        /// Epoch of the caller.
        epoch: Epoch,
    },
    /// Transient: Route 53 does not respond, throttles or applies another change, or the record has changed since it was
    /// read.
    #[error("could not move the DNS record `{name}`")]
    Transient {
        /// Name of the record.
        name: String,
        /// Response of Route 53.
        source: anyhow::Error,
    },
    /// Permanent: a retry would fail the same way.
    #[error("Route 53 refused to move the DNS record `{name}`")]
    Refused {
        /// Name of the record.
        name: String,
        /// Response of Route 53.
        source: anyhow::Error,
    },
}

/// Values of a record, and the epoch under which it was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordState {
    /// Values of the record.
    pub(crate) values: Vec<String>,
    /// Epoch under which it was last moved.
    pub(crate) epoch: Option<Epoch>,
}

impl DnsRecords {
    /// Returns names and targets of the records while `primary` is primary.
    pub(crate) fn wanted_records(
        settings: &Settings,
        primary: &NodeSettings,
    ) -> Vec<(String, String)> {
        let Some(dns) = &settings.dns else {
            return Vec::new();
        };
        let mut wanted = vec![(dns.writer.clone(), primary.address.clone())];
        if let Some(api) = &dns.api
            && let Some(target) = api.targets.get(&primary.region)
        {
            wanted.push((api.name.clone(), target.clone()));
        }
        wanted
    }

    /// Creates the client; sends no request.
    pub(crate) async fn open(settings: &DnsSettings) -> Self {
        let service = AwsService {
            region: settings.region.clone(),
            endpoint: settings.endpoint.clone(),
            ca_certificate: None,
        };
        let config = aws::config(&service, SdkRetries::Standard, TIMEOUTS).await;
        Self {
            client: Client::new(&config),
            zone: settings.zone_id.clone(),
            api_zone: settings
                .api
                .as_ref()
                .and_then(|api| Some((api.name.clone(), api.zone_id.clone()?))),
            ttl: settings.ttl_secs.into(),
        }
    }

    /// Points `name` at `target`, an address or a name, under `epoch`.
    ///
    /// # Errors
    ///
    /// [`RecordMoveError`], which is transient or permanent.
    pub(crate) async fn move_record(
        &self,
        name: &str,
        target: &str,
        epoch: Epoch,
    ) -> Result<RecordMoved, RecordMoveError> {
        let epoch_record_name = epoch_name(name);
        let zone = self.zone_of(name);
        let there = self.list_record_sets(zone, name).await?;
        let marks = self.list_record_sets(zone, &epoch_record_name).await?;
        let changes = match self.changes(name, target, epoch, &there, &marks)? {
            RecordChange::Already => return Ok(RecordMoved::Already),
            RecordChange::Batch(changes) => changes,
        };
        let batch = ChangeBatch::builder()
            .comment(format!("failover-ctl: epoch {epoch}"))
            .set_changes(Some(changes))
            .build()
            .map_err(|error| malformed(name, error))?;
        let answer = self
            .client
            .change_resource_record_sets()
            .hosted_zone_id(zone)
            .change_batch(batch)
            .send()
            .await
            .map_err(|error| classify_move_error(name, &error))?;
        // Not `unwrap_or_default()`: an empty id cannot be polled.
        let change = answer
            .change_info
            .ok_or_else(|| RecordMoveError::Transient {
                name: name.to_owned(),
                source: anyhow::anyhow!("the response has no change id"),
            })?;
        Ok(RecordMoved::Changed(change.id))
    }

    /// Points a record, and retries transient failures: the primary's agent and an operator's command move the same record
    /// under the same epoch, and the second one finds it moved.
    ///
    /// # Errors
    ///
    /// The last error before `deadline`.
    pub(crate) async fn move_record_until(
        &self,
        deadline: Instant,
        name: &str,
        target: &str,
        epoch: Epoch,
    ) -> Result<RecordMoved, RecordMoveError> {
        let judge = |error: &RecordMoveError| match error {
            RecordMoveError::Transient { .. } => RetryClass::Transient,
            RecordMoveError::Later { .. } | RecordMoveError::Refused { .. } => {
                RetryClass::Permanent
            }
        };
        let trying = retry::until(deadline, RETRY_POLICY, judge, || {
            self.move_record(name, target, epoch)
        });
        // A request to a server that hangs may take longer than the remaining time.
        match time::timeout_at(deadline, trying).await {
            Ok(moved) => moved,
            Err(_elapsed) => Err(RecordMoveError::Transient {
                name: name.to_owned(),
                source: anyhow::anyhow!("Route 53 did not respond in time"),
            }),
        }
    }

    /// Waits until all name servers of Route 53 have a change.
    ///
    /// # Errors
    ///
    /// When it is not INSYNC within two minutes.
    pub(crate) async fn wait_until_insync(&self, change: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + INSYNC_TIMEOUT;
        let polled = poll::until(deadline, POLL_INTERVAL, async || {
            let answer = self.client.get_change().id(change).send().await;
            // A failed request is repeated, like that for a pending change.
            let answer = answer.map_err(|error| describe(&error));
            let status = answer.map(|answer| answer.change_info.map(|change| change.status));
            match status {
                Ok(Some(ChangeStatus::Insync)) => Break(()),
                Ok(_) | Err(_) => Continue(status.map(drop)),
            }
        });
        match polled.await {
            Break(()) => Ok(()),
            Continue(Ok(())) => bail!("the change is not INSYNC after {INSYNC_TIMEOUT:?}"),
            Continue(Err(error)) => Err(error),
        }
    }

    /// Reads the values of a record, and the epoch under which it was last moved.
    ///
    /// # Errors
    ///
    /// When Route 53 returns an error or does not respond.
    pub(crate) async fn read_record(&self, name: &str) -> Result<RecordState, RecordMoveError> {
        let zone = self.zone_of(name);
        let there = self.list_record_sets(zone, name).await?;
        let marks = self.list_record_sets(zone, &epoch_name(name)).await?;
        let points = |set: &&ResourceRecordSet| {
            matches!(set.r#type, RrType::A | RrType::Aaaa | RrType::Cname)
        };
        let found = there.iter().filter(points).flat_map(values);
        let mark = marks.iter().find(|set| set.r#type == RrType::Txt);
        let epoch = mark.map(read_epoch).transpose();
        Ok(RecordState {
            values: found.map(str::to_owned).collect(),
            epoch: epoch.map_err(|error| malformed(name, error))?,
        })
    }

    fn zone_of(&self, name: &str) -> &str {
        match &self.api_zone {
            Some((record, zone)) if record == name => zone,
            _ => &self.zone,
        }
    }

    async fn list_record_sets(
        &self,
        zone: &str,
        name: &str,
    ) -> Result<Vec<ResourceRecordSet>, RecordMoveError> {
        let answer = self
            .client
            .list_resource_record_sets()
            .hosted_zone_id(zone)
            .start_record_name(absolute(name))
            .max_items(10)
            .send()
            .await
            .map_err(|error| classify_move_error(name, &error))?;
        let wanted = absolute(name);
        let mut sets = answer.resource_record_sets;
        sets.retain(|set| absolute(&set.name).eq_ignore_ascii_case(&wanted));
        Ok(sets)
    }

    /// Returns the epoch under which a record was last moved, if it was.
    ///
    /// # Errors
    ///
    /// When Route 53 returns an error or does not respond, or the record has no epoch.
    pub(crate) async fn epoch_of(&self, name: &str) -> anyhow::Result<Option<Epoch>> {
        let marks = self
            .list_record_sets(self.zone_of(name), &epoch_name(name))
            .await?;
        let mark = marks.iter().find(|set| set.r#type == RrType::Txt);
        mark.map(read_epoch).transpose()
    }
}

#[cfg(test)]
mod tests;
