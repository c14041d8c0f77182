//! S3 in one region: an endpoint that can be stopped and restarted.
//!
//! `s3s-fs` stores objects as files. It evaluates a condition, writes the object and records its
//! `ETag` in separate steps; here a write locks the store over all three, so that exactly one of
//! two requests with the same condition succeeds, as with S3. A request is read completely before it
//! takes the lock, so a frozen client delays no other, and then runs to completion, so a
//! disconnected client leaves no partial write.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use causeway_runtime::shutdown::Tasks;
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
use super::s3_faults::{FaultInjector, RequestKind, S3Fault};
use super::s3_responses::{self, ConnectionClosed, error_answer, slow_down};

/// Timeout of requests in progress at shutdown. They are short, and their clients have
/// disconnected.
const GRACE: Duration = Duration::from_secs(2);

/// Mode in which a store responds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceMode {
    /// Without faults.
    #[default]
    Normal,
    /// Two of three requests are rejected with 503 Slow Down, without effect.
    Throttled,
    /// The response to every second request is delayed by this time.
    Late(Duration),
}

/// S3 endpoint of one region.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    objects: Arc<S3Backend>,
    serving: Mutex<Option<Tasks>>,
}

impl S3Server {
    /// Creates a store with these buckets, whose objects are stored below `root`. It is not
    /// started.
    ///
    /// # Errors
    ///
    /// When the directories cannot be created.
    pub fn new(
        root: &Path,
        buckets: &[&str],
        address: SocketAddr,
        credentials: &Credentials,
    ) -> anyhow::Result<Self> {
        for bucket in buckets {
            let directory = root.join(bucket);
            std::fs::create_dir_all(&directory).with_context(|| {
                format!("could not create the bucket `{}`", directory.display())
            })?;
        }
        let files = s3s_fs::FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("`{}` is no store: {error:?}", root.display()))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(
            credentials.access_key.as_str(),
            credentials.secret_key.reveal(),
        ));
        let objects = S3Backend {
            service: service.build(),
            turn: RwLock::new(()),
            serves: watch::channel(ServiceMode::default()).0,
            requests: AtomicU64::new(0),
            faults: None,
        };
        Ok(Self {
            address,
            objects: Arc::new(objects),
            serving: Mutex::new(None),
        })
    }

    /// Returns the same store with a fault injector for its requests.
    #[must_use]
    pub fn with_faults(mut self, faults: Arc<FaultInjector>) -> Self {
        if let Some(objects) = Arc::get_mut(&mut self.objects) {
            objects.faults = Some(faults);
        }
        self
    }

    /// Returns the address of the endpoint.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the endpoint if it is not running.
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
            .with_context(|| format!("could not serve S3 on `{}`", self.address))?;
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

    /// Serves until SIGTERM.
    ///
    /// # Errors
    ///
    /// When the address is in use, or signals cannot be received.
    pub async fn serve_until_signalled(&self) -> anyhow::Result<()> {
        self.start().await?;
        Tasks::new().run_until_signalled(Duration::ZERO).await?;
        self.stop().await;
        Ok(())
    }

    /// Changes the mode.
    pub fn set_mode(&self, service: ServiceMode) {
        self.objects.serves.send_replace(service);
    }

    /// Returns the state of the endpoint in words.
    pub async fn state(&self) -> String {
        match (
            self.serving.lock().await.is_some(),
            *self.objects.serves.borrow(),
        ) {
            (true, ServiceMode::Normal) => "serving".to_owned(),
            (true, service) => format!("serving: {service:?}"),
            (false, _) => "gone".to_owned(),
        }
    }

    /// Closes every connection and rejects new ones until the endpoint is started again. Objects
    /// are kept.
    pub async fn stop(&self) {
        if let Some(tasks) = self.serving.lock().await.take() {
            tasks.stop(GRACE).await;
        }
    }
}

struct S3Backend {
    service: S3Service,
    turn: RwLock<()>,
    serves: watch::Sender<ServiceMode>,
    requests: AtomicU64,
    faults: Option<Arc<FaultInjector>>,
}

impl std::fmt::Debug for S3Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

