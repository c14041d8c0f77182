//! Route 53 and EC2, simulated by moto, and the platform's hosted zones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sdk_route53::types::{
    Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType,
};
use causeway_runtime::shutdown::Tasks;

use super::Credentials;
use crate::cluster::process::{Process, RestartPolicy};
use crate::cluster::program::{Program, RunAs};
use crate::cluster::topology::{API_NAME, Topology, WRITER_NAME, ZONE};
use crate::wait;

/// Parts of Route 53 that moto lacks, in Python.
const RULES: &str = include_str!("moto_server.py");

/// Timeout of moto's first response: it loads for half a second on an idle machine.
const START_TIMEOUT: Duration = Duration::from_mins(3);

/// TTL of the records, in seconds: the same as `failover-ctl` sets when it moves a record.
pub const TTL_SECS: u32 = 5;

/// Route 53 on loopback.
#[derive(Debug)]
pub struct Route53 {
    client: aws_sdk_route53::Client,
    zones: Zones,
    process: Process,
    /// File with the current fault, which moto reads at each request.
    fault_file: PathBuf,
}

/// IDs of the private and the public hosted zone, which have the same name.
#[derive(Clone, Debug)]
pub struct Zones {
    /// Private zone, with the writer's record.
    pub private: String,
    /// Public zone, with the API's record.
    pub public: String,
}

/// Record set: all values of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSet {
    /// Name, without the final dot.
    pub name: String,
    /// Type, such as `A`.
    pub record_type: String,
    /// TTL, in seconds.
    pub ttl_secs: u32,
    /// Values in the format of Route 53.
    pub values: Vec<String>,
}

impl Route53 {
    /// Starts moto, and creates the zones.
    ///
    /// # Errors
    ///
    /// When moto is not installed or does not start.
    pub async fn start(
        topology: &Topology,
        credentials: &Credentials,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let address = topology.moto();
        let process = Process::new(moto(topology)?, RestartPolicy::Always, tasks);
        process.start();
        let client = credentials.route53(address);
        let private = wait::until("moto to answer as Route 53", START_TIMEOUT, || async {
            match create_zone(&client, "private").await {
                Ok(id) => Ok(id),
                Err(error) => Err(format!("{error:#}; its log: {}", process.log_end())),
            }
        })
        .await?;
        let public = create_zone(&client, "public").await?;
        Ok(Self {
            client,
            zones: Zones { private, public },
            process,
            fault_file: fault_file(topology),
        })
    }

    /// Returns the zone IDs.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Returns the moto process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Sets the fault of Route 53: `throttled`, `slow SECONDS`, `late SECONDS`, or none.
    ///
    /// # Errors
    ///
    /// When the fault file cannot be written.
    pub fn set_fault(&self, fault: Option<&str>) -> anyhow::Result<()> {
        let path = &self.fault_file;
        std::fs::write(path, fault.unwrap_or(""))
            .with_context(|| format!("could not write `{}`", path.display()))
    }

    /// Creates the writer's and the API's record, as Terraform does.
    ///
    /// # Errors
    ///
    /// When Route 53 rejects the change.
    pub async fn create_records(&self, writer: SocketAddr, api: SocketAddr) -> anyhow::Result<()> {
        let records = [
            (&self.zones.private, WRITER_NAME, writer),
            (&self.zones.public, API_NAME, api),
        ];
        for (zone, name, address) in records {
            let record = RecordSet {
                name: name.to_owned(),
                record_type: "A".to_owned(),
                ttl_secs: TTL_SECS,
                values: vec![address.ip().to_string()],
            };
            self.change(zone, &[(ChangeAction::Create, record)]).await?;
        }
        Ok(())
    }

    /// Applies a change batch to a zone, atomically.
    ///
    /// # Errors
    ///
    /// When Route 53 rejects the batch, with its reason.
    pub async fn change(
        &self,
        zone: &str,
        batch: &[(ChangeAction, RecordSet)],
    ) -> anyhow::Result<()> {
        let mut changes = ChangeBatch::builder();
        for (action, record) in batch {
            let change = Change::builder()
                .action(action.clone())
                .resource_record_set(record.to_sdk()?)
                .build()?;
            changes = changes.changes(change);
        }
        self.client
            .change_resource_record_sets()
            .hosted_zone_id(zone)
            .change_batch(changes.build()?)
            .send()
            .await
            .map_err(aws_sdk_route53::Error::from)
            .context("Route 53 rejected the change")?;
        Ok(())
    }

    /// Returns every record set of both zones.
    ///
    /// # Errors
    ///
    /// When Route 53 does not respond.
    pub async fn records(&self) -> anyhow::Result<Vec<RecordSet>> {
        let mut records = Vec::new();
        for zone in [&self.zones.private, &self.zones.public] {
            let listed = self
                .client
                .list_resource_record_sets()
                .hosted_zone_id(zone)
                .send()
                .await
                .map_err(aws_sdk_route53::Error::from)
                .context("could not list the records of the zone")?;
            records.extend(
                listed
                    .resource_record_sets()
                    .iter()
                    .map(RecordSet::from_sdk),
            );
        }
        Ok(records)
    }
}

impl RecordSet {
    fn from_sdk(set: &ResourceRecordSet) -> Self {
        Self {
            name: set.name().trim_end_matches('.').to_owned(),
            record_type: set.r#type().as_str().to_owned(),
            ttl_secs: set.ttl().and_then(|ttl| ttl.try_into().ok()).unwrap_or(0),
            values: set
                .resource_records()
                .iter()
                .map(|record| record.value().to_owned())
                .collect(),
        }
    }

