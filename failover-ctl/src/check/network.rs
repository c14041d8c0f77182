//! Checks of the other nodes: agent, PostgreSQL and clock.

use std::io;
use std::time::Duration;

use causeway_core::lease::LeaseRecord;
use causeway_runtime::telemetry::chain;
use futures_util::future::join_all;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time;

use crate::check::clock_offset::ClockSample;
use crate::check::line::CheckLine;
use crate::clients::agents::AgentClient;
use crate::config::{NodeSettings, Settings};

/// Time to connect, across regions: two transmissions of a SYN, the second after a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to every other node.
pub(super) async fn checks(
    settings: &Settings,
    lease: Option<&LeaseRecord>,
    before_install: bool,
) -> Vec<CheckLine> {
    let own = settings.host.as_ref().map(|host| &host.node.name);
    let others = settings.nodes.iter();
    let others = others.filter(|node| own != Some(&node.name));
    // Before the first lease, no agent and no PostgreSQL need run.
    let may_be_missing = before_install || lease.is_none();
    let agents = &AgentClient::new(settings);
    let lines = join_all(others.map(|node| node_checks(agents, node, may_be_missing))).await;
    lines.into_iter().flatten().collect()
}

async fn node_checks(
    agents: &AgentClient,
    node: &NodeSettings,
    may_be_missing: bool,
) -> Vec<CheckLine> {
    let postgres = async {
        let name = format!("PostgreSQL of {}", node.name);
        let at = format!("{} port {}", node.address, node.port);
        let connected = connect((node.address.as_str(), node.port)).await;
        match connected {
            Ok(()) => CheckLine::ok(name, at),
            Err(error) => not_connected(name, &at, node.port, &error, may_be_missing),
        }
    };
    let (mut lines, postgres) = tokio::join!(agent_checks(agents, node, may_be_missing), postgres);
    lines.insert(1.min(lines.len()), postgres);
    lines
}

/// Reads the status of a node, and compares the clocks.
async fn agent_checks(
    agents: &AgentClient,
    node: &NodeSettings,
    may_be_missing: bool,
) -> Vec<CheckLine> {
    let name = format!("agent of {}", node.name);
    let at = node.agent.to_string();
    if let Err(error) = connect(node.agent).await {
        let port = node.agent.port();
        return vec![not_connected(name, &at, port, &error, may_be_missing)];
    }
    let status = agents.query_status(node).await;
    let sample = ClockSample::of(agents.read_date(node)).await;
    let mut lines = vec![match status {
        Ok(status) => CheckLine::ok(name, format!("{at}, {}", status.role)),
        Err(error) => CheckLine::failed(
            name,
            format!(
                "{}; check `nodes.agent`, and that the settings are the same on both hosts",
                chain(&error)
            ),
        ),
    }];
    // The line above names a failed request.
    lines.extend(sample.ok().map(|sample| sample.check(node.name.as_str())));
    lines
}

async fn connect(address: impl ToSocketAddrs) -> io::Result<()> {
    let connecting = time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let timed_out = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
    connecting.await.map_err(timed_out)?.map(drop)
}

fn not_connected(
    name: String,
    at: &str,
    port: u16,
    error: &io::Error,
    may_be_missing: bool,
) -> CheckLine {
    if error.kind() != io::ErrorKind::ConnectionRefused {
        let detail = format!(
            "{at}: {error}; check the address in `[[nodes]]`, its DNS name, routes, and that security groups and \
             firewalls let this host reach port {port}"
        );
        return CheckLine::failed(name, detail);
    }
    if may_be_missing {
        return CheckLine::skipped(name, format!("none yet: nothing listens at {at}"));
    }
    let detail = format!("nothing listens at {at}: start the agent of that node, and read its log");
    CheckLine::failed(name, detail)
}
