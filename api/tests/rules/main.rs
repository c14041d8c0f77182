//! Settings and rules of the service, without a server.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on ends where it is"
)]

mod birthday;
#[path = "../../../causeway-core/tests/damage/mod.rs"]
mod damage;
mod parsers;
mod settings;
