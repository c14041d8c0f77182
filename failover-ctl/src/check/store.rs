//! Checks of the lease bucket and of the lease in it.

use causeway_core::lease::{LeaseMismatch, LeaseRecord};
use causeway_runtime::telemetry::chain;

use crate::check::clock_offset::ClockSample;
use crate::check::line::CheckLine;
use crate::clients::lease_store::{LeaseStore, LeaseStoreError};
use crate::config::Settings;
use crate::data_directory;

/// Version of an object that is stored while the bucket is not versioned.
const NO_VERSION: &str = "null";

/// Checks of the store, and the lease that it has.
pub(super) struct StoreChecks {
    pub(super) lines: Vec<CheckLine>,
    pub(super) lease: Option<LeaseRecord>,
}

/// Writes the probe object of this host, and reads the lease.
pub(super) async fn checks(settings: &Settings, store: &LeaseStore) -> StoreChecks {
    let bucket = format!("lease bucket `{}`", settings.lease.bucket);
    let writer = settings.host.as_ref().map(|host| host.node.name.as_str());
    let writer = writer.unwrap_or("operator");
    let lease = store.lease().await;
    if let Err(error @ LeaseStoreError::Unreachable { .. }) = &lease {
        let detail = format!(
            "{}; check `[lease]`, this host's AWS credentials, and their permissions \
             `s3:GetObject`, `s3:PutObject` and `s3:ListBucket`",
            chain(error)
        );
        return StoreChecks {
            lines: vec![CheckLine::failed(bucket, detail)],
            lease: None,
        };
    }
    let mut lines = vec![CheckLine::ok(bucket, "")];
    lines.extend(bucket_checks(store, writer).await);
    lines.push(lease_line(settings, &lease));
    StoreChecks {
        lines,
        lease: lease.ok().flatten(),
    }
}

/// Checks the bucket with the object that it lets this host write.
async fn bucket_checks(store: &LeaseStore, writer: &str) -> Vec<CheckLine> {
    let conditional = "conditional writes in the lease bucket";
    let mut lines = vec![match store.probe(writer).await {
        Ok(()) => CheckLine::ok(conditional, ""),
        Err(error) => CheckLine::failed(conditional, chain(&error)),
    }];
    let before = store.overwrite_probe(writer).await;
    let mut after = None;
    let sample = ClockSample::of(async {
        let headers = store.probe_headers(writer).await?;
        after = headers.version_id;
        Ok::<_, LeaseStoreError>(headers.date)
    });
    let sample = sample.await;
    let versioned = "versions in the lease bucket";
    lines.push(match (before, &sample) {
        (Ok(before), Ok(_)) if keeps_versions(before.as_deref(), after.as_deref()) => {
            CheckLine::ok(versioned, "")
        }
        (Ok(_), Ok(_)) => CheckLine::warning(
            versioned,
            "the bucket keeps no version of what is overwritten: turn versioning on, so that a damaged lease can be \
             read as it was",
        ),
        (Err(error), _) => CheckLine::failed(versioned, chain(&error)),
        (Ok(_), Err(error)) => CheckLine::failed(versioned, chain(error)),
    });
    lines.extend(sample.ok().map(|sample| sample.check("the lease store")));
    lines
}

/// Returns whether an object that had the version `before` has a new one of its own after a write: with versioning
/// suspended, the write has the version `null`, and replaces the last such version.
fn keeps_versions(before: Option<&str>, after: Option<&str>) -> bool {
    after.is_some_and(|after| after != NO_VERSION && before != Some(after))
}

fn lease_line(
    settings: &Settings,
    lease: &Result<Option<LeaseRecord>, LeaseStoreError>,
) -> CheckLine {
    let name = "lease";
    let record = match lease {
        Ok(Some(record)) => record,
        Ok(None) => {
            let detail =
                "none yet: `failover-ctl init` creates it, on the node that has the database";
            return CheckLine::skipped(name, detail);
        }
        Err(error) => return CheckLine::failed(name, chain(error)),
    };
    let data = settings
        .host
        .as_ref()
        .map(|host| &host.postgres.data_directory);
    let control = data.and_then(|data| data_directory::read_control_file(data).ok());
    match record.belongs_to(&settings.cluster, control.map(|control| control.system_id)) {
        Ok(()) => CheckLine::ok(
            name,
            format!(
                "held by `{}`, epoch {}, system identifier {}",
                record.holder.node, record.epoch, record.system_id
            ),
        ),
        Err(error @ LeaseMismatch::Cluster { .. }) => CheckLine::failed(name, chain(&error)),
        Err(LeaseMismatch::System { found, expected }) => {
            let data = data.map_or_else(String::new, |data| data.display().to_string());
            CheckLine::failed(
                name,
                format!(
                    "the lease is of the database with system identifier {found}, and `{data}` has {expected}, of \
                     another cluster: set `[postgres] data-directory` to the right one; to make this host a standby, \
                     move that directory away and leave an empty one; after an upgrade or a restore, run \
                     `failover-ctl replace-lease`"
                ),
            )
        }
    }
}