    fn to_sdk(&self) -> anyhow::Result<ResourceRecordSet> {
        let mut set = ResourceRecordSet::builder()
            .name(&self.name)
            .r#type(RrType::from(self.record_type.as_str()))
            .ttl(i64::from(self.ttl_secs));
        for value in &self.values {
            set = set.resource_records(ResourceRecord::builder().value(value).build()?);
        }
        Ok(set.build()?)
    }
}

async fn create_zone(client: &aws_sdk_route53::Client, reference: &str) -> anyhow::Result<String> {
    let created = client
        .create_hosted_zone()
        .name(ZONE)
        .caller_reference(reference)
        .send()
        .await
        .map_err(aws_sdk_route53::Error::from)?;
    let zone = created.hosted_zone().context("Route 53 returned no zone")?;
    Ok(zone.id().trim_start_matches("/hostedzone/").to_owned())
}

fn moto(topology: &Topology) -> anyhow::Result<Program> {
    let rules = topology.directory().join("moto_server.py");
    std::fs::write(&rules, RULES)
        .with_context(|| format!("could not write `{}`", rules.display()))?;
    let address = topology.moto();
    Ok(Program {
        name: "moto".to_owned(),
        executable: python_of_moto()?,
        arguments: [
            rules.into_os_string(),
            "--host".into(),
            address.ip().to_string().into(),
            "--port".into(),
            address.port().to_string().into(),
        ]
        .to_vec(),
        environment: BTreeMap::from([
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
            ("MOTO_ACCOUNT_ID".to_owned(), "123456789012".to_owned()),
            (
                "LAB_BEHAVIOUR".to_owned(),
                fault_file(topology).display().to_string(),
            ),
        ]),
        run_as: RunAs::Oneself,
        stdin: None,
        log: topology.logs().join("moto.log"),
    })
}

/// Returns the file with the fault of Route 53.
fn fault_file(topology: &Topology) -> PathBuf {
    topology.directory().join("route53-behaviour")
}

/// Returns the Python interpreter of moto's virtual environment.
pub(crate) fn python_of_moto() -> anyhow::Result<PathBuf> {
    let server = std::env::var_os("CAUSEWAY_MOTO").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/moto_server"),
        PathBuf::from,
    );
    let python = server.with_file_name("python");
    if !server.exists() || !python.exists() {
        bail!(
            "`{}` is missing: run `make` once, or name moto's server in `CAUSEWAY_MOTO`",
            server.display()
        );
    }
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::lab_lock::LabLock;

    #[tokio::test(flavor = "multi_thread")]
    async fn record_changed_with_stale_value_then_rejected() {
        let route53_fixture = route53_fixture().await;
        let route53 = &route53_fixture.route53;
        let epoch = |number: u32| RecordSet {
            name: "db-epoch.causeway.test".to_owned(),
            record_type: "TXT".to_owned(),
            ttl_secs: 5,
            values: vec![format!("\"epoch={number}\"")],
        };
        let address = |last: u8| RecordSet {
            name: WRITER_NAME.to_owned(),
            record_type: "A".to_owned(),
            ttl_secs: 5,
            values: vec![format!("127.0.0.{last}")],
        };
        let move_to = |from: u32, to: u32| {
            [
                (ChangeAction::Delete, epoch(from)),
                (ChangeAction::Create, epoch(to)),
                (ChangeAction::Upsert, address(u8::try_from(to).unwrap())),
            ]
        };
        let first = [
            (ChangeAction::Create, epoch(1)),
            (ChangeAction::Create, address(1)),
        ];
        route53
            .change(&route53.zones().private, &first)
            .await
            .unwrap();
        route53
            .change(&route53.zones().private, &move_to(1, 2))
            .await
            .unwrap();
        route53
            .change(&route53.zones().private, &move_to(2, 3))
            .await
            .unwrap();

        let stale = route53
            .change(&route53.zones().private, &move_to(1, 4))
            .await
            .unwrap_err();
        assert!(format!("{stale:#}").contains("do not match"), "{stale:#}");

        let found = route53.records().await.unwrap();
        assert!(found.contains(&epoch(3)), "{found:?}");
        assert!(found.contains(&address(3)), "{found:?}");

        let again = route53
            .change(
                &route53.zones().private,
                &[(ChangeAction::Create, epoch(3))],
            )
            .await;
        assert!(again.is_err());
        route53_fixture.tasks.stop(Duration::from_secs(5)).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn throttled_then_rejected_until_healed() {
        let route53_fixture = route53_fixture().await;
        let route53 = &route53_fixture.route53;
        assert_eq!(route53.records().await.unwrap().len(), 4);

        route53.set_fault(Some("throttled")).unwrap();
        let refused = route53.records().await.unwrap_err();
        assert!(
            format!("{refused:#}").contains("Rate exceeded"),
            "{refused:#}"
        );

        route53.set_fault(None).unwrap();
        assert_eq!(route53.records().await.unwrap().len(), 4);
        route53_fixture.tasks.stop(Duration::from_secs(5)).await;
    }

    struct Route53Fixture {
        route53: Route53,
        tasks: Tasks,
        _claim: LabLock,
        _directory: tempfile::TempDir,
    }

    async fn route53_fixture() -> Route53Fixture {
        let directory = tempfile::tempdir().unwrap();
        let mut claim = LabLock::acquire_any().unwrap();
        let number = claim.topology.number();
        claim.topology = Topology::new(number, Some(directory.path())).unwrap();
        std::fs::create_dir_all(claim.topology.logs()).unwrap();
        let tasks = Tasks::new();
        let credentials = Credentials::generate();
        let route53 = Route53::start(&claim.topology, &credentials, &tasks);
        Route53Fixture {
            route53: route53.await.unwrap(),
            tasks,
            _claim: claim,
            _directory: directory,
        }
    }
}
