//! Every path between the hosts of one lab that a fault may cut.

use std::collections::BTreeMap;

use causeway_core::{NodeId, Region};
use causeway_runtime::shutdown::Tasks;
use serde::{Deserialize, Serialize};

use crate::cluster::topology::Topology;
use crate::network::proxy::{Condition, Link};

/// What a path leads to, and from where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// From a node to the lease's store.
    Lease {
        /// The node.
        from: NodeId,
    },
    /// From a node to the backup bucket of a region.
    Backups {
        /// The node.
        from: NodeId,
        /// The bucket's region.
        to: Region,
    },
    /// From a node to another's PostgreSQL.
    Postgres {
        /// Who connects.
        from: NodeId,
        /// Whose PostgreSQL.
        to: NodeId,
    },
    /// From a node to another's agent.
    Agent {
        /// Who connects.
        from: NodeId,
        /// Whose agent.
        to: NodeId,
    },
}

/// The paths.
#[derive(Debug)]
pub struct Links(BTreeMap<Path, Link>);

impl Links {
    /// Opens every path.
    ///
    /// # Errors
    ///
    /// When an address is in use.
    pub fn open(topology: &Topology, tasks: &Tasks) -> anyhow::Result<Self> {
        let mut links = BTreeMap::new();
        let mut open = |path: Path, listen, target| {
            let link = Link::open(path.to_string(), listen, target, tasks)?;
            links.insert(path, link);
            anyhow::Ok(())
        };
        for place in &topology.nodes {
            let from = place.node.clone();
            let lease = topology.store(&topology.third);
            open(
                Path::Lease { from: from.clone() },
                place.lease_store(),
                lease,
            )?;
            for region in topology.api_regions() {
                let listen = place.backup_store(topology, &region);
                let target = topology.store(&region);
                let from = from.clone();
                open(Path::Backups { from, to: region }, listen, target)?;
            }
            for other in topology.nodes.iter().filter(|it| it.node != from) {
                let (from, to) = (from.clone(), other.node.clone());
                let postgres = Path::Postgres {
                    from: from.clone(),
                    to: to.clone(),
                };
                open(postgres, place.postgres_of(other), other.postgres())?;
                open(
                    Path::Agent { from, to },
                    place.agent_of(other),
                    other.agent(),
                )?;
            }
        }
        Ok(Self(links))
    }

    /// Changes every path that `which` is true of.
    pub fn set(&self, condition: Condition, which: impl Fn(&Path) -> bool) {
        for (_, link) in self.0.iter().filter(|(path, _)| which(path)) {
            link.set(condition);
        }
    }

    /// Returns the paths that do not carry everything, with what they do.
    pub fn disturbed(&self) -> Vec<(String, Condition)> {
        let links = self.0.values();
        let disturbed = links.filter(|it| it.condition() != Condition::Open);
        disturbed
            .map(|it| (it.name().to_owned(), it.condition()))
            .collect()
    }
}

impl Path {
    /// Says whether it is this node's path to the lease.
    pub fn is_lease_of(&self, node: &NodeId) -> bool {
        matches!(self, Self::Lease { from } if from == node)
    }

    /// Says whether one end of the path is this node.
    pub fn touches(&self, node: &NodeId) -> bool {
        match self {
            Self::Lease { from } | Self::Backups { from, .. } => from == node,
            Self::Postgres { from, to } | Self::Agent { from, to } => from == node || to == node,
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lease { from } => write!(f, "{from} to the lease"),
            Self::Backups { from, to } => write!(f, "{from} to the backups in {to}"),
            Self::Postgres { from, to } => write!(f, "{from} to PostgreSQL on {to}"),
            Self::Agent { from, to } => write!(f, "{from} to the agent of {to}"),
        }
    }
}
