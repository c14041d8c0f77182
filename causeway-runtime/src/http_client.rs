//! HTTP/1.1 client for services whose responses are small: one timeout for each exchange, and a limit for its response.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::TokioExecutor;
use tokio::time;

/// Maximum length of a response, in bytes.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Reason why an exchange has no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The request is not valid, the server was not reached, or the connection ended.
    #[error("could not send the request")]
    Request(#[source] ClientError),
    /// The response was cut off, or is longer than the limit of 4 MiB.
    #[error("could not read the response: {0}")]
    Response(Box<dyn std::error::Error + Send + Sync>),
    /// The exchange was not complete in time.
    #[error("no complete response within {0:?}")]
    TimedOut(Duration),
}

/// Client that keeps connections open for later requests; clones share them.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl HttpClient {
    /// Creates a client that waits at most `connect_timeout` for a connection.
    pub fn new(connect_timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(connect_timeout));
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }

    /// Sends a request with an absolute URI, and returns the complete response, whatever its status.
    ///
    /// # Errors
    ///
    /// [`HttpError`], also when the exchange takes longer than `timeout`.
    pub async fn send(
        &self,
        request: Request<impl Into<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, HttpError> {
        let request = request.map(|body| Full::from(body.into()));
        let exchange = async {
            let response = self.client.request(request).await;
            let (head, body) = response.map_err(HttpError::Request)?.into_parts();
            let body = Limited::new(body, MAX_RESPONSE_BYTES).collect().await;
            let body = body.map_err(HttpError::Response)?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        time::timeout(timeout, exchange)
            .await
            .map_err(|_elapsed| HttpError::TimedOut(timeout))?
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Serves one response of each kind, and returns its URL.
    async fn server() -> String {
        let routes = Router::new()
            .route("/short", get(|| async { "short" }))
            .route("/long", get(|| async { vec![0; MAX_RESPONSE_BYTES + 1] }))
            .route("/silent", get(future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    async fn exchange(path: &str, timeout: Duration) -> Result<Response<Bytes>, HttpError> {
        let request = Request::get(server().await + path).body("");
        HttpClient::new(SOON).send(request.unwrap(), timeout).await
    }

    #[tokio::test]
    async fn response_of_any_status_then_returned_whole() {
        assert_eq!(exchange("/short", SOON).await.unwrap().body(), "short");
        assert_eq!(exchange("/none", SOON).await.unwrap().status(), 404);
    }

    #[tokio::test]
    async fn response_too_long_then_error() {
        let error = exchange("/long", SOON).await.unwrap_err();
        assert!(matches!(error, HttpError::Response(_)), "{error:?}");
    }

    #[tokio::test]
    async fn server_silent_then_timed_out() {
        let error = exchange("/silent", Duration::from_millis(50)).await;
        assert!(matches!(error, Err(HttpError::TimedOut(_))), "{error:?}");
    }

    #[tokio::test]
    async fn nothing_listens_then_error_with_source() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", free.local_addr().unwrap());
        drop(free);
        let request = Request::get(url).body("").unwrap();
        let error = HttpClient::new(SOON).send(request, SOON).await;
        assert!(matches!(error, Err(HttpError::Request(_))), "{error:?}");
    }
}
