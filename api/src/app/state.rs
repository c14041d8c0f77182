//! The parts of the process that handlers take, each through `State`.

use std::sync::Arc;

use axum::extract::FromRef;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::answer_memory::AnswerMemory;
use crate::cache::Cache;
use crate::config::Config;
use crate::load_limit::LoadLimit;
use crate::routes::about::About;
use crate::store::Store;
use crate::store::birthdays::Birthdays;

/// The state of the service.
#[derive(Clone, Debug, FromRef)]
pub(crate) struct AppState {
    pub(crate) config: Arc<Config>,
    pub(crate) store: Arc<Store>,
    pub(crate) birthdays: Arc<Birthdays>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) about: Arc<About>,
    pub(crate) load_limit: Arc<LoadLimit>,
    pub(crate) answer_memory: Arc<AnswerMemory>,
    pub(crate) metrics: Registry,
    /// Cancelled once the service shuts down.
    pub(crate) draining: CancellationToken,
}
