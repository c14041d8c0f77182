//! What lies between the nodes and the store, and between node and node.

use causeway_core::agent::{Event, ReadAnswer, Write, WriteAnswer};
use causeway_core::failover::observation::PeerView;
use causeway_core::lease::LeaseRecord;
use causeway_core::{Epoch, Moment};

use crate::chance::{MILLI, Micros, SECOND};
use crate::cluster::{Cluster, Told, What};
use crate::faults::Weather;
use crate::host::Host;
use crate::mistakes::Mistake;
use crate::server::State;
use crate::shell::meant;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) host: usize,
    pub(crate) life: u64,
    pub(crate) id: u64,
    pub(crate) asked_at: Moment,
    /// What is written; none for a read.
    pub(crate) write: Option<Write>,
}

impl Request {
    /// Returns what the agent is told when the request fails.
    fn failure(&self) -> Event {
        match &self.write {
            Some(write) => Event::Wrote {
                nonce: write.record.nonce.clone(),
                answer: WriteAnswer::Unknown,
            },
            None => Event::Read {
                asked_at: self.asked_at,
                answer: ReadAnswer::Failed,
            },
        }
    }
}

impl Cluster {
    /// Sends a request to the store, and gives it up after its time.
    pub(crate) fn send(&mut self, host: usize, asked_at: Moment, write: Option<Write>) {
        self.requests += 1;
        let (id, life) = (self.requests, self.hosts[host].agent_life);
        let request = Request {
            host,
            life,
            id,
            asked_at,
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
        if self.chance.in_thousand(lost) {
            return;
        }
        let delayed = request.write.is_some() && self.chance.in_thousand(late);
        let delay = if delayed {
            self.chance.between(SECOND, 20 * SECOND)
        } else {
            self.delay(slow)
        };
        self.after(delay, What::Arrive(Box::new(request)));
    }

    fn delay(&mut self, slow: u64) -> Micros {
        if self.chance.in_thousand(slow) {
            self.chance.between(100 * MILLI, 2500 * MILLI)
        } else {
            self.chance.between(2 * MILLI, 30 * MILLI)
        }
    }

    fn answer(&mut self, request: &Request, wait: Micros, event: Event) {
        let (host, life, id) = (request.host, request.life, request.id);
        let told = Box::new(Told::Answer { id, event });
        self.after(wait, What::Tell { host, life, told });
    }

    pub(crate) fn arrive(&mut self, request: &Request) {
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
            None => Event::Read {
                asked_at: request.asked_at,
                answer: self.read(),
            },
            Some(_) if self.chance.in_thousand(conflict) => self.refusal(request),
            Some(write) => {
                let stored = self.put(request.host, write);
                // What repeats a request by itself hears of its second try that it is refused.
                match stored.filter(|_| !self.chance.in_thousand(repeated)) {
                    Some(answer) => Event::Wrote {
                        nonce: write.record.nonce.clone(),
                        answer,
                    },
                    None => self.refusal(request),
                }
            }
        };
        if self.chance.in_thousand(answer_lost) || self.hosts[request.host].cut_from_store {
            return;
        }
        let delay = self.delay(slow);
        self.answer(request, delay, event);
    }

    fn read(&self) -> ReadAnswer {
        match self.store.get() {
            ReadAnswer::Found(etag, record) if self.is(Mistake::ForgetIdleness) => {
                let record = LeaseRecord {
                    idle_millis: 0,
                    ..*record
                };
                ReadAnswer::Found(etag, Box::new(record))
            }
            answer @ (ReadAnswer::Found(..)
            | ReadAnswer::Missing
            | ReadAnswer::Unusable(_)
            | ReadAnswer::Failed) => answer,
        }
    }

    fn refusal(&self, request: &Request) -> Event {
        match (request.failure(), self.is(Mistake::TakeARefusalForAGrant)) {
            (Event::Wrote { nonce, .. }, false) => Event::Wrote {
                nonce,
                answer: WriteAnswer::Refused,
            },
            (Event::Wrote { nonce, .. }, true) => Event::Wrote {
                nonce,
                answer: match self.store.get() {
                    ReadAnswer::Found(etag, _) => WriteAnswer::Stored(etag),
                    ReadAnswer::Missing | ReadAnswer::Unusable(_) | ReadAnswer::Failed => {
                        WriteAnswer::Refused
                    }
                },
            },
            (other, _) => other,
        }
    }

    fn put(&mut self, host: usize, write: &Write) -> Option<WriteAnswer> {
        let before = self.store.last_record().cloned();
        let etag = if self.is(Mistake::PutUnconditionally) {
            Some(self.store.put_whatever_is_there(write.record.clone()))
        } else {
            let condition = meant(&write.condition);
            self.store.put(&write.record, &condition)
        }?;
        self.note_stored(host, before.as_ref(), &write.record);
        self.invariants.stored(&write.record);
        self.log(|it| {
            let LeaseRecord {
                epoch,
                sequence,
                state,
                highest_timeline,
                ..
            } = &write.record;
            let node = &it.hosts[host].node;
            format!("store: {node} wrote epoch {epoch} sequence {sequence}, {state}, highest timeline {highest_timeline}")
        });
        Some(WriteAnswer::Stored(etag))
    }

    /// Asks the other nodes how far they are.
    pub(crate) fn ask_peers(&mut self, host: usize) {
        let reaches = |it: &Host| it.powered && !it.cut_from_peers;
        let heard = |(index, it): (usize, &Host)| -> Option<PeerView> {
            let answers = index != host && reaches(it) && it.agent.is_some() && !it.frozen;
            let progress = (it.server.state == State::Following).then(|| it.server.progress());
            answers.then(|| PeerView {
                node: it.node.clone(),
                automatic: it.automatic,
                system_id: None,
                highest: it
                    .agent
                    .as_ref()
                    .map_or(Epoch::default(), |it| it.highest().0),
                progress,
            })
        };
        let peers = if reaches(&self.hosts[host]) {
            self.hosts.iter().enumerate().filter_map(heard).collect()
        } else {
            Vec::new()
        };
        let (wait, life) = (self.delay(0), self.hosts[host].agent_life);
        let told = Box::new(Told::Now(Event::Heard(peers)));
        self.after(wait, What::Tell { host, life, told });
    }
}
