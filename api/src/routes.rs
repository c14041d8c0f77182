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
use axum::http::Uri;
use axum::middleware;
use axum::routing::{MethodFilter, MethodRouter, on};
use tower_http::catch_panic::CatchPanicLayer;

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
    get("/", ALWAYS, |it| on(it, root::get)),
    post("/", MEMBERS, |it| on(it, members::create)),
    get("/members", MEMBERS, |it| on(it, members::list)),
    post("/members", MEMBERS, |it| on(it, members::create)),
    get("/users", USERS, |it| on(it, users::list)),
    post("/users", USERS, |it| on(it, users::create)),
    get("/users/{id}", USERS, |it| on(it, users::get)),
    get("/beers", BEERS, |it| on(it, beers::list)),
    post("/beers", BEERS, |it| on(it, beers::create)),
    post("/beers/seed", BEERS, |it| on(it, beers::seed)),
    post("/seed", BEERS, |it| on(it, beers::seed)),
    get("/hello/{username}", HELLO, |it| on(it, hello::get)),
    put("/hello/{username}", HELLO, |it| on(it, hello::put)),
    get("/openapi.json", ALWAYS, |it| on(it, about::document)),
    get("/docs", ALWAYS, |it| on(it, about::docs)),
    get("/info", ALWAYS, |it| on(it, about::info)),
    get("/livez", ALWAYS, |it| on(it, health::live)),
    get("/healthz", ALWAYS, |it| on(it, health::live)),
    get("/-/health", ALWAYS, |it| on(it, health::live)),
    get("/readyz", ALWAYS, |it| on(it, health::ready)),
    get("/health", ALWAYS, |it| on(it, health::health)),
    get(METRICS, ALWAYS, |it| on(it, health::metrics)),
    get("/problems", ALWAYS, |it| on(it, problems::list)),
    get("/problems/{kind}", ALWAYS, |it| on(it, problems::describe)),
];

const fn get(path: &'static str, surface: Option<Surface>, answer: Answer) -> Route {
    route(Method::Get, path, surface, answer)
}

const fn post(path: &'static str, surface: Option<Surface>, answer: Answer) -> Route {
    route(Method::Post, path, surface, answer)
}

const fn put(path: &'static str, surface: Option<Surface>, answer: Answer) -> Route {
    route(Method::Put, path, surface, answer)
}

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
    let is_on = |it: &Route| it.surface.is_none_or(|it| app.surfaces.contains(&it));
    let is_here = |it: &Route| it.path != METRICS || !metrics_elsewhere;
    router(app, |it| is_on(it) && is_here(it))
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

impl Method {
    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
        }
    }
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
