//! The running platform: starts every part in order, shows its state, and stops it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::aws::Credentials;
use crate::aws::ec2::Ec2;
use crate::aws::route53::Route53;
use crate::aws::s3::S3Server;
use crate::cluster::active_faults::ActiveFaults;
use crate::cluster::disks::DiskMode;
use crate::cluster::lab_lock::LabLock;
use crate::cluster::node::Node;
use crate::cluster::process::{Process, RestartPolicy};
use crate::cluster::programs::Programs;
use crate::cluster::secrets::{BackupKeys, LabSecrets};
use crate::cluster::topology::Topology;
use crate::cluster::{disks, lab_directory, postgres, process_table, settings};
use crate::network::dns;
use crate::network::proxies::Proxies;
use crate::progress::ProgressReporter;
use crate::wait;
use crate::workload::database_endpoints::DatabaseEndpoints;
use anyhow::{Context as _, bail};
use causeway_core::{NodeId, Region};
use causeway_runtime::http_client::HttpClient;
use causeway_runtime::shutdown::Tasks;
use hyper::Request;
use nix::sys::signal::Signal;

/// Timeout of the first primary: guard and agent start, the lease is created and a server promoted,
/// while two more nodes start.
const PRIMARY_TIMEOUT: Duration = Duration::from_mins(3);

/// Timeout of a standby to be cloned and to stream: 40 MB over loopback on a busy machine.
const STANDBY_TIMEOUT: Duration = Duration::from_mins(3);

/// Timeout of the API to migrate an empty database and become ready.
const API_TIMEOUT: Duration = Duration::from_mins(3);

/// Timeout of one readiness probe of the API.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Running platform. Dropping this value ends all of it.
#[derive(Debug)]
pub struct Lab {
    claim: LabLock,
    pub(crate) programs: Programs,
    pub(crate) secrets: LabSecrets,
    pub(crate) backup_keys: BackupKeys,
    pub(crate) stores: BTreeMap<Region, S3Server>,
    pub(crate) proxies: Proxies,
    pub(crate) route53: Arc<Route53>,
    pub(crate) nodes: Arc<[Node]>,
    pub(crate) ec2: Ec2,
    pub(crate) apis: BTreeMap<Region, Process>,
    pub(crate) active_faults: tokio::sync::Mutex<ActiveFaults>,
    pub(crate) tasks: Tasks,
}

impl Lab {
    /// Starts the platform, and returns once it accepts writes through the API and both standbys
    /// stream.
    ///
    /// # Errors
    ///
    /// When a part does not start in time, with its last observation.
    pub async fn start(claim: LabLock, progress: &ProgressReporter) -> anyhow::Result<Self> {
        Self::start_on(DiskMode::Shared, claim, progress).await
    }

    /// Starts the platform like [`Lab::start`], on disks of this kind.
    ///
    /// # Errors
    ///
    /// Like [`Lab::start`]; and when disks cannot be mounted, which needs root.
    pub async fn start_on(
        disks: DiskMode,
        claim: LabLock,
        progress: &ProgressReporter,
    ) -> anyhow::Result<Self> {
        let directory = claim.topology.directory().to_owned();
        let started = Self::start_all(disks, claim, progress).await;
        if started.is_err() {
            // Processes end with their tasks; a disk would outlive them.
            disks::detach(&directory)?;
        }
        started
    }

