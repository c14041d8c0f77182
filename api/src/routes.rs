//! Every route, its method and its handler, in one table.

mod health;
mod hello;
mod problems;

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::middleware;
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;

use crate::App;
use crate::problem::{Kind, Problem};

/// The routes as metrics name them; any other path is `unknown`.
pub(crate) const TEMPLATES: [&str; 9] = [
    "/hello/{username}",
    "/livez",
    "/healthz",
    "/-/health",
    "/readyz",
    "/health",
    "/metrics",
    "/problems",
    "/problems/{kind}",
];

/// Returns everything that the service answers to.
pub(crate) fn all(app: &App, metrics_elsewhere: bool) -> Router {
    let mut routes = Router::new()
        .route("/hello/{username}", get(hello::get).put(hello::put))
        .route("/livez", get(health::live))
        .route("/healthz", get(health::live))
        .route("/-/health", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/health", get(health::health))
        .route("/problems", get(problems::list))
        .route("/problems/{kind}", get(problems::describe));
    if !metrics_elsewhere {
        routes = routes.route("/metrics", get(health::metrics));
    }
    at_the_edge(routes, app)
}

/// Returns what is answered on the address for metrics alone.
pub(crate) fn metrics(app: &App) -> Router {
    let routes = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics));
    at_the_edge(routes, app)
}

fn at_the_edge(routes: Router<App>, app: &App) -> Router {
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(
            app.clone(),
            crate::edge::handle,
        ))
        .with_state(app.clone())
}

async fn not_found(State(_app): State<App>, _uri: Uri) -> Problem {
    Problem::new(Kind::NotFound, "there is nothing at this path")
}

async fn method_not_allowed() -> Problem {
    Problem::new(
        Kind::MethodNotAllowed,
        "this path does not have this method; the header `Allow` lists those that it has",
    )
}

fn panicked(_payload: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    tracing::error!("a handler panicked");
    Problem::new(
        Kind::Internal,
        "the service made a mistake; it has been noted",
    )
    .into_response()
}
