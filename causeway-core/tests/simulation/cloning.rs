//! Clones: a second host with a node's name and an older copy of its disk, from an image or a snapshot.

use causeway_core::Epoch;

use crate::cluster::Cluster;
use crate::mutants::Mutant;
use crate::server::Server;

/// Host that is cloned, and its clone.
pub(crate) const ORIGINAL: usize = 0;
pub(crate) const CLONE: usize = 3;

/// A copy of a disk.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    server: Server,
    remembered: (Epoch, u64),
}

impl Cluster {
    /// Copies the disk of the host that may be cloned.
    pub(crate) fn take_snapshot(&mut self) {
        let original = &self.hosts[ORIGINAL];
        let mut server = original.server.clone();
        server.end();
        self.snapshot = Some(Snapshot {
            server,
            remembered: original.remembered,
        });
    }

    /// Starts a host from the copy, with its own agent and guard.
    pub(crate) fn clone_host(&mut self) {
        if self.hosts[CLONE].exists {
            return;
        }
        if self.snapshot.is_none() || self.rng.in_thousand(500) {
            self.take_snapshot();
        }
        let Some(Snapshot { server, remembered }) = self.snapshot.clone() else {
            return;
        };
        let (now, original) = (self.now, self.hosts[ORIGINAL].host_id.clone());
        let trusts_the_name = self.is(Mutant::ResumeOnAnotherHost);
        let clone = &mut self.hosts[CLONE];
        (clone.exists, clone.powered) = (true, true);
        (clone.server, clone.remembered) = (server, remembered);
        if trusts_the_name {
            clone.host_id = original;
        }
        clone.clocks.boot(now);
        self.log(|cluster| format!("{} is cloned", cluster.hosts[CLONE].node));
        self.start_guard(CLONE);
        self.start_agent(CLONE);
    }

    /// Removes, as an operator after the alert, the duplicate host that is not the holder.
    pub(crate) fn remove_duplicate(&mut self) {
        if !self.hosts[CLONE].exists {
            return;
        }
        let duplicate = if self.holder() == Some(CLONE) {
            ORIGINAL
        } else {
            CLONE
        };
        self.log(|_| format!("an operator removes host {duplicate}"));
        self.hosts[duplicate].exists = false;
        self.power_off(duplicate, 0);
    }

    /// Returns the host that holds the lease, or held it last.
    pub(crate) fn holder(&self) -> Option<usize> {
        let holder = self.store.last_record().map(|record| &record.holder)?;
        (self.hosts.iter())
            .position(|host| host.node == holder.node && host.host_id == holder.host_id)
    }

    /// Returns the host at the address of a node: of two, the one that acknowledges writes.
    pub(crate) fn host_of(&self, node: &causeway_core::NodeId) -> Option<usize> {
        let named = |index: &usize| self.hosts[*index].node == *node && self.hosts[*index].powered;
        let mut found = (0..self.hosts.len()).filter(named);
        let first = found.next()?;
        let writes = |index: &usize| self.hosts[*index].server.acknowledges();
        Some(found.find(writes).unwrap_or(first))
    }
}