    async fn start_all(
        disks: DiskMode,
        claim: LabLock,
        progress: &ProgressReporter,
    ) -> anyhow::Result<Self> {
        let mut topology = claim.topology.clone();
        lab_directory::prepare(&topology)?;
        if disks == DiskMode::Own {
            disks::attach(&topology).await?;
        }
        let tasks = Tasks::new();
        let credentials = Credentials::generate();
        let secrets = LabSecrets::generate();
        secrets.write(&topology)?;
        let programs = Programs::install(&topology, &credentials)?;

        progress.report("starting S3 in three regions, Route 53, and the first database");
        let stores = start_stores(&topology, &credentials).await?;
        let proxies = Proxies::open(&topology, &tasks)?;
        for spec in &topology.nodes {
            postgres::install(&topology, spec)?;
        }
        let first = topology.nodes.first().context("a lab without nodes")?;
        let identity = topology.secrets().join("backup-identity");
        let (route53, created, recipient) = tokio::join!(
            Route53::start(&topology, &credentials, &tasks),
            postgres::create(&topology, first, &secrets),
            programs.make_backup_keys(&identity),
        );
        created?;
        let route53 = Arc::new(route53?);
        let backup_keys = BackupKeys {
            recipient: recipient?,
            identity,
        };
        let ec2 = Ec2::at(topology.moto());
        for spec in &mut topology.nodes {
            spec.instance = ec2.run_instance(&spec.region).await?;
        }
        let first = topology.nodes.first().context("a lab without nodes")?;
        let api = topology.api(&topology.primary);
        route53.create_records(first.postgres(), api).await?;
        dns::serve(topology.dns(), Arc::clone(&route53), &tasks).await?;
        settings::write_all(&topology, route53.zones(), &backup_keys)?;

        let holder = first.node.as_str();
        let init = programs.failover_ctl_on(first, &["init", "--holder", holder]);
        init.run(None, PRIMARY_TIMEOUT).await?;
        let node = |spec| Node::new(spec, &programs, &tasks);
        let api = |region: Region| {
            let process = Process::new(programs.api(&region), RestartPolicy::Always, &tasks);
            (region, process)
        };
        let nodes: Arc<[Node]> = topology.nodes.iter().map(node).collect();
        ec2.watch(&nodes, &tasks);
        let lab = Self {
            stores,
            proxies,
            route53,
            nodes: Arc::clone(&nodes),
            ec2,
            apis: topology.api_regions().into_iter().map(api).collect(),
            active_faults: tokio::sync::Mutex::default(),
            programs,
            secrets,
            backup_keys,
            tasks,
            claim,
        };
        lab.start_nodes(progress).await?;
        Ok(lab)
    }

    async fn start_nodes(&self, progress: &ProgressReporter) -> anyhow::Result<()> {
        for node in self.nodes() {
            node.start();
        }
        progress.report("waiting for the first primary");
        self.wait_for_primary(PRIMARY_TIMEOUT).await?;
        for api in self.apis.values() {
            api.start();
        }
        progress.report("waiting for both standbys to be cloned and to stream, and for the API");
        let standbys = async {
            let primary = self.wait_for_primary(PRIMARY_TIMEOUT).await?;
            let standbys = self.nodes.iter().filter(|node| node.spec.node != primary);
            futures_util::future::try_join_all(
                standbys.map(|standby| self.wait_for_standby(standby)),
            )
            .await?;
            anyhow::Ok(())
        };
        let apis = self.apis.iter().map(|(region, process)| async move {
            let address = self.topology().api(region);
            let what = format!("the API in {region} to be ready");
            wait::until(&what, API_TIMEOUT, || async {
                match get(&format!("http://{address}/readyz")).await {
                    Ok(()) => Ok(()),
                    Err(error) => Err(format!("{error:#}; its log: {}", process.log_end())),
                }
            })
            .await
        });
        let apis = async { Ok(futures_util::future::try_join_all(apis).await?) };
        tokio::try_join!(standbys, apis)?;
        Ok(())
    }

    /// Returns the topology.
    pub fn topology(&self) -> &Topology {
        &self.claim.topology
    }

    /// Returns the platform's programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Returns the backup identity and its recipient.
    pub fn backup_keys(&self) -> &BackupKeys {
        &self.backup_keys
    }

    /// Returns the nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns Route 53.
    pub fn route53(&self) -> &Route53 {
        &self.route53
    }

