//! `failover-ctl rejoin`: brings a node back as a standby.

use ha_core::NodeId;

use crate::config::Settings;
use crate::error::Failure;
use crate::observe;
use crate::output;
use crate::status::Role;
use crate::world::agents::Agents;
use crate::world::lease_store::LeaseStore;
use crate::world::orders::{Order, OrdersKey, What};

/// Orders the node's agent to come back, and says what it will do.
pub(crate) async fn run(settings: &Settings, node: &NodeId, rebuild: bool) -> Result<(), Failure> {
    let key = OrdersKey::read(&settings.orders_key_file)?;
    let store = LeaseStore::open(settings).await;
    let agents = Agents::new();
    let cluster = observe::cluster(settings, &store, &agents).await;
    let target = settings
        .node(node)
        .ok_or_else(|| Failure::UnknownTarget(node.to_string()))?;
    let record = cluster
        .record()
        .ok_or_else(|| Failure::NoLease(settings.cluster.clone()))?;
    if record.holder.node == *node {
        return Err(Failure::AlreadyPrimary(node.to_string()));
    }
    if cluster
        .status(node)
        .is_some_and(|it| it.role == Role::Standby && it.streaming)
        && !rebuild
    {
        output::say(&format!(
            "`{node}` is a standby that streams: there is nothing to do"
        ));
        return Ok(());
    }
    let what = What::Rejoin { rebuild };
    let order = Order::new(&settings.cluster, node, record.epoch, what);
    agents.order(target, &order, &key).await?;
    output::say(&format!(
        "`{node}` comes back as a standby of `{}`: what diverged is saved first; `failover-ctl status` shows it",
        record.holder.node
    ));
    Ok(())
}
