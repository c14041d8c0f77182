//! DNS server with the records and TTLs of Route 53.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use causeway_runtime::shutdown::Tasks;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Mutex;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use crate::aws::route53::{RecordSet, Route53};

/// Maximum age of the cached records. Route 53's name servers apply a change within a minute;
/// nothing in the lab waits for that.
const MAX_CACHE_AGE: Duration = Duration::from_millis(500);

/// Maximum number of followed aliases, which ends a cycle.
const MAX_ALIASES: usize = 8;

/// Serves DNS on `address`, over UDP and TCP, until `tasks` are stopped.
///
/// # Errors
///
/// When the address is in use.
pub async fn serve(
    address: SocketAddr,
    route53: Arc<Route53>,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let in_use = || format!("could not serve DNS on `{address}`");
    let udp = UdpSocket::bind(address).await.with_context(in_use)?;
    let tcp = TcpListener::bind(address).await.with_context(in_use)?;
    let resolver = Arc::new(DnsServer {
        route53,
        copy: Mutex::new(None),
    });
    let over_udp = Arc::clone(&resolver);
    tasks.start("dns over udp", |stop| async move {
        let mut packet = [0; 4096];
        while let Some(received) = stop.run_until_cancelled(udp.recv_from(&mut packet)).await {
            let Ok((length, client)) = received else {
                continue;
            };
            let Some(query) = packet.get(..length) else {
                continue;
            };
            let Some(answer) = over_udp.answer(query).await else {
                continue;
            };
            if let Err(error) = udp.send_to(&answer, client).await {
                debug!(%error, "DNS response not sent");
            }
        }
    });
    let connections = tasks.clone();
    tasks.start("dns over tcp", |stop| async move {
        while let Some(accepted) = stop.run_until_cancelled(tcp.accept()).await {
            let Ok((stream, _)) = accepted else { continue };
            let resolver = Arc::clone(&resolver);
            connections.start("dns connection", |stop| async move {
                if let Some(Err(error)) = stop
                    .run_until_cancelled(resolver.serve_connection(stream))
                    .await
                {
                    debug!(%error, "connection to the DNS server ended");
                }
            });
        }
    });
    Ok(())
}

/// Resolves the addresses of a name, with their TTL.
///
/// # Errors
///
/// When the server does not respond within a second, or has no address.
pub async fn look_up(resolver: SocketAddr, name: &str) -> anyhow::Result<(Vec<IpAddr>, Duration)> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&question.to_vec()?).await?;
    let mut packet = [0; 4096];
    let length = time::timeout(Duration::from_secs(1), socket.recv(&mut packet))
        .await
        .with_context(|| format!("`{resolver}` did not resolve `{name}`"))??;
    let response = packet.get(..length).context("the response is too long")?;
    let answer = Message::from_vec(response)?;
    let mut ttl = Duration::MAX;
    let mut found = Vec::new();
    for record in &answer.answers {
        ttl = ttl.min(Duration::from_secs(u64::from(record.ttl)));
        if let RData::A(A(address)) = record.data {
            found.push(IpAddr::V4(address));
        }
    }
    if found.is_empty() {
        bail!(
            "`{name}` has no address ({})",
            answer.metadata.response_code
        );
    }
    Ok((found, ttl))
}

struct DnsServer {
    route53: Arc<Route53>,
    copy: Mutex<Option<ZoneCopy>>,
}

struct ZoneCopy {
    records: Arc<Vec<RecordSet>>,
    made_at: Instant,
}

impl DnsServer {
    async fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let question = match Message::from_vec(packet) {
            Ok(question) => question,
            Err(error) => {
                debug!(%error, "not a DNS query");
                return None;
            }
        };
        answer(&question, &self.records().await).to_vec().ok()
    }

    async fn serve_connection(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        loop {
            let length = usize::from(stream.read_u16().await?);
            let mut packet = vec![0; length];
            stream.read_exact(&mut packet).await?;
            let answer = self.answer(&packet).await.context("not a DNS query")?;
            stream.write_u16(u16::try_from(answer.len())?).await?;
            stream.write_all(&answer).await?;
        }
    }

    /// Returns the zone's records. Route 53's name servers work without its API, so the cached
    /// records are used at any age while the API fails.
    async fn records(&self) -> Arc<Vec<RecordSet>> {
        let mut copy = self.copy.lock().await;
        if let Some(copy) = &*copy
            && copy.made_at.elapsed() < MAX_CACHE_AGE
        {
            return Arc::clone(&copy.records);
        }
        let made_at = Instant::now();
        match time::timeout(Duration::from_secs(1), self.route53.records()).await {
            Ok(Ok(records)) => {
                let records = Arc::new(records);
                *copy = Some(ZoneCopy {
                    records: Arc::clone(&records),
                    made_at,
                });
                records
            }
            Ok(Err(error)) => {
                warn!(error = format!("{error:#}"), "zone not read");
                stale(copy.as_ref())
            }
            Err(_elapsed) => stale(copy.as_ref()),
        }
    }
}

fn stale(copy: Option<&ZoneCopy>) -> Arc<Vec<RecordSet>> {
    match copy {
        Some(copy) => Arc::clone(&copy.records),
        // Negative responses are cached for one second only.
        None => Arc::new(Vec::new()),
    }
}

