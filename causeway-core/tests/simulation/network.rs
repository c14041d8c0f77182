//! Network between the nodes and the lease store, and among the nodes.

use causeway_core::agent::{AgentEvent, LeaseReadResult, LeaseWrite, LeaseWriteResult};
use causeway_core::failover::observation::PeerView;
use causeway_core::lease::LeaseRecord;
use causeway_core::{Epoch, HostInstant};

use crate::cluster::{Cluster, Delivery, SimEvent};
use crate::faults::Weather;
use crate::host::Host;
use crate::mutants::Mutant;
use crate::seeded_rng::{MILLI, Micros, SECOND};
use crate::server::State;
use crate::shell::effective_precondition;

#[derive(Debug)]
pub(crate) struct LeaseRequest {
    pub(crate) host: usize,
    pub(crate) life: u64,
    pub(crate) id: u64,
    pub(crate) requested_at: HostInstant,
    /// Write; none for a read.
    pub(crate) write: Option<LeaseWrite>,
}

impl LeaseRequest {
    /// Returns the event of a failed request.
    fn failure(&self) -> AgentEvent {
        match &self.write {
            Some(write) => AgentEvent::LeaseWritten {
                nonce: write.record.nonce.clone(),
                answer: LeaseWriteResult::Unknown,
            },
            None => AgentEvent::LeaseRead {
                requested_at: self.requested_at,
                answer: LeaseReadResult::Failed,
            },
        }
    }
}

impl Cluster {
    /// Sends a request to the store, with its timeout.
    pub(crate) fn send(
        &mut self,
        host: usize,
        requested_at: HostInstant,
        write: Option<LeaseWrite>,
    ) {
        self.requests += 1;
        let (id, life) = (self.requests, self.hosts[host].agent_life);
        let request = LeaseRequest {
            host,
            life,
            id,
            requested_at,
            write,
        };
        self.hosts[host].pending.insert(id);
        self.invariants.requested(&mut self.hosts[host], self.now);
        let timeout = self.hosts[host].settings.timing.request_timeout;
        let given_up = request.failure();
        let timeout = u64::try_from(timeout.as_micros()).unwrap();
        self.answer(&request, timeout, given_up);

        let Weather {
            lost,
            slow,
            late,
            refuses,
            ..
        } = self.faults.weather;
        if self.hosts[host].cut_from_store || self.faults.store_is_down {
            if refuses {
                let refused = request.failure();
                self.answer(&request, MILLI, refused);
            }
            return;
        }
        if self.rng.in_thousand(lost) {
            return;
        }
        let delayed = request.write.is_some() && self.rng.in_thousand(late);
        let delay = if delayed {
            self.rng.between(SECOND, 20 * SECOND)
        } else {
            self.delay(slow)
        };
        self.after(delay, SimEvent::Arrive(Box::new(request)));
    }

    fn delay(&mut self, slow: u64) -> Micros {
        if self.rng.in_thousand(slow) {
            self.rng.between(100 * MILLI, 2500 * MILLI)
        } else {
            self.rng.between(2 * MILLI, 30 * MILLI)
        }
    }

    fn answer(&mut self, request: &LeaseRequest, wait: Micros, event: AgentEvent) {
        let (host, life, id) = (request.host, request.life, request.id);
        let delivery = Box::new(Delivery::Answer { id, event });
        self.after(
            wait,
            SimEvent::Deliver {
                host,
                life,
                delivery,
            },
        );
    }

    pub(crate) fn arrive(&mut self, request: &LeaseRequest) {
        if self.faults.store_is_down {
            return;
        }
        let Weather {
            slow,
            answer_lost,
            repeated,
            conflict,
            ..
        } = self.faults.weather;
        let event = match &request.write {
            None => AgentEvent::LeaseRead {
                requested_at: request.requested_at,
                answer: self.read(),
            },
            Some(_) if self.rng.in_thousand(conflict) => self.refusal(request),
            Some(write) => {
                let stored = self.put(request.host, write);
                // A client that retries by itself receives the rejection of its second attempt.
                match stored.filter(|_| !self.rng.in_thousand(repeated)) {
                    Some(answer) => AgentEvent::LeaseWritten {
                        nonce: write.record.nonce.clone(),
                        answer,
                    },
                    None => self.refusal(request),
                }
            }
        };
        if self.rng.in_thousand(answer_lost) || self.hosts[request.host].cut_from_store {
            return;
        }
        let delay = self.delay(slow);
        self.answer(request, delay, event);
    }

