//! Topology of a lab: regions, nodes, addresses and directories.
//!
//! A lab has a number `n`, and all its addresses start with `127.77.n`, so that several labs run
//! side by side. The last byte selects the service:
//!
//! | last byte | service |
//! |---|---|
//! | 2, 3, 4 | S3 of eu-west-1, eu-north-1 (the lease), eu-central-1 |
//! | 5 | Route 53 and EC2 |
//! | 11, 12, 13 | nodes a, b, c: PostgreSQL on 5432, the agent on 8009 |
//! | 21, 22 | the API in eu-west-1 and in eu-central-1 |
//! | 31, 32, 33 | proxies of a, b, c to S3: the lease store on 9000, the backup buckets on 9001, 9002 |
//! | 41, 42, 43 | a second host with the disk of a, b, c |
//! | 53 | the DNS server |
//! | 112 … 132 | `1xy`: proxy of node x to node y, on the ports of y |

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use causeway_core::{NodeId, Region};

/// Port of PostgreSQL on each node.
pub const POSTGRES_PORT: u16 = 5432;
/// Port of the agent on each node.
pub const AGENT_PORT: u16 = 8009;
/// Port of S3.
pub const S3_PORT: u16 = 9000;
/// Port of the DNS server. Port 53 would need root.
pub const DNS_PORT: u16 = 5300;
/// Port of Route 53 and EC2.
pub const MOTO_PORT: u16 = 5000;
/// Port of the API.
pub const API_PORT: u16 = 8080;

/// Domain of the records that the platform moves.
pub const ZONE: &str = "causeway.test";
/// DNS name of the primary.
pub const WRITER_NAME: &str = "db.causeway.test";
/// DNS name of the API.
pub const API_NAME: &str = "api.causeway.test";
/// Name of the cluster.
pub const CLUSTER: &str = "lab";
/// Bucket of the lease.
pub const LEASE_BUCKET: &str = "causeway-lease";

/// Topology of one lab.
#[derive(Clone, Debug)]
pub struct Topology {
    number: u8,
    directory: PathBuf,
    /// Region in which standbys take over automatically.
    pub primary: Region,
    /// Region that is promoted by command.
    pub dr: Region,
    /// Region of the lease store.
    pub third: Region,
    /// Database nodes.
    pub nodes: Vec<NodeSpec>,
}

/// Addresses and directories of a database node.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Name.
    pub node: NodeId,
    /// Region.
    pub region: Region,
    /// Availability zone.
    pub zone: String,
    /// ID of its EC2 instance in the settings.
    pub instance: String,
    /// Number of the node, from 1.
    position: u8,
    /// Last byte of its host's address.
    host: u8,
    lab: u8,
    /// Directory of the node.
    pub directory: PathBuf,
}

impl Topology {
    /// Returns the topology of lab `number`: nodes a and b in two zones of eu-west-1, node c in
    /// eu-central-1, the lease in eu-north-1.
    ///
    /// # Errors
    ///
    /// When the number is not from 1 to 250.
    pub fn new(number: u8, directory: Option<&Path>) -> anyhow::Result<Self> {
        if !(1..=250).contains(&number) {
            bail!("`{number}` is not the number of a lab: use 1 to 250");
        }
        let directory = directory.map_or_else(
            || PathBuf::from(format!("/tmp/causeway-lab-{number}")),
            Path::to_owned,
        );
        let nodes = [
            ("a", "eu-west-1", "eu-west-1a"),
            ("b", "eu-west-1", "eu-west-1b"),
            ("c", "eu-central-1", "eu-central-1a"),
        ];
        let spec = |(position, (node, region, zone)): (u8, (&str, &str, &str))| {
            anyhow::Ok(NodeSpec {
                node: node.parse()?,
                region: region.parse()?,
                zone: zone.to_owned(),
                instance: format!("i-{position:017x}"),
                position,
                host: 10 + position,
                lab: number,
                directory: directory.join(format!("node-{node}")),
            })
        };
        Ok(Self {
            number,
            primary: "eu-west-1".parse()?,
            dr: "eu-central-1".parse()?,
            third: "eu-north-1".parse()?,
            nodes: (1..).zip(nodes).map(spec).collect::<Result<_, _>>()?,
            directory,
        })
    }

