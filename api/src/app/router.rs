//! The router of one address.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{MethodRouter, any};
use futures_util::FutureExt as _;
use tower::Service as _;

use super::state::AppState;
use crate::problem::{Kind, Problem};

/// The routes of one address.
#[derive(Clone, Debug)]
pub(crate) struct AppRouter {
    router: Router,
    /// The same paths, for metrics: the router does not return the template that matched.
    templates: Arc<matchit::Router<&'static str>>,
}

impl AppRouter {
    /// Returns a router of these paths, which occur once for each of their methods.
    pub(crate) fn new(
        state: AppState,
        served: impl Iterator<Item = (&'static str, MethodRouter<AppState>)>,
    ) -> Self {
        let mut router = Router::new();
        let mut templates = matchit::Router::new();
        for (path, methods) in served {
            router = router.route(path, methods);
            if templates.insert(path, path).is_ok() && path != "/" {
                router = router.route(&format!("{path}/"), any(redirect_to_path_without_slash));
            }
        }
        Self {
            router: router
                .fallback(answer_unknown_path)
                .method_not_allowed_fallback(answer_unknown_method)
                .with_state(state),
            templates: Arc::new(templates),
        }
    }

    /// Returns the template of a path's route.
    pub(crate) fn template(&self, path: &str) -> Option<&'static str> {
        Some(*self.templates.at(path).ok()?.value)
    }

    /// Answers a request, also if its handler panics.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let answering = async { self.router.clone().call(request).await };
        match AssertUnwindSafe(answering).catch_unwind().await {
            Ok(Ok(response)) => response,
            Err(_payload) => {
                tracing::error!("handler panicked");
                Problem::internal().into_response()
            }
        }
    }
}

/// Redirects to the path without the slash at its end, as `FastAPI` does, on which two of the earlier
/// services stood.
async fn redirect_to_path_without_slash(uri: Uri) -> Result<Redirect, Problem> {
    let path = uri.path().trim_end_matches('/');
    if uri.path().len() > path.len() + 1 {
        return Err(not_found());
    }
    let query = uri
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    Ok(Redirect::temporary(&format!("{path}{query}")))
}

/// Answers an unknown path with 404, and `OPTIONS *`, a request about the whole service, with its methods.
async fn answer_unknown_path(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS && uri.path() == "*" {
        let allow = [(header::ALLOW, "GET,HEAD,POST,PUT")];
        return (StatusCode::NO_CONTENT, allow).into_response();
    }
    not_found().into_response()
}

fn not_found() -> Problem {
    Problem::new(Kind::NotFound, "this path does not exist")
}

/// Answers a method that a path does not have. The router adds the header `Allow`.
async fn answer_unknown_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let detail =
        "this path does not support this method; the header `Allow` lists those that it does";
    Problem::new(Kind::MethodNotAllowed, detail).into_response()
}