fn serve(stream: TcpStream, objects: &Arc<S3Backend>, tasks: &Tasks) {
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
    objects: Arc<S3Backend>,
    request: Request<Incoming>,
    tasks: Tasks,
) -> Result<HttpResponse, ConnectionClosed> {
    let (parts, body) = request.into_parts();
    let kind = RequestKind::of(&parts);
    let fault = objects
        .faults
        .as_ref()
        .and_then(|faults| faults.select_fault(kind, &parts));
    match fault {
        Some(S3Fault::Refused) => return Err(ConnectionClosed),
        Some(S3Fault::Unresponsive) => std::future::pending().await,
        _ => {}
    }
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Ok(failed(StatusCode::BAD_REQUEST, &error)),
    };
    if let Some(rejection) = fault.and_then(error_response) {
        return Ok(rejection);
    }
    let (done, result) = oneshot::channel();
    tasks.start("s3 request", |_stop| async move {
        let path = parts.uri.path().to_owned();
        match fault {
            Some(S3Fault::SlowBody(rate)) => {
                time::sleep(s3_responses::transfer(bytes.len(), rate)).await;
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
            faults.record_creation(&path);
        }
        let answer = objects.apply_fault(answer, &path, fault).await;
        if done.send(answer).is_err() {
            debug!("client of S3 disconnected before its response");
        }
    });
    match result.await {
        Ok(response) => response,
        Err(error) => Ok(failed(StatusCode::INTERNAL_SERVER_ERROR, &error)),
    }
}

/// Returns the response to a rejected request.
fn error_response(fault: S3Fault) -> Option<HttpResponse> {
    match fault {
        S3Fault::SlowDown => Some(slow_down()),
        S3Fault::InternalError => Some(error_answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
        )),
        S3Fault::RequestTimeout => Some(error_answer(StatusCode::BAD_REQUEST, "RequestTimeout")),
        S3Fault::ExpiredToken => Some(error_answer(StatusCode::BAD_REQUEST, "ExpiredToken")),
        S3Fault::ClockSkew => Some(error_answer(StatusCode::FORBIDDEN, "RequestTimeTooSkewed")),
        S3Fault::ErrorIn200 => Some(error_answer(StatusCode::OK, "InternalError")),
        S3Fault::LateAnswer(_)
        | S3Fault::LateWrite(_)
        | S3Fault::SlowBody(_)
        | S3Fault::CutBody(_)
        | S3Fault::LostAnswer
        | S3Fault::ErrorIn200AfterEffect
        | S3Fault::StaleList(_)
        | S3Fault::Refused
        | S3Fault::Unresponsive => None,
    }
}

impl S3Backend {
    async fn serve(&self, request: Request<Body>) -> HttpResponse {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let service = *self.serves.borrow();
        match service {
            ServiceMode::Throttled if !number.is_multiple_of(3) => slow_down(),
            ServiceMode::Late(by) if !number.is_multiple_of(2) => {
                let answer = self.execute(request).await;
                time::sleep(by).await;
                answer
            }
            ServiceMode::Normal | ServiceMode::Throttled | ServiceMode::Late(_) => {
                self.execute(request).await
            }
        }
    }

    /// Applies a fault to the response of an executed request.
    async fn apply_fault(
        &self,
        answer: HttpResponse,
        path: &str,
        fault: Option<S3Fault>,
    ) -> Result<HttpResponse, ConnectionClosed> {
        match fault {
            Some(S3Fault::LostAnswer) => Err(ConnectionClosed),
            Some(S3Fault::ErrorIn200AfterEffect) => {
                Ok(error_answer(StatusCode::OK, "InternalError"))
            }
            Some(S3Fault::LateAnswer(by)) => {
                time::sleep(by).await;
                Ok(answer)
            }
            Some(S3Fault::CutBody(percent)) => Ok(s3_responses::cut_body(answer, percent).await),
            Some(S3Fault::SlowBody(rate)) => Ok(s3_responses::slow(answer, rate).await),
            Some(S3Fault::StaleList(age)) => {
                let bucket = path.split('/').nth(1).unwrap_or("");
                let (new, old) = match &self.faults {
                    Some(faults) => faults.paths_by_age(age),
                    None => (Vec::new(), Vec::new()),
                };
                Ok(s3_responses::stale(answer, bucket, &new, &old).await)
            }
            Some(_) | None => Ok(answer),
        }
    }

    async fn execute(&self, request: Request<Body>) -> HttpResponse {
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
mod tests;