    fn read(&self) -> LeaseReadResult {
        match self.store.get() {
            LeaseReadResult::Found(etag, record) if self.is(Mutant::ResetIdleTime) => {
                let record = LeaseRecord {
                    idle_millis: 0,
                    ..*record
                };
                LeaseReadResult::Found(etag, Box::new(record))
            }
            answer @ (LeaseReadResult::Found(..)
            | LeaseReadResult::Missing
            | LeaseReadResult::Unusable(_)
            | LeaseReadResult::Failed) => answer,
        }
    }

    fn refusal(&self, request: &LeaseRequest) -> AgentEvent {
        match (request.failure(), self.is(Mutant::TreatARejectionAsAGrant)) {
            (AgentEvent::LeaseWritten { nonce, .. }, false) => AgentEvent::LeaseWritten {
                nonce,
                answer: LeaseWriteResult::Rejected,
            },
            (AgentEvent::LeaseWritten { nonce, .. }, true) => AgentEvent::LeaseWritten {
                nonce,
                answer: match self.store.get() {
                    LeaseReadResult::Found(etag, _) => LeaseWriteResult::Stored(etag),
                    LeaseReadResult::Missing
                    | LeaseReadResult::Unusable(_)
                    | LeaseReadResult::Failed => LeaseWriteResult::Rejected,
                },
            },
            (other, _) => other,
        }
    }

    fn put(&mut self, host: usize, write: &LeaseWrite) -> Option<LeaseWriteResult> {
        let before = self.store.last_record().cloned();
        let etag = if self.is(Mutant::PutUnconditionally) {
            Some(self.store.put_whatever_is_there(write.record.clone()))
        } else {
            let condition = effective_precondition(&write.condition);
            self.store.put(&write.record, &condition)
        }?;
        self.note_stored(host, before.as_ref(), &write.record);
        self.invariants.stored(&write.record);
        self.log(|cluster| {
            let LeaseRecord {
                epoch,
                sequence,
                state,
                highest_reserved_timeline,
                ..
            } = &write.record;
            let node = &cluster.hosts[host].node;
            format!("store: {node} wrote epoch {epoch} sequence {sequence}, {state}, highest timeline {highest_reserved_timeline}")
        });
        Some(LeaseWriteResult::Stored(etag))
    }

    /// Requests the progress of the other nodes.
    pub(crate) fn ask_peers(&mut self, host: usize) {
        let reaches = |host: &Host| host.powered && !host.cut_from_peers;
        let report = |(index, peer): (usize, &Host)| -> Option<PeerView> {
            let answers = index != host && reaches(peer) && peer.agent.is_some() && !peer.frozen;
            let progress = (peer.server.state == State::Following).then(|| peer.server.progress());
            answers.then(|| PeerView {
                node: peer.node.clone(),
                automatic: peer.automatic,
                system_id: None,
                highest: peer
                    .agent
                    .as_ref()
                    .map_or(Epoch::default(), |agent| agent.highest().0),
                progress,
                primary_collations: None,
            })
        };
        let peers = if reaches(&self.hosts[host]) {
            self.hosts.iter().enumerate().filter_map(report).collect()
        } else {
            Vec::new()
        };
        let (wait, life) = (self.delay(0), self.hosts[host].agent_life);
        let delivery = Box::new(Delivery::Now(AgentEvent::PeersObserved(peers)));
        self.after(
            wait,
            SimEvent::Deliver {
                host,
                life,
                delivery,
            },
        );
    }
}
