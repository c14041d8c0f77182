//! Client of one bucket: the SDK's client with the limits and checks of its use.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::{Builder, Credentials};
use aws_sdk_s3::config::{ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::error::S3Error;
use super::error_kind::S3ErrorKind;
use crate::aws::{self, AwsConnections, AwsService, AwsTimeouts, SdkRetries};

/// Time after which an upload of which no byte moves is cancelled.
const UPLOAD_STALL: Duration = Duration::from_secs(20);

/// The SDK's own timeout of a call that the caller limits: longer than any call.
const NO_LIMIT: Duration = Duration::from_hours(24);

/// Objects that a client transfers, which decide the SDK's limits and checks.
#[derive(Clone, Copy, Debug)]
pub enum S3Usage {
    /// Records of a few kilobytes, read and written whole.
    Records {
        /// Timeout of connecting, and of each call.
        timeout: Duration,
    },
    /// Objects of any size, whose content is authenticated by the reader. The caller limits each call, by the bytes
    /// that it moves; an upload of which no byte moves for 20 s is cancelled.
    Archive {
        /// Timeout of connecting.
        connect: Duration,
    },
}

/// Key pair of a test, or of a service without temporary credentials.
#[derive(Clone, Copy)]
pub struct StaticCredentials<'a> {
    /// Access key ID.
    pub access_key: &'a str,
    /// Secret access key.
    pub secret_key: &'a str,
}

/// Client of one bucket. Its clones share the credentials.
#[derive(Clone, Debug)]
pub struct S3Client {
    state: Arc<ClientState>,
}

#[derive(Debug)]
struct ClientState {
    bucket: String,
    service: AwsService,
    connections: AwsConnections,
    usage: S3Usage,
    sdk: RwLock<Client>,
}

impl S3Client {
    /// Returns a client of `bucket` that shares `connections`. Credentials come from the default chain. Sends no
    /// request.
    pub async fn new(
        bucket: &str,
        service: &AwsService,
        connections: &AwsConnections,
        usage: S3Usage,
    ) -> Self {
        let settings = settings(service, connections, usage).await;
        Self {
            state: Arc::new(ClientState {
                bucket: bucket.to_owned(),
                service: service.clone(),
                connections: connections.clone(),
                usage,
                sdk: RwLock::new(Client::from_conf(settings.build())),
            }),
        }
    }

    /// Returns the client with these credentials, until they are rejected as expired.
    #[must_use]
    pub fn with_credentials(self, credentials: StaticCredentials<'_>) -> Self {
        let StaticCredentials {
            access_key,
            secret_key,
        } = credentials;
        let provider = Credentials::new(access_key, secret_key, None, None, "static");
        let settings = self.sdk().config().to_builder();
        self.replace(settings.credentials_provider(provider));
        self
    }

    /// Returns the name of the bucket.
    pub fn bucket(&self) -> &str {
        &self.state.bucket
    }

    /// Returns the region of the bucket.
    pub fn region(&self) -> &str {
        &self.state.service.region
    }

    pub(super) fn sdk(&self) -> Client {
        let sdk = self.state.sdk.read();
        sdk.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the signature of an upload omits the hash of its body. Over TLS, S3 compares a signed CRC32,
    /// and the reader authenticates the content.
    pub(super) fn omits_body_hash(&self) -> bool {
        matches!(self.state.usage, S3Usage::Archive { .. }) && self.state.service.has_tls()
    }

    /// Returns the result of a call. The SDK's futures are large: they are boxed once, here.
    pub(super) fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> impl Future<Output = Result<T, S3Error>>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let call = Box::pin(call);
        async move {
            let error = match call.await {
                Ok(output) => return Ok(output),
                Err(error) => S3Error::of_sdk(error),
            };
            if error.kind() == S3ErrorKind::ExpiredCredentials {
                Box::pin(self.renew_credentials()).await;
            }
            Err(error)
        }
    }

    /// Fetches new credentials for the next call. The SDK caches credentials until their stated expiry, and the
    /// service has just rejected them as expired.
    async fn renew_credentials(&self) {
        let ClientState {
            service,
            connections,
            usage,
            ..
        } = &*self.state;
        self.replace(settings(service, connections, *usage).await);
    }

    fn replace(&self, settings: Builder) {
        let sdk = Client::from_conf(settings.build());
        let current = self.state.sdk.write();
        *current.unwrap_or_else(PoisonError::into_inner) = sdk;
    }
}

impl fmt::Debug for StaticCredentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials").finish_non_exhaustive()
    }
}

async fn settings(service: &AwsService, connections: &AwsConnections, usage: S3Usage) -> Builder {
    let (connect, attempt) = match usage {
        S3Usage::Records { timeout } => (timeout, timeout),
        S3Usage::Archive { connect } => (connect, NO_LIMIT),
    };
    let timeouts = AwsTimeouts { connect, attempt };
    let shared = aws::load(connections, service, SdkRetries::Off, timeouts).await;
    let settings = Builder::from(&shared)
        .force_path_style(service.endpoint.is_some())
        // Each request for an object states whether S3's checksum is verified.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    match usage {
        // The SDK's default cancels a body of which no byte arrives for a few seconds.
        S3Usage::Records { .. } => settings,
        S3Usage::Archive { .. } => settings.stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .download_enabled(false)
                .upload_enabled(true)
                .grace_period(UPLOAD_STALL)
                .build(),
        ),
    }
}
