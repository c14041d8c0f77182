//! Every route, its method and its handler, in one table.

mod about;
mod accept;
mod beers;
mod health;
mod hello;
mod list;
mod members;
mod problems;
mod request_key;
mod root;
mod users;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::middleware;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use tower_http::catch_panic::CatchPanicLayer;

use self::Method::{Get, Post, Put};
pub(crate) use self::about::About;
use crate::App;
use crate::config::Surface;
use crate::problem::{Kind, Problem};

/// One method of one path.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The method. Whatever answers GET answers HEAD.
    pub method: Method,
    /// The path, as a template.
    pub path: &'static str,
    /// The service that it belongs to, and is switched off with.
    pub surface: Option<Surface>,
    answer: Answer,
}

/// A method that a route may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is HTTP's own")]
pub enum Method {
    Get,
    Post,
    Put,
}

/// Where metrics are, which may have an address of their own.
pub(crate) const METRICS: &str = "/metrics";
/// What that address answers.
const OF_METRICS: [&str; 3] = ["/livez", "/readyz", METRICS];

type Answer = fn(MethodFilter) -> MethodRouter<App>;

const ALWAYS: Option<Surface> = None;
const HELLO: Option<Surface> = Some(Surface::Hello);
const MEMBERS: Option<Surface> = Some(Surface::Members);
const USERS: Option<Surface> = Some(Surface::Users);
const BEERS: Option<Surface> = Some(Surface::Beers);

/// Every route.
pub const TABLE: &[Route] = &[
    route(Get, "/", ALWAYS, |it| on(it, root::get)),
    route(Post, "/", MEMBERS, |it| on(it, members::create)),
    route(Get, "/members", MEMBERS, |it| on(it, members::list)),
    route(Post, "/members", MEMBERS, |it| on(it, members::create)),
    route(Get, "/users", USERS, |it| on(it, users::list)),
    route(Post, "/users", USERS, |it| on(it, users::create)),
    route(Get, "/users/{id}", USERS, |it| on(it, users::get)),
    route(Get, "/beers", BEERS, |it| on(it, beers::list)),
    route(Post, "/beers", BEERS, |it| on(it, beers::create)),
    route(Post, "/beers/seed", BEERS, |it| on(it, beers::seed)),
    route(Post, "/seed", BEERS, |it| on(it, beers::seed)),
    route(Get, "/hello/{username}", HELLO, |it| on(it, hello::get)),
    route(Put, "/hello/{username}", HELLO, |it| on(it, hello::put)),
    route(Get, "/openapi.json", ALWAYS, |it| on(it, about::document)),
    route(Get, "/docs", ALWAYS, |it| on(it, about::docs)),
    route(Get, "/info", ALWAYS, |it| on(it, about::info)),
    route(Get, "/livez", ALWAYS, |it| on(it, health::live)),
    route(Get, "/healthz", ALWAYS, |it| on(it, health::live)),
    route(Get, "/-/health", ALWAYS, |it| on(it, health::live)),
    route(Get, "/readyz", ALWAYS, |it| on(it, health::ready)),
    route(Get, "/health", ALWAYS, |it| on(it, health::health)),
    route(Get, METRICS, ALWAYS, |it| on(it, health::metrics)),
    route(Get, "/problems", ALWAYS, |it| on(it, problems::list)),
    route(Get, "/problems/{kind}", ALWAYS, |it| {
        on(it, problems::describe)
    }),
];

const fn route(
    method: Method,
    path: &'static str,
    surface: Option<Surface>,
    answer: Answer,
) -> Route {
    Route {
        method,
        path,
        surface,
        answer,
    }
}

/// Returns everything that the service answers to.
pub(crate) fn all(app: &App, metrics_elsewhere: bool) -> Router {
    router(app, |it| {
        is_on(app, it) && (it.path != METRICS || !metrics_elsewhere)
    })
}

fn is_on(app: &App, route: &Route) -> bool {
    route.surface.is_none_or(|it| app.surfaces.contains(&it))
}

/// Returns what is answered on the address for metrics alone.
pub(crate) fn metrics(app: &App) -> Router {
    router(app, |it| OF_METRICS.contains(&it.path))
}

fn router(app: &App, is_served: impl Fn(&Route) -> bool) -> Router {
    let mut routes = Router::new();
    for route in TABLE.iter().filter(|it| is_served(it)) {
        routes = routes.route(route.path, (route.answer)(route.method.filter()));
    }
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

impl Route {
    /// Returns whether a path, as it was sent, is one of this route's.
    fn matches(&self, path: &str) -> bool {
        let mut segments = self.path.split('/').zip(path.split('/'));
        let are_same = segments.all(|(wanted, found)| {
            wanted == found || (wanted.starts_with('{') && !found.is_empty())
        });
        are_same && self.path.matches('/').count() == path.matches('/').count()
    }
}

impl Method {
    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
        }
    }
}

/// Answers where there is nothing. `FastAPI`, on which two of the earlier services stood, leads from a
/// path with a slash at its end to the one without.
async fn not_found(State(app): State<App>, uri: Uri) -> Response {
    if let Some(path) = uri.path().strip_suffix('/')
        && !path.ends_with('/')
        && TABLE.iter().any(|it| is_on(&app, it) && it.matches(path))
    {
        let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
        return Redirect::temporary(&format!("{path}{query}")).into_response();
    }
    Problem::new(Kind::NotFound, "there is nothing at this path").into_response()
}

/// Answers to a method that a path does not have. The router adds the header `Allow`.
async fn method_not_allowed(method: axum::http::Method) -> Response {
    if method == axum::http::Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::new(
        Kind::MethodNotAllowed,
        "this path does not have this method; the header `Allow` lists those that it has",
    )
    .into_response()
}

fn panicked(_payload: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Problem::new(
        Kind::Internal,
        "the service made a mistake; it has been noted",
    )
    .into_response()
}
