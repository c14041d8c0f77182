//! The handlers, one file per service.

mod list;
mod request_key;

pub(crate) mod about;
pub(crate) mod beers;
pub(crate) mod health;
pub(crate) mod hello;
pub(crate) mod members;
pub(crate) mod problems;
pub(crate) mod root;
pub(crate) mod users;