    /// Returns the lab's number.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Returns the lab's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the directory of the copied programs.
    pub fn programs(&self) -> PathBuf {
        self.directory.join("bin")
    }

    /// Returns the directory of logs.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Returns the directory of passwords and keys.
    pub fn secrets(&self) -> PathBuf {
        self.directory.join("secrets")
    }

    /// Returns the control socket of `lab serve`.
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control")
    }

    /// Returns the address of S3 in a region.
    pub fn store(&self, region: &Region) -> SocketAddr {
        let host = if *region == self.primary {
            2
        } else if *region == self.third {
            3
        } else {
            4
        };
        self.address(host, S3_PORT)
    }

    /// Returns the three regions that have an S3 endpoint, each with its buckets.
    pub fn stores(&self) -> Vec<(Region, Vec<String>)> {
        let backups = |region: &Region| (region.clone(), vec![backup_bucket(region)]);
        vec![
            backups(&self.primary),
            (self.third.clone(), vec![LEASE_BUCKET.to_owned()]),
            backups(&self.dr),
        ]
    }

    /// Returns the address of Route 53 and EC2.
    pub fn moto(&self) -> SocketAddr {
        self.address(5, MOTO_PORT)
    }

    /// Returns the address of the DNS server.
    pub fn dns(&self) -> SocketAddr {
        self.address(53, DNS_PORT)
    }

    /// Returns the address of the API in a region.
    pub fn api(&self, region: &Region) -> SocketAddr {
        let host = if *region == self.primary { 21 } else { 22 };
        self.address(host, API_PORT)
    }

    /// Returns the two regions that have an API instance.
    pub fn api_regions(&self) -> [Region; 2] {
        [self.primary.clone(), self.dr.clone()]
    }

    /// Returns a node.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub fn node_spec(&self, node: &NodeId) -> anyhow::Result<&NodeSpec> {
        let found = self.nodes.iter().find(|spec| spec.node == *node);
        let names: Vec<_> = self.nodes.iter().map(|node| node.node.as_str()).collect();
        found.with_context(|| format!("no node `{node}`: the nodes are {}", names.join(", ")))
    }

    /// Returns every address on which the lab or its programs listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut all = vec![self.moto(), self.dns()];
        all.extend(self.stores().iter().map(|(region, _)| self.store(region)));
        all.extend(self.api_regions().iter().map(|region| self.api(region)));
        for spec in &self.nodes {
            all.extend([spec.postgres(), spec.agent()]);
            all.extend([spec.lease_store()]);
            all.extend(
                self.api_regions()
                    .map(|region| spec.backup_store(self, &region)),
            );
            for other in self.nodes.iter().filter(|node| node.node != spec.node) {
                all.extend([spec.postgres_of(other), spec.agent_of(other)]);
            }
        }
        all
    }

    fn address(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 77, self.number, host), port))
    }
}

/// Returns the name of the backup bucket in a region.
pub fn backup_bucket(region: &Region) -> String {
    format!("causeway-backup-{region}")
}

impl NodeSpec {
    /// Returns a second host with the same name and settings, whose proxies lead to the same
    /// targets.
    #[must_use]
    pub fn second_host(&self) -> Self {
        let directory = format!("{}-clone", self.directory.display());
        Self {
            directory: PathBuf::from(directory),
            instance: format!("{}-clone", self.instance),
            host: self.host + 30,
            ..self.clone()
        }
    }

    /// Returns the name that distinguishes this host from a second one: `a`, or `a-clone`.
    pub fn label(&self) -> String {
        let name = self.directory.file_name();
        let name = name.unwrap_or(self.directory.as_os_str());
        let name = name.to_string_lossy();
        name.strip_prefix("node-").unwrap_or(&name).to_owned()
    }

    /// Returns the address of its PostgreSQL.
    pub fn postgres(&self) -> SocketAddr {
        self.address(self.host, POSTGRES_PORT)
    }

