//! S3 in one region: an endpoint that can be taken away and brought back.
//!
//! The objects are files, kept by `s3s-fs`. That crate looks at a condition, writes the object and
//! then notes its `ETag`, each apart; here a write has the store to itself from its condition to its
//! `ETag`, so that of two writers with one condition exactly one succeeds, as with S3. A request is
//! read whole before it waits for its turn, so a client that is frozen midway holds up nobody, and
//! is then carried out to its end, so a client that is cut off leaves no half of a write.

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
use super::s3_answers::{self, ConnectionEnds, refusal, slow_down};
use super::s3_faults::{FaultInjector, RequestKind, S3Fault};

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
            faults: None,
        };
        Ok(Self {
            address,
            objects: Arc::new(objects),
            serving: Mutex::new(None),
        })
    }

    /// Returns the same store, in which `faults` decides the fate of each request.
    #[must_use]
    pub fn with_faults(mut self, faults: Arc<FaultInjector>) -> Self {
        if let Some(objects) = Arc::get_mut(&mut self.objects) {
            objects.faults = Some(faults);
        }
        self
    }

    /// Returns where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
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
    faults: Option<Arc<FaultInjector>>,
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
) -> Result<HttpResponse, ConnectionEnds> {
    let (parts, body) = request.into_parts();
    let kind = RequestKind::of(&parts);
    let fault = objects
        .faults
        .as_ref()
        .and_then(|it| it.decide(kind, &parts));
    match fault {
        Some(S3Fault::Refused) => return Err(ConnectionEnds),
        Some(S3Fault::Silent) => std::future::pending().await,
        _ => {}
    }
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(failed(StatusCode::BAD_REQUEST, &error)),
    };
    if let Some(refused) = fault.and_then(refused) {
        return Ok(refused);
    }
    let (done, result) = oneshot::channel();
    tasks.start("s3 request", |_stop| async move {
        let path = parts.uri.path().to_owned();
        match fault {
            Some(S3Fault::SlowBody(rate)) => {
                time::sleep(s3_answers::transfer(bytes.len(), rate)).await;
            }
            Some(S3Fault::LateWrite(by)) => time::sleep(by).await,
            _ => {}
        }
        let request = Request::from_parts(parts, Body::from(bytes));
        let answer = objects.serve(request).await;
        let creates = matches!(kind, RequestKind::Put | RequestKind::CompleteMultipart);
        if let Some(faults) = &objects.faults
            && creates
            && answer.status().is_success()
        {
            faults.created(&path);
        }
        let answer = objects.spoil(answer, &path, fault).await;
        if done.send(answer).is_err() {
            debug!("client of S3 left before its answer");
        }
    });
    match result.await {
        Ok(response) => response,
        Err(error) => Ok(failed(StatusCode::INTERNAL_SERVER_ERROR, &error)),
    }
}

