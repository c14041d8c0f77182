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

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{MethodFilter, MethodRouter, any, on};
use futures_util::FutureExt as _;
use tower::Service as _;

pub(crate) use self::about::About;
use crate::App;
use crate::config::Surface;
use crate::problem::{Kind, Problem};

/// One method of one path.
#[derive(Debug)]
pub struct Route {
    /// The method. Whatever answers GET answers HEAD.
    pub method: MethodFilter,
    /// The path, as a template.
    pub path: &'static str,
    /// The service that it belongs to, and is switched off with.
    pub surface: Option<Surface>,
    answer: Answer,
}

/// Where metrics are, which may have an address of their own.
pub(crate) const METRICS: &str = "/metrics";
/// What that address answers.
const OF_METRICS: [&str; 3] = ["/livez", "/readyz", METRICS];

type Answer = fn(MethodFilter) -> MethodRouter<App>;

const GET: MethodFilter = MethodFilter::GET;
const POST: MethodFilter = MethodFilter::POST;
const PUT: MethodFilter = MethodFilter::PUT;
const ALWAYS: Option<Surface> = None;
const HELLO: Option<Surface> = Some(Surface::Hello);
const MEMBERS: Option<Surface> = Some(Surface::Members);
const USERS: Option<Surface> = Some(Surface::Users);
const BEERS: Option<Surface> = Some(Surface::Beers);

/// Every route.
pub const TABLE: &[Route] = &[
    route(GET, "/", ALWAYS, |it| on(it, root::get)),
    route(POST, "/", MEMBERS, |it| on(it, members::create)),
    route(GET, "/members", MEMBERS, |it| on(it, members::list)),
    route(POST, "/members", MEMBERS, |it| on(it, members::create)),
    route(GET, "/users", USERS, |it| on(it, users::list)),
    route(POST, "/users", USERS, |it| on(it, users::create)),
    route(GET, "/users/{id}", USERS, |it| on(it, users::get)),
    route(GET, "/beers", BEERS, |it| on(it, beers::list)),
    route(POST, "/beers", BEERS, |it| on(it, beers::create)),
    route(POST, "/beers/seed", BEERS, |it| on(it, beers::seed)),
    route(POST, "/seed", BEERS, |it| on(it, beers::seed)),
    route(GET, "/hello/{username}", HELLO, |it| on(it, hello::get)),
    route(PUT, "/hello/{username}", HELLO, |it| on(it, hello::put)),
    route(GET, "/openapi.json", ALWAYS, |it| on(it, about::document)),
    route(GET, "/docs", ALWAYS, |it| on(it, about::docs)),
    route(GET, "/info", ALWAYS, |it| on(it, about::info)),
    route(GET, "/livez", ALWAYS, |it| on(it, health::live)),
    route(GET, "/healthz", ALWAYS, |it| on(it, health::live)),
    route(GET, "/-/health", ALWAYS, |it| on(it, health::live)),
    route(GET, "/readyz", ALWAYS, |it| on(it, health::ready)),
    route(GET, "/health", ALWAYS, |it| on(it, health::health)),
    route(GET, METRICS, ALWAYS, |it| on(it, health::metrics)),
    route(GET, "/problems", ALWAYS, |it| on(it, problems::list)),
    route(GET, "/problems/{kind}", ALWAYS, |it| {
        on(it, problems::describe)
    }),
];

const fn route(
    method: MethodFilter,
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

/// What one address answers.
#[derive(Clone)]
pub(crate) struct Routes {
    router: Router,
    /// The same paths, for metrics: the router does not say which it found.
    templates: Arc<matchit::Router<&'static str>>,
}

/// Returns everything that the service answers to.
pub(crate) fn all(app: &App, metrics_elsewhere: bool) -> Routes {
    Routes::new(app, |it| {
        is_on(app, it) && (it.path != METRICS || !metrics_elsewhere)
    })
}

fn is_on(app: &App, route: &Route) -> bool {
    route.surface.is_none_or(|it| app.surfaces.contains(&it))
}

/// Returns what is answered on the address for metrics alone.
pub(crate) fn metrics(app: &App) -> Routes {
    Routes::new(app, |it| OF_METRICS.contains(&it.path))
}

impl Routes {
    fn new(app: &App, is_served: impl Fn(&Route) -> bool) -> Self {
        let mut router = Router::new();
        let mut templates = matchit::Router::new();
        for route in TABLE.iter().filter(|it| is_served(it)) {
            router = router.route(route.path, (route.answer)(route.method));
            // A path that has two methods is there twice.
            if templates.insert(route.path, route.path).is_ok() && route.path != "/" {
                router = router.route(&format!("{}/", route.path), any(without_slash));
            }
        }
        Self {
            router: router
                .fallback(elsewhere)
                .method_not_allowed_fallback(method_not_allowed)
                .with_state(app.clone()),
            templates: Arc::new(templates),
        }
    }

    /// Returns the template of a path's route.
    pub(crate) fn template(&self, path: &str) -> Option<&'static str> {
        Some(*self.templates.at(path).ok()?.value)
    }

    /// Answers a request, also where its handler panics.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let answering = async { self.router.clone().call(request).await };
        match AssertUnwindSafe(answering).catch_unwind().await {
            Ok(Ok(response)) => response,
            Err(_payload) => panicked(),
        }
    }
}

/// Leads from a path with a slash at its end to the one without, as `FastAPI` does, on which two of the
/// earlier services stood.
async fn without_slash(uri: Uri) -> Result<Redirect, Problem> {
    let path = uri.path().trim_end_matches('/');
    if uri.path().len() > path.len() + 1 {
        return Err(not_found());
    }
    let query = uri.query().map(|it| format!("?{it}")).unwrap_or_default();
    Ok(Redirect::temporary(&format!("{path}{query}")))
}

/// Answers where there is nothing, and to `OPTIONS *`, which asks about the whole of the service.
async fn elsewhere(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS && uri.path() == "*" {
        let allow = [(header::ALLOW, "GET,HEAD,POST,PUT")];
        return (StatusCode::NO_CONTENT, allow).into_response();
    }
    not_found().into_response()
}

fn not_found() -> Problem {
    Problem::new(Kind::NotFound, "there is nothing at this path")
}

/// Answers to a method that a path does not have. The router adds the header `Allow`.
async fn method_not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    Problem::new(
        Kind::MethodNotAllowed,
        "this path does not have this method; the header `Allow` lists those that it has",
    )
    .into_response()
}

fn panicked() -> Response {
    tracing::error!("a handler panicked");
    Problem::new(
        Kind::Internal,
        "the service made a mistake; it has been noted",
    )
    .into_response()
}