    /// Returns the address of its agent.
    pub fn agent(&self) -> SocketAddr {
        self.address(self.host, AGENT_PORT)
    }

    /// Returns the address at which this node reaches the lease store.
    pub fn lease_store(&self) -> SocketAddr {
        self.address(30 + self.position, S3_PORT)
    }

    /// Returns the address at which this node reaches a region's backup bucket.
    pub fn backup_store(&self, topology: &Topology, region: &Region) -> SocketAddr {
        let port = if *region == topology.primary { 1 } else { 2 };
        self.address(30 + self.position, S3_PORT + port)
    }

    /// Returns the address at which this node reaches a node's PostgreSQL.
    pub fn postgres_of(&self, other: &Self) -> SocketAddr {
        self.path_to(other, POSTGRES_PORT)
    }

    /// Returns the address at which this node reaches a node's agent.
    pub fn agent_of(&self, other: &Self) -> SocketAddr {
        self.path_to(other, AGENT_PORT)
    }

    /// Returns its settings directory, which is outside the data directory.
    pub fn settings(&self) -> PathBuf {
        self.directory.join("conf")
    }

    /// Returns its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Returns the directory of PostgreSQL's Unix socket.
    pub fn sockets(&self) -> PathBuf {
        self.directory.join("sock")
    }

    /// Returns the guard's runtime directory.
    pub fn guard(&self) -> PathBuf {
        self.directory.join("guard")
    }

    /// Returns the socket on which the supervisor receives the guard's messages.
    pub fn notify_socket(&self) -> PathBuf {
        self.directory.with_extension("notify")
    }

    /// Returns the directory of the metrics that programs write for `node_exporter`.
    pub fn textfiles(&self) -> PathBuf {
        self.directory.join("textfile")
    }

    /// Returns the file that distinguishes this host from one with a copy of its disk.
    pub fn host_id(&self) -> PathBuf {
        self.settings().join("host-id")
    }

    /// Returns the agent's state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn path_to(&self, other: &Self, port: u16) -> SocketAddr {
        if self.position == other.position {
            return self.address(10 + self.position, port);
        }
        self.address(100 + 10 * self.position + other.position, port)
    }

    fn address(&self, host: u8, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(127, 77, self.lab, host), port))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn topology_then_addresses_unique() {
        let topology = Topology::new(7, None).unwrap();
        let addresses = topology.addresses();
        let distinct: BTreeSet<_> = addresses.iter().collect();

        assert_eq!(addresses.len(), 2 + 3 + 2 + 3 * (2 + 3 + 4));
        assert_eq!(distinct.len(), addresses.len());
    }

    #[test]
    fn paths_then_unique_addresses() {
        let topology = Topology::new(7, None).unwrap();
        let [a, b, _] = &topology.nodes[..] else {
            panic!("a lab has three nodes");
        };

        assert_eq!(a.postgres().to_string(), "127.77.7.11:5432");
        assert_eq!(a.postgres_of(a), a.postgres());
        assert_eq!(b.postgres_of(a).to_string(), "127.77.7.121:5432");
        assert_eq!(a.agent_of(b).to_string(), "127.77.7.112:8009");
        assert_eq!(b.lease_store().to_string(), "127.77.7.32:9000");
    }

    #[test]
    fn second_host_then_own_addresses_and_same_targets() {
        let topology = Topology::new(7, None).unwrap();
        let [a, b, _] = &topology.nodes[..] else {
            panic!("a lab has three nodes");
        };
        let clone = a.second_host();

        assert_eq!((clone.label(), a.label()), ("a-clone".into(), "a".into()));
        assert_eq!(clone.postgres().to_string(), "127.77.7.41:5432");
        assert_eq!(clone.postgres_of(b), a.postgres_of(b));
        assert_eq!(clone.postgres_of(a), a.postgres());
        assert_eq!(
            clone.data().to_string_lossy(),
            "/tmp/causeway-lab-7/node-a-clone/data"
        );
    }
}