/// Returns the response to a query from these records.
fn answer(question: &Message, records: &[RecordSet]) -> Message {
    let mut reply = Message::new(
        question.metadata.id,
        MessageType::Response,
        question.metadata.op_code,
    );
    reply.metadata.recursion_desired = question.metadata.recursion_desired;
    reply.metadata.authoritative = true;
    reply.queries.clone_from(&question.queries);
    let (Some(query), OpCode::Query) = (question.queries.first(), question.metadata.op_code) else {
        reply.metadata.response_code = ResponseCode::NotImp;
        return reply;
    };

    let mut name = query.name().clone();
    for _ in 0..MAX_ALIASES {
        let here: Vec<_> = records
            .iter()
            .filter(|record| record.is_at(&name))
            .collect();
        let wanted = here.iter().filter(|node| node.is_of(query.query_type()));
        let found: Vec<_> = wanted.flat_map(|set| set.to_records(&name)).collect();
        if !found.is_empty() {
            reply.add_answers(found);
            return reply;
        }
        let alias = here
            .iter()
            .filter(|node| node.is_of(RecordType::CNAME))
            .flat_map(|node| node.to_records(&name))
            .next();
        match alias {
            Some(alias) => {
                if let RData::CNAME(CNAME(target)) = &alias.data {
                    name = target.clone();
                }
                reply.add_answer(alias);
            }
            None if here.is_empty() => {
                reply.metadata.response_code = ResponseCode::NXDomain;
                reply.add_authorities(start_of_authority(&name));
                return reply;
            }
            None => {
                reply.add_authorities(start_of_authority(&name));
                return reply;
            }
        }
    }
    reply.metadata.response_code = ResponseCode::ServFail;
    reply
}

/// Returns the SOA record, which limits negative caching to one second.
fn start_of_authority(name: &Name) -> Option<Record> {
    let zone = name.base_name();
    let server = Name::from_ascii("ns.causeway.test.").ok()?;
    let data = SOA::new(server.clone(), server, 1, 1, 1, 1, 1);
    Some(Record::from_rdata(zone, 1, RData::SOA(data)))
}

impl RecordSet {
    fn is_at(&self, name: &Name) -> bool {
        Name::from_ascii(&self.name).is_ok_and(|own| own.eq_ignore_root(name))
    }

    fn is_of(&self, record_type: RecordType) -> bool {
        self.record_type == record_type.to_string()
    }

    fn to_records(&self, name: &Name) -> Vec<Record> {
        let data = |value: &String| match self.record_type.as_str() {
            "A" => value.parse().ok().map(|value| RData::A(A(value))),
            "CNAME" => Name::from_ascii(value)
                .ok()
                .map(|target| RData::CNAME(CNAME(target))),
            "TXT" => {
                let text = value.trim_matches('"').to_owned();
                Some(RData::TXT(TXT::new(vec![text])))
            }
            _ => None,
        };
        let found = self.values.iter().filter_map(data);
        found
            .map(|data| Record::from_rdata(name.clone(), self.ttl_secs, data))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_then_served_with_its_ttl() {
        let reply = ask("db.causeway.test.", RecordType::A);

        let [record] = &reply.answers[..] else {
            panic!("{reply:?}");
        };
        assert_eq!(record.ttl, 5);
        assert_eq!(record.data.to_string(), "127.77.1.11");
    }

    #[test]
    fn alias_then_followed_and_in_response() {
        let reply = ask("DB-reader.Causeway.test.", RecordType::A);

        let shown: Vec<_> = reply
            .answers
            .iter()
            .map(|answer| answer.data.to_string())
            .collect();
        assert_eq!(shown, ["db.causeway.test.", "127.77.1.11"]);
    }

    #[test]
    fn txt_record_then_without_quotes() {
        let reply = ask("db-epoch.causeway.test.", RecordType::TXT);

        assert_eq!(reply.answers[0].data.to_string(), "epoch=3");
    }

    #[test]
    fn name_or_type_missing_then_nxdomain_or_no_data() {
        let nothing = ask("nowhere.causeway.test.", RecordType::A);
        assert_eq!(nothing.metadata.response_code, ResponseCode::NXDomain);

        let no_text = ask("db.causeway.test.", RecordType::TXT);
        assert_eq!(no_text.metadata.response_code, ResponseCode::NoError);
        assert!(no_text.answers.is_empty());
    }

    #[test]
    fn alias_cycle_then_servfail() {
        let reply = ask("x.causeway.test.", RecordType::A);

        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }

    fn ask(name: &str, record_type: RecordType) -> Message {
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
        let packet = answer(&question, &zone()).to_vec().unwrap();
        Message::from_vec(&packet).unwrap()
    }

    fn zone() -> Vec<RecordSet> {
        let record = |name: &str, record_type: &str, value: &str| RecordSet {
            name: format!("{name}.causeway.test"),
            record_type: record_type.to_owned(),
            ttl_secs: 5,
            values: vec![value.to_owned()],
        };
        vec![
            record("db", "A", "127.77.1.11"),
            record("db-reader", "CNAME", "db.causeway.test."),
            record("db-epoch", "TXT", "\"epoch=3\""),
            record("x", "CNAME", "y.causeway.test."),
            record("y", "CNAME", "x.causeway.test."),
        ]
    }
}