/// Returns the answer to a request that is not carried out.
fn refused(fault: S3Fault) -> Option<HttpResponse> {
    match fault {
        S3Fault::SlowDown => Some(slow_down()),
        S3Fault::InternalError => Some(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        S3Fault::RequestTimeout => Some(refusal(StatusCode::BAD_REQUEST, "RequestTimeout")),
        S3Fault::ExpiredToken => Some(refusal(StatusCode::BAD_REQUEST, "ExpiredToken")),
        S3Fault::ClockSkew => Some(refusal(StatusCode::FORBIDDEN, "RequestTimeTooSkewed")),
        S3Fault::ErrorIn200 => Some(refusal(StatusCode::OK, "InternalError")),
        S3Fault::LateAnswer(_)
        | S3Fault::LateWrite(_)
        | S3Fault::SlowBody(_)
        | S3Fault::CutBody(_)
        | S3Fault::LostAnswer
        | S3Fault::ErrorIn200AfterEffect
        | S3Fault::StaleList(_)
        | S3Fault::Refused
        | S3Fault::Silent => None,
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

    /// Returns what becomes of the answer to a request that was carried out.
    async fn spoil(
        &self,
        answer: HttpResponse,
        path: &str,
        fault: Option<S3Fault>,
    ) -> Result<HttpResponse, ConnectionEnds> {
        match fault {
            Some(S3Fault::LostAnswer) => Err(ConnectionEnds),
            Some(S3Fault::ErrorIn200AfterEffect) => Ok(refusal(StatusCode::OK, "InternalError")),
            Some(S3Fault::LateAnswer(by)) => {
                time::sleep(by).await;
                Ok(answer)
            }
            Some(S3Fault::CutBody(percent)) => Ok(s3_answers::cut(answer, percent).await),
            Some(S3Fault::SlowBody(rate)) => Ok(s3_answers::slow(answer, rate).await),
            Some(S3Fault::StaleList(age)) => {
                let bucket = path.split('/').nth(1).unwrap_or_default();
                let (new, old) = self
                    .faults
                    .as_ref()
                    .map(|it| it.by_age(age))
                    .unwrap_or_default();
                Ok(s3_answers::stale(answer, bucket, &new, &old).await)
            }
            Some(_) | None => Ok(answer),
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
    use crate::aws::s3_faults::FaultProfile;

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
            match once(put(&place.client, "x")).await {
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
    async fn each_fault_then_what_a_client_sees_and_what_is_stored() {
        for (fault, answered, stored) in [
            (S3Fault::SlowDown, Some("SlowDown"), false),
            (S3Fault::InternalError, Some("InternalError"), false),
            (S3Fault::RequestTimeout, Some("RequestTimeout"), false),
            (S3Fault::ExpiredToken, Some("ExpiredToken"), false),
            (S3Fault::ClockSkew, Some("RequestTimeTooSkewed"), false),
            (S3Fault::Refused, None, false),
            (S3Fault::LostAnswer, None, true),
        ] {
            let (place, faults) = failing_place().await;
            faults.fail(FaultProfile::always(fault), None);
            let seen = once(put(&place.client, "x")).await.unwrap_err();
            assert_eq!(seen.code(), answered, "{fault:?}");
            faults.heal();
            let there = get(&place.client).send().await.is_ok();
            assert_eq!(there, stored, "{fault:?}");
            place.store.stop().await;
        }
    }

    #[tokio::test]
    async fn cut_body_then_less_than_was_promised() {
        let (place, faults) = failing_place().await;
        put(&place.client, &"x".repeat(100_000))
            .send()
            .await
            .unwrap();
        faults.fail(FaultProfile::always(S3Fault::CutBody(40)), None);
        let seen = get(&place.client).send().await.unwrap();
        assert_eq!(seen.content_length(), Some(100_000));
        assert!(seen.body.collect().await.is_err());

        faults.fail(FaultProfile::always(S3Fault::SlowBody(1_000_000)), None);
        let seen = get(&place.client).send().await.unwrap();
        let body = seen.body.collect().await.unwrap().into_bytes();
        assert_eq!(body.len(), 100_000);
        place.store.stop().await;
    }

    #[tokio::test]
    async fn stale_list_then_the_object_is_there_and_not_listed() {
        let (place, faults) = failing_place().await;
        put(&place.client, "x").send().await.unwrap();
        let list = || place.client.list_objects_v2().bucket("bucket").send();
        let stale = S3Fault::StaleList(Duration::from_mins(10));
        faults.fail(FaultProfile::always(stale), None);
        assert_eq!(list().await.unwrap().contents().len(), 0);
        assert!(get(&place.client).send().await.is_ok());
        faults.heal();
        assert_eq!(list().await.unwrap().contents().len(), 1);
        place.store.stop().await;
    }

    #[tokio::test]
    async fn completed_upload_then_an_error_inside_of_200_before_or_after_its_effect() {
        for (fault, stored) in [
            (S3Fault::ErrorIn200, false),
            (S3Fault::ErrorIn200AfterEffect, true),
        ] {
            let (place, faults) = failing_place().await;
            let client = &place.client;
            let begun = client
                .create_multipart_upload()
                .bucket("bucket")
                .key("lease");
            let begun = begun.send().await.unwrap();
            let id = begun.upload_id().unwrap();
            let part = client.upload_part().bucket("bucket").key("lease");
            let part = part.upload_id(id).part_number(1);
            let part = part
                .body(ByteStream::from_static(b"x"))
                .send()
                .await
                .unwrap();
            let part = aws_sdk_s3::types::CompletedPart::builder()
                .part_number(1)
                .set_e_tag(part.e_tag)
                .build();
            let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder()
                .parts(part)
                .build();
            faults.fail(FaultProfile::always(fault), None);
            let complete = client.complete_multipart_upload().bucket("bucket");
            let complete = complete.key("lease").upload_id(id).multipart_upload(parts);
            let retries_off = aws_sdk_s3::config::retry::RetryConfig::disabled();
            let retries_off = aws_sdk_s3::config::Builder::default().retry_config(retries_off);
            let seen = complete
                .customize()
                .config_override(retries_off)
                .send()
                .await;
            assert_eq!(seen.unwrap_err().code(), Some("InternalError"), "{fault:?}");
            faults.heal();
            assert_eq!(get(client).send().await.is_ok(), stored, "{fault:?}");
            place.store.stop().await;
        }
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

    async fn once(
        put: aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
    ) -> Result<
        aws_sdk_s3::operation::put_object::PutObjectOutput,
        aws_sdk_s3::error::SdkError<aws_sdk_s3::operation::put_object::PutObjectError>,
    > {
        let once = aws_sdk_s3::config::retry::RetryConfig::disabled();
        let once = aws_sdk_s3::config::Builder::default().retry_config(once);
        put.customize().config_override(once).send().await
    }

    async fn failing_place() -> (Place, Arc<FaultInjector>) {
        let faults = Arc::new(FaultInjector::new(1));
        let place = place_with(Some(Arc::clone(&faults))).await;
        (place, faults)
    }

    async fn place() -> Place {
        place_with(None).await
    }

    async fn place_with(faults: Option<Arc<FaultInjector>>) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let credentials = Credentials::draw();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut store = Store::new(directory.path(), &["bucket"], address, &credentials).unwrap();
        if let Some(faults) = faults {
            store = store.with_faults(faults);
        }
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
