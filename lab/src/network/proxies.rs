//! Every proxy between the hosts of a lab.

use std::collections::BTreeMap;

use causeway_core::{NodeId, Region};
use causeway_runtime::shutdown::Tasks;
use serde::{Deserialize, Serialize};

use crate::cluster::topology::Topology;
use crate::network::proxy::{NetworkState, Proxy};

/// Ends of a path between two hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkPath {
    /// From a node to the lease store.
    Lease {
        /// Node.
        from: NodeId,
    },
    /// From a node to the backup bucket of a region.
    Backups {
        /// Node.
        from: NodeId,
        /// Region of the bucket.
        to: Region,
    },
    /// From a node to another node's PostgreSQL.
    Postgres {
        /// Connecting node.
        from: NodeId,
        /// Node of the PostgreSQL.
        to: NodeId,
    },
    /// From a node to another node's agent.
    Agent {
        /// Connecting node.
        from: NodeId,
        /// Node of the agent.
        to: NodeId,
    },
}

/// Proxies of a lab.
#[derive(Debug)]
pub struct Proxies(BTreeMap<NetworkPath, Proxy>);

impl Proxies {
    /// Starts every proxy.
    ///
    /// # Errors
    ///
    /// When an address is in use.
    pub fn open(topology: &Topology, tasks: &Tasks) -> anyhow::Result<Self> {
        let mut proxies = BTreeMap::new();
        let mut open = |path: NetworkPath, listen, target| {
            let proxy = Proxy::open(path.to_string(), listen, target, tasks)?;
            proxies.insert(path, proxy);
            anyhow::Ok(())
        };
        for spec in &topology.nodes {
            let from = spec.node.clone();
            let lease = topology.store(&topology.third);
            open(
                NetworkPath::Lease { from: from.clone() },
                spec.lease_store(),
                lease,
            )?;
            for region in topology.api_regions() {
                let listen = spec.backup_store(topology, &region);
                let target = topology.store(&region);
                let from = from.clone();
                open(NetworkPath::Backups { from, to: region }, listen, target)?;
            }
            for other in topology.nodes.iter().filter(|node| node.node != from) {
                let from = from.clone();
                let to = other.node.clone();
                let postgres = NetworkPath::Postgres {
                    from: from.clone(),
                    to: to.clone(),
                };
                open(postgres, spec.postgres_of(other), other.postgres())?;
                open(
                    NetworkPath::Agent { from, to },
                    spec.agent_of(other),
                    other.agent(),
                )?;
            }
        }
        Ok(Self(proxies))
    }

    /// Changes the state of every proxy whose path `which` selects.
    pub fn set(&self, state: NetworkState, which: impl Fn(&NetworkPath) -> bool) {
        for (_, proxy) in self.0.iter().filter(|(path, _)| which(path)) {
            proxy.set(state);
        }
    }

    /// Returns the paths with a fault, and its state.
    pub fn disturbed(&self) -> Vec<(String, NetworkState)> {
        let proxies = self.0.values();
        let disturbed = proxies.filter(|proxy| proxy.state() != NetworkState::Open);
        disturbed
            .map(|proxy| (proxy.name().to_owned(), proxy.state()))
            .collect()
    }
}

impl NetworkPath {
    /// Tests whether this is the node's path to the lease store.
    pub fn is_lease_of(&self, node: &NodeId) -> bool {
        matches!(self, Self::Lease { from } if from == node)
    }

    /// Tests whether this node is one end of the path.
    pub fn involves(&self, node: &NodeId) -> bool {
        match self {
            Self::Lease { from } | Self::Backups { from, .. } => from == node,
            Self::Postgres { from, to } | Self::Agent { from, to } => from == node || to == node,
        }
    }
}

impl std::fmt::Display for NetworkPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lease { from } => write!(f, "{from} to the lease"),
            Self::Backups { from, to } => write!(f, "{from} to the backups in {to}"),
            Self::Postgres { from, to } => write!(f, "{from} to PostgreSQL on {to}"),
            Self::Agent { from, to } => write!(f, "{from} to the agent of {to}"),
        }
    }
}
