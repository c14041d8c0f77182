//! DNS server with the records and TTLs of Route 53.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use causeway_runtime::shutdown::Tasks;
use hickory_server::net::runtime::{Time, TokioRuntimeProvider};
use hickory_server::proto::rr::rdata::{A, CNAME, SOA, TXT};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Mutex;
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use crate::aws::route53::{RecordSet, Route53};
use crate::cluster::topology::ZONE;

/// Maximum age of the cached records. Route 53's name servers apply a change within a minute;
/// nothing in the lab waits for that.
const MAX_CACHE_AGE: Duration = Duration::from_millis(500);

/// Time after which an idle TCP connection is closed.
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum number of buffered responses of a TCP connection.
const TCP_BUFFERED_RESPONSES: usize = 16;

/// TTL of a negative response, in seconds.
const NEGATIVE_TTL_SECS: u32 = 1;

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
    let mut server = Server::new(Route53Handler {
        route53,
        cached: Mutex::new(None),
    });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE_TIMEOUT, TCP_BUFFERED_RESPONSES);
    tasks.start("dns", |stop| async move {
        stop.cancelled().await;
        if let Err(error) = server.shutdown_gracefully().await {
            debug!(%error, "DNS server ended");
        }
    });
    Ok(())
}

/// Responds from the zone's current records.
struct Route53Handler {
    route53: Arc<Route53>,
    cached: Mutex<Option<CachedZone>>,
}

struct CachedZone {
    catalog: Arc<Catalog>,
    read_at: Instant,
}

#[async_trait]
impl RequestHandler for Route53Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        let catalog = self.catalog().await;
        catalog
            .handle_request::<R, T>(request, response_handle)
            .await
    }
}

impl Route53Handler {
    /// Returns the zone. Route 53's name servers work without its API, so the cached records are
    /// used at any age while the API fails.
    async fn catalog(&self) -> Arc<Catalog> {
        let mut cached = self.cached.lock().await;
        if let Some(zone) = &*cached
            && zone.read_at.elapsed() < MAX_CACHE_AGE
        {
            return Arc::clone(&zone.catalog);
        }
        let read_at = Instant::now();
        let read = time::timeout(Duration::from_secs(1), self.route53.records());
        match read
            .await
            .context("Route 53 did not respond in a second")
            .flatten()
        {
            Ok(records) => {
                let catalog = Arc::new(catalog(&records));
                *cached = Some(CachedZone {
                    catalog: Arc::clone(&catalog),
                    read_at,
                });
                catalog
            }
            Err(error) => {
                warn!(error = format!("{error:#}"), "zone not read");
                match &*cached {
                    Some(zone) => Arc::clone(&zone.catalog),
                    None => Arc::new(catalog(&[])),
                }
            }
        }
    }
}

/// Returns the zone with these records and an SOA record, which limits negative caching.
fn catalog(records: &[RecordSet]) -> Catalog {
    let origin = fully_qualified(ZONE).expect("the zone's name is valid");
    let server = origin.prepend_label("ns").expect("the label is valid");
    let soa = RData::SOA(SOA::new(
        server.clone(),
        server,
        1,
        1,
        1,
        1,
        NEGATIVE_TTL_SECS,
    ));
    let mut zone = InMemoryZoneHandler::<TokioRuntimeProvider>::empty(
        origin.clone(),
        ZoneType::Primary,
        AxfrPolicy::Deny,
    );
    zone.upsert_mut(
        Record::from_rdata(origin.clone(), NEGATIVE_TTL_SECS, soa),
        1,
    );
    for record in records.iter().flat_map(RecordSet::to_records) {
        zone.upsert_mut(record, 1);
    }
    let handler: Arc<dyn ZoneHandler> = Arc::new(zone);
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::new(&origin), vec![handler]);
    catalog
}

fn fully_qualified(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

impl RecordSet {
    fn to_records(&self) -> Vec<Record> {
        let Some(name) = fully_qualified(&self.name) else {
            return Vec::new();
        };
        let data = |value: &String| match self.record_type.as_str() {
            "A" => value.parse().ok().map(|value| RData::A(A(value))),
            "CNAME" => fully_qualified(value).map(|target| RData::CNAME(CNAME(target))),
            "TXT" => {
                let text = value.trim_matches('"').to_owned();
                Some(RData::TXT(TXT::new(vec![text])))
            }
            // Route 53's own SOA and NS records.
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
    use std::net::Ipv4Addr;

    use hickory_resolver::TokioResolver;
    use hickory_resolver::lookup::Lookup;
    use hickory_resolver::net::NetError;
    use hickory_server::proto::rr::RecordType;

    use super::*;
    use crate::network::dns_name;

    #[tokio::test]
    async fn record_then_served_with_its_ttl() {
        let found = ask("db.causeway.test.", RecordType::A).await.unwrap();

        let [record] = found.answers() else {
            panic!("{found:?}");
        };
        assert_eq!(record.ttl, 5);
        assert_eq!(record.data.to_string(), "127.77.1.11");
    }

    #[tokio::test]
    async fn alias_then_followed_and_in_response() {
        let found = ask("DB-reader.Causeway.test.", RecordType::A)
            .await
            .unwrap();

        let shown: Vec<_> = found
            .answers()
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        assert_eq!(shown, ["db.causeway.test.", "127.77.1.11"]);
    }

    #[tokio::test]
    async fn txt_record_then_without_quotes() {
        let found = ask("db-epoch.causeway.test.", RecordType::TXT).await;

        assert_eq!(found.unwrap().answers()[0].data.to_string(), "epoch=3");
    }

    #[tokio::test]
    async fn name_or_type_missing_then_nxdomain_or_no_data() {
        let missing_name = ask("nowhere.causeway.test.", RecordType::A)
            .await
            .unwrap_err();
        assert!(missing_name.is_nx_domain(), "{missing_name}");

        let missing_type = ask("db.causeway.test.", RecordType::TXT).await.unwrap_err();
        assert!(missing_type.is_no_records_found(), "{missing_type}");
        assert!(!missing_type.is_nx_domain(), "{missing_type}");
    }

    #[tokio::test]
    async fn alias_cycle_then_response_ends() {
        ask("x.causeway.test.", RecordType::A).await.unwrap_err();
    }

    async fn ask(name: &str, record_type: RecordType) -> Result<Lookup, NetError> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let resolver: TokioResolver = dns_name::resolver(udp.local_addr().unwrap());
        let mut server = Server::new(catalog(&zone()));
        server.register_socket(udp);
        resolver.lookup(name, record_type).await
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
