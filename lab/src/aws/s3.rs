//! S3 in one region: an endpoint that can be taken away and brought back.
//!
//! The objects are files, kept by `s3s-fs`. That crate looks at a condition, writes the object and
//! then notes its `ETag`, each apart; here a write has the store to itself from its condition to its
//! `ETag`, so that of two writers with one condition exactly one succeeds, as with S3. A request is
//! read whole before it waits for its turn, so a client that is frozen midway holds up nobody, and
//! is then carried out to its end, so a client that is cut off leaves no half of a write.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use ha_runtime::shutdown::Tasks;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, RwLock, oneshot, watch};
use tokio::time;
use tracing::{debug, warn};

use super::Credentials;

/// How long a stop waits for requests under way; they are short, and their clients are gone.
const GRACE: Duration = Duration::from_secs(2);

/// How a store serves those who reach it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// As it should.
    #[default]
    Well,
    /// Two requests of three are refused with 503 Slow Down, and not carried out.
    Throttled,
    /// Every second request is carried out, and answered so much later.
    Late(Duration),
}

/// The endpoint of S3 in one region.
#[derive(Debug)]
pub struct Store {
    address: SocketAddr,
    objects: Arc<Objects>,
    serving: Mutex<Option<Tasks>>,
}

impl Store {
    /// Returns a store with these buckets, whose objects lie below `root`. It does not serve yet.
    ///
    /// # Errors
    ///
    /// When the directories cannot be made.
    pub fn new(
        root: &Path,
        buckets: &[&str],
        address: SocketAddr,
        credentials: &Credentials,
    ) -> anyhow::Result<Self> {
        for bucket in buckets {
            let directory = root.join(bucket);
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("could not make the bucket `{}`", directory.display()))?;
        }
        let files = s3s_fs::FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("`{}` is no store: {error:?}", root.display()))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(
            credentials.access_key.as_str(),
            credentials.secret_key.reveal(),
        ));
        let objects = Objects {
            service: service.build(),
            turn: RwLock::new(()),
            serves: watch::channel(Service::default()).0,
            requests: AtomicU64::new(0),
        };
        Ok(Self {
            address,
            objects: Arc::new(objects),
            serving: Mutex::new(None),
        })
    }

    /// Begins to serve. A store that serves goes on serving.
    ///
    /// # Errors
    ///
    /// When the address is in use.
    pub async fn start(&self) -> anyhow::Result<()> {
        let mut serving = self.serving.lock().await;
        if serving.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address)
            .await
            .with_context(|| format!("S3 could not listen on `{}`", self.address))?;
        let tasks = Tasks::new();
        let objects = Arc::clone(&self.objects);
        let connections = tasks.clone();
        tasks.start("s3", |stop| async move {
            while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
                match accepted {
                    Ok((stream, _)) => serve(stream, &objects, &connections),
                    Err(error) => warn!(%error, "connection to S3 not accepted"),
                }
            }
        });
        *serving = Some(tasks);
        Ok(())
    }

    /// Changes how it serves.
    pub fn behave(&self, service: Service) {
        self.objects.serves.send_replace(service);
    }

    /// Returns in words whether and how it serves.
    pub async fn state(&self) -> String {
        match (
            self.serving.lock().await.is_some(),
            *self.objects.serves.borrow(),
        ) {
            (true, Service::Well) => "serving".to_owned(),
            (true, service) => format!("serving: {service:?}"),
            (false, _) => "gone".to_owned(),
        }
    }

    /// Ends every connection and refuses new ones, until the store is started again. The objects
    /// stay.
    pub async fn stop(&self) {
        if let Some(tasks) = self.serving.lock().await.take() {
            tasks.stop(GRACE).await;
        }
    }
}

struct Objects {
    service: S3Service,
    turn: RwLock<()>,
    serves: watch::Sender<Service>,
    requests: AtomicU64,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

fn serve(stream: TcpStream, objects: &Arc<Objects>, tasks: &Tasks) {
    let objects = Arc::clone(objects);
    let requests = tasks.clone();
    tasks.start("s3 connection", |stop| async move {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "connection without TCP_NODELAY");
        }
        let answer =
            service_fn(move |request| answer(Arc::clone(&objects), request, requests.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        if let Some(Err(error)) = stop.run_until_cancelled(connection).await {
            debug!(%error, "connection to S3 ended");
        }
    });
}

async fn answer(
    objects: Arc<Objects>,
    request: Request<Incoming>,
    tasks: Tasks,
) -> Result<HttpResponse, Infallible> {
    let (parts, body) = request.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(failed(StatusCode::BAD_REQUEST, &error)),
    };
    let (done, result) = oneshot::channel();
    tasks.start("s3 request", |_stop| async move {
        let request = Request::from_parts(parts, Body::from(bytes));
        let answer = objects.serve(request).await;
        if done.send(answer).is_err() {
            debug!("client of S3 left before its answer");
        }
    });
    match result.await {
        Ok(response) => Ok(response),
        Err(error) => Ok(failed(StatusCode::INTERNAL_SERVER_ERROR, &error)),
    }
}

impl Objects {
    async fn serve(&self, request: Request<Body>) -> HttpResponse {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let service = *self.serves.borrow();
        match service {
            Service::Throttled if !number.is_multiple_of(3) => slow_down(),
            Service::Late(by) if !number.is_multiple_of(2) => {
                let answer = self.carry_out(request).await;
                time::sleep(by).await;
                answer
            }
            Service::Well | Service::Throttled | Service::Late(_) => self.carry_out(request).await,
        }
    }

