//! The description of this instance: the OpenAPI document and the pages.

use axum::body::Bytes;

use crate::config::{Config, option_name};
use crate::openapi;
use crate::page::{self, Page};

/// The description of this instance. It depends on the settings only, and is written once.
#[derive(Debug)]
pub(crate) struct About {
    /// The OpenAPI document.
    pub(crate) document: Bytes,
    /// The page at `/docs`.
    pub(crate) docs: Page,
    /// The page at `/`.
    pub(crate) home: Page,
}

impl About {
    /// Writes the document and the pages.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let document = openapi::document(config, config.hello.today())?;
        let services = &config.services;
        let surfaces: Vec<String> = services.surfaces.iter().map(option_name).collect();
        Ok(Self {
            document: serde_json::to_vec(&document)?.into(),
            docs: page::docs(&document),
            home: page::home(&services.company.name, &surfaces),
        })
    }
}
