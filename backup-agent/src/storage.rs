//! Buckets and their objects: object keys, reads and writes in one bucket and in all.

pub(crate) mod bucket;
pub(crate) mod bucket_health;
pub(crate) mod buckets;
pub(crate) mod call_limits;
pub(crate) mod candidate;
pub(crate) mod catalog;
pub(crate) mod download;
pub(crate) mod fetch;
pub(crate) mod health_report;
pub(crate) mod list;
pub(crate) mod listing;
pub(crate) mod manifest_sink;
pub(crate) mod multipart_upload;
pub(crate) mod object_body;
pub(crate) mod object_keys;
pub(crate) mod object_rest;
pub(crate) mod object_start;
pub(crate) mod pace;
pub(crate) mod store_error;