    /// Returns a node.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn node(&self, node: &NodeId) -> anyhow::Result<&Node> {
        // The topology's error names the existing nodes.
        self.topology().node_spec(node)?;
        let found = self.nodes.iter().find(|found| found.spec.node == *node);
        found.with_context(|| format!("`{node}` has no programs"))
    }

    /// Returns the addresses of the database and the application's password.
    pub fn database(&self) -> DatabaseEndpoints {
        let host = |node: &Node| (node.spec.node.clone(), node.spec.postgres());
        DatabaseEndpoints {
            hosts: self.nodes.iter().map(host).collect(),
            password: self.secrets.app.clone(),
        }
    }

    /// Waits until a node accepts connections and is not in recovery, and returns it.
    ///
    /// # Errors
    ///
    /// When none does in time.
    pub async fn wait_for_primary(&self, timeout: Duration) -> anyhow::Result<NodeId> {
        let database = self.database();
        let found = wait::until("a primary", timeout, || async {
            let tries = database.connect_to_primary(Duration::from_secs(1), &self.tasks);
            match tries.await {
                Ok((node, _client)) => Ok(node),
                Err(error) => Err(format!("{error:#}; {}", self.states())),
            }
        });
        Ok(found.await?)
    }

    /// Waits until a node streams from the primary.
    ///
    /// # Errors
    ///
    /// When it does not in time.
    pub async fn wait_for_standby(&self, node: &Node) -> anyhow::Result<()> {
        let what = format!("`{}` to stream", node.spec.node);
        wait::until(&what, STANDBY_TIMEOUT, || node.streams()).await?;
        Ok(())
    }

    /// Returns the state of processes, paths, nodes and the lease in words.
    pub async fn status(&self) -> String {
        let topology = self.topology();
        let mut lines = vec![format!(
            "lab {} in `{}`",
            topology.number(),
            topology.directory().display()
        )];
        for node in self.nodes() {
            let spec = &node.spec;
            lines.push(format!(
                "node {} in {} at {}: agent {}, guard {}",
                spec.node,
                spec.zone,
                spec.postgres(),
                node.agent.state(),
                node.guard.state()
            ));
        }
        for (region, api) in &self.apis {
            let address = topology.api(region);
            lines.push(format!(
                "API in {region} at http://{address}: {}",
                api.state()
            ));
        }
        for (region, store) in &self.stores {
            let address = topology.store(region);
            lines.push(format!(
                "S3 in {region} at http://{address}: {}",
                store.state().await
            ));
        }
        for (path, state) in self.proxies.disturbed() {
            lines.push(format!("path from {path}: {state:?}"));
        }
        let status = self.programs.failover_ctl(&["status"]);
        match status.run(None, Duration::from_secs(20)).await {
            Ok(table) => lines.push(format!("\n{}", table.trim_end())),
            Err(error) => lines.push(format!("failover-ctl status: {error:#}")),
        }
        lines.join("\n")
    }

    /// Ends everything and removes the lab's directory.
    ///
    /// # Errors
    ///
    /// When a process does not end within seconds.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.active_faults.lock().await.end().await?;
        let nodes = self.nodes.iter().map(Node::end_host);
        let apis = self.apis.values().map(Process::kill);
        let (nodes, apis, moto) = tokio::join!(
            futures_util::future::try_join_all(nodes),
            futures_util::future::try_join_all(apis),
            self.route53.process().kill(),
        );
        nodes?;
        apis?;
        moto?;
        for store in self.stores.values() {
            store.stop().await;
        }
        self.tasks.stop(Duration::from_secs(5)).await;
        lab_directory::remove(self.topology().directory())
    }

    fn states(&self) -> String {
        let of = |node: &Node| {
            format!(
                "{}: agent {}, guard {}",
                node.spec.node,
                node.agent.state(),
                node.guard.state()
            )
        };
        self.nodes.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A lab that is dropped without `stop` leaves no server behind.
        for node in self.nodes() {
            let _gone = process_table::signal_inside(&node.spec.data(), Signal::SIGKILL);
        }
        // A disk would keep its memory.
        let _detached = disks::detach(self.topology().directory());
    }
}

async fn start_stores(
    topology: &Topology,
    credentials: &Credentials,
) -> anyhow::Result<BTreeMap<Region, S3Server>> {
    let mut stores = BTreeMap::new();
    for (region, buckets) in topology.stores() {
        let root = topology.directory().join("s3").join(region.as_str());
        let buckets: Vec<_> = buckets.iter().map(String::as_str).collect();
        let store = S3Server::new(&root, &buckets, topology.store(&region), credentials)?;
        store.start().await?;
        stores.insert(region, store);
    }
    Ok(stores)
}

async fn get(url: &str) -> anyhow::Result<()> {
    let request = Request::get(url).body("")?;
    let response = HttpClient::new(PROBE_TIMEOUT)
        .send(request, PROBE_TIMEOUT)
        .await?;
    let status = response.status();
    if !status.is_success() {
        bail!("`{url}` responded {status}");
    }
    Ok(())
}
