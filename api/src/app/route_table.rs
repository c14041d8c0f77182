//! Every route, its method and its handler, in one table.

use axum::routing::{MethodFilter, MethodRouter, on};

use super::router::AppRouter;
use super::state::AppState;
use crate::config::Surface;
use crate::routes::{about, beers, health, hello, members, problems, root, users};

/// One method of one path.
#[derive(Debug)]
pub struct Route {
    /// The method. A route for GET answers HEAD too.
    pub method: MethodFilter,
    /// The path, as a template.
    pub path: &'static str,
    /// The service that it belongs to, and is switched off with.
    pub surface: Option<Surface>,
    handler: fn(MethodFilter) -> MethodRouter<AppState>,
}

/// The path of the metrics, which may have an address of their own.
const METRICS: &str = "/metrics";
/// The paths of that address.
const METRICS_ADDRESS: [&str; 3] = ["/livez", "/readyz", METRICS];

const ALWAYS: Option<Surface> = None;
const HELLO: Option<Surface> = Some(Surface::Hello);
const MEMBERS: Option<Surface> = Some(Surface::Members);
const USERS: Option<Surface> = Some(Surface::Users);
const BEERS: Option<Surface> = Some(Surface::Beers);

/// Makes the table from its rows: method, path, service and handler.
macro_rules! routes {
    ($($method:ident $path:tt $surface:ident $handler:path;)*) => {
        /// Every route.
        pub const TABLE: &[Route] = &[$(Route {
            method: MethodFilter::$method,
            path: $path,
            surface: $surface,
            handler: |method| on(method, $handler),
        }),*];
    };
}

routes! {
    GET  "/"                 ALWAYS  root::get;
    POST "/"                 MEMBERS members::create;
    GET  "/members"          MEMBERS members::list;
    POST "/members"          MEMBERS members::create;
    GET  "/users"            USERS   users::list;
    POST "/users"            USERS   users::create;
    GET  "/users/{id}"       USERS   users::get;
    GET  "/beers"            BEERS   beers::list;
    POST "/beers"            BEERS   beers::create;
    POST "/beers/seed"       BEERS   beers::seed;
    POST "/seed"             BEERS   beers::seed;
    GET  "/hello/{username}" HELLO   hello::get;
    PUT  "/hello/{username}" HELLO   hello::put;
    GET  "/openapi.json"     ALWAYS  about::document;
    GET  "/docs"             ALWAYS  about::docs;
    GET  "/info"             ALWAYS  about::info;
    GET  "/livez"            ALWAYS  health::live;
    GET  "/healthz"          ALWAYS  health::live;
    GET  "/-/health"         ALWAYS  health::live;
    GET  "/readyz"           ALWAYS  health::ready;
    GET  "/health"           ALWAYS  health::health;
    GET  METRICS             ALWAYS  health::metrics;
    GET  "/problems"         ALWAYS  problems::list;
    GET  "/problems/{kind}"  ALWAYS  problems::describe;
}

/// Returns the router of an address of the service.
pub(crate) fn service(state: &AppState) -> AppRouter {
    let config = &state.config;
    let surfaces = &config.services.surfaces;
    router(state, |route| {
        let is_on = route
            .surface
            .is_none_or(|surface| surfaces.contains(&surface));
        is_on && (route.path != METRICS || config.http.metrics_listen.is_none())
    })
}

/// Returns the router of the address for metrics alone.
pub(crate) fn metrics(state: &AppState) -> AppRouter {
    router(state, |route| METRICS_ADDRESS.contains(&route.path))
}

fn router(state: &AppState, is_served: impl Fn(&Route) -> bool) -> AppRouter {
    let served = TABLE.iter().filter(|route| is_served(route));
    let routes = served.map(|route| (route.path, (route.handler)(route.method)));
    AppRouter::new(state.clone(), routes)
}