    async fn carry_out(&self, request: Request<Body>) -> HttpResponse {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let result = if reads {
            let _turn = self.turn.read().await;
            self.service.call(request).await
        } else {
            let _turn = self.turn.write().await;
            self.service.call(request).await
        };
        result.unwrap_or_else(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, &error))
    }
}

/// The answer of S3 to a client that asks too often.
fn slow_down() -> HttpResponse {
    let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                <Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    let mut response = Response::new(Body::http_body(Full::new(Bytes::from_static(
        text.as_bytes(),
    ))));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

fn failed(status: StatusCode, error: &impl std::fmt::Debug) -> HttpResponse {
    let text = Bytes::from(format!("{error:?}\n"));
    let mut response = Response::new(Body::http_body(Full::new(text)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::Client;
    use aws_sdk_s3::error::ProvideErrorMetadata as _;
    use aws_sdk_s3::primitives::ByteStream;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_writers_with_one_condition_exactly_one_succeeds() {
        let place = place().await;
        let mut etag = None;
        for round in 0..20 {
            let tries = (0..8).map(|writer| {
                let body = format!("round {round}, writer {writer}");
                let put = put(&place.client, &body);
                match &etag {
                    None => put.if_none_match("*").send(),
                    Some(etag) => put.if_match(etag).send(),
                }
            });
            let results = join_all(tries).await;

            let won: Vec<_> = results.iter().filter_map(|it| it.as_ref().ok()).collect();
            assert_eq!(won.len(), 1, "{results:?}");
            for lost in results.iter().filter_map(|it| it.as_ref().err()) {
                assert_eq!(lost.code(), Some("PreconditionFailed"));
            }
            let now = get(&place.client).send().await.unwrap();
            assert_eq!(now.e_tag(), won[0].e_tag());
            etag = won[0].e_tag().map(str::to_owned);
        }
        place.store.stop().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reader_never_sees_one_write_with_the_etag_of_another() {
        let place = place().await;
        let bodies = ["one", "two"];
        let mut etags = Vec::new();
        for body in bodies {
            let written = put(&place.client, body).send().await.unwrap();
            etags.push(written.e_tag().unwrap().to_owned());
        }

        let write = async {
            for round in 0..40 {
                put(&place.client, bodies[round % 2]).send().await.unwrap();
            }
        };
        let read = async {
            for _ in 0..80 {
                let seen = get(&place.client).send().await.unwrap();
                let etag = seen.e_tag().unwrap().to_owned();
                let body = seen.body.collect().await.unwrap().into_bytes();
                let which = bodies.iter().position(|it| it.as_bytes() == body).unwrap();
                assert_eq!(etag, etags[which]);
            }
        };
        tokio::join!(write, read);
        place.store.stop().await;
    }

    #[tokio::test]
    async fn keeps_its_objects_while_it_is_away() {
        let place = place().await;
        put(&place.client, "here to stay").send().await.unwrap();

        place.store.stop().await;
        assert!(get(&place.client).send().await.is_err());

        place.store.start().await.unwrap();
        let seen = get(&place.client).send().await.unwrap();
        let body = seen.body.collect().await.unwrap().into_bytes();
        assert_eq!(&body[..], b"here to stay");
        place.store.stop().await;
    }

    #[tokio::test]
    async fn throttled_store_then_two_of_three_refused() {
        let place = place().await;
        place.store.behave(Service::Throttled);
        let (mut refused, mut carried_out) = (0, 0);
        for _request in 0..6 {
            let once = aws_sdk_s3::config::retry::RetryConfig::disabled();
            let once = aws_sdk_s3::config::Builder::default().retry_config(once);
            match put(&place.client, "x")
                .customize()
                .config_override(once)
                .send()
                .await
            {
                Ok(_) => carried_out += 1,
                Err(error) => {
                    assert_eq!(error.code(), Some("SlowDown"));
                    refused += 1;
                }
            }
        }
        assert_eq!((refused, carried_out), (4, 2));
        place.store.stop().await;
    }

    #[tokio::test]
    async fn late_store_then_carried_out_before_its_answer() {
        let place = place().await;
        put(&place.client, "before").send().await.unwrap();
        // Every second request is late: this one, and the one after the next.
        place.store.behave(Service::Late(Duration::from_mins(10)));
        let late = put(&place.client, "late");
        let given_up = time::timeout(Duration::from_millis(500), late.send()).await;
        assert!(given_up.is_err(), "{given_up:?}");

        place.store.behave(Service::Well);
        let seen = get(&place.client).send().await.unwrap();
        let body = seen.body.collect().await.unwrap().into_bytes();
        assert_eq!(&body[..], b"late");
        place.store.stop().await;
    }

    #[tokio::test]
    async fn refuses_another_labs_credentials() {
        let place = place().await;
        let stranger = Credentials::draw().s3(&"eu-north-1".parse().unwrap(), place.store.address);

        assert!(get(&stranger).send().await.is_err());
        place.store.stop().await;
    }

    struct Place {
        store: Store,
        client: Client,
        _directory: tempfile::TempDir,
    }

    async fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let credentials = Credentials::draw();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let store = Store::new(directory.path(), &["bucket"], address, &credentials).unwrap();
        store.start().await.unwrap();
        Place {
            client: credentials.s3(&"eu-north-1".parse().unwrap(), address),
            store,
            _directory: directory,
        }
    }

    fn put(
        client: &Client,
        body: &str,
    ) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
        let body = ByteStream::from(body.as_bytes().to_vec());
        client.put_object().bucket("bucket").key("lease").body(body)
    }

    fn get(client: &Client) -> aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder {
        client.get_object().bucket("bucket").key("lease")
    }
}
