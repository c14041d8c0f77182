//! `/` and `/members`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tokio::time::Instant;

use super::list::{ListReader, Page};
use super::problems::not_stored;
use super::request_key::request_key;
use crate::body::read_object;
use crate::config::{Config, MembersKeys};
use crate::domain::{Member, NewMember, StoredMember};
use crate::load_limit::LoadLimit;
use crate::problem::Problem;
use crate::store::Store;

/// A member as clients see it.
pub(crate) struct MemberView {
    member: Member,
    /// Times at which it was stored and last changed, in a list.
    times: Option<(Timestamp, Timestamp)>,
    keys: MembersKeys,
}

impl Serialize for MemberView {
    /// Writes the keys of the earlier service, in its order, and then their lower case.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (Member { id, name, age }, times) = (&self.member, &self.times);
        let mut map = serializer.serialize_map(None)?;
        if self.keys != MembersKeys::Lower {
            if let Some((_created_at, updated_at)) = times {
                map.serialize_entry("UpdatedAt", updated_at)?;
                // Members that were deleted are not listed.
                map.serialize_entry("DeletedAt", &())?;
                map.serialize_entry("ID", id)?;
            }
            map.serialize_entry("Name", name)?;
            map.serialize_entry("Age", age)?;
            match times {
                Some((created_at, _updated_at)) => map.serialize_entry("CreatedAt", created_at)?,
                // The earlier service did not return it.
                None if self.keys == MembersKeys::Both => map.serialize_entry("ID", id)?,
                None => {}
            }
        }
        if self.keys != MembersKeys::Original {
            map.serialize_entry("id", id)?;
            map.serialize_entry("name", name)?;
            map.serialize_entry("age", age)?;
        }
        if let (MembersKeys::Lower, Some((created_at, updated_at))) = (self.keys, times) {
            map.serialize_entry("created_at", created_at)?;
            map.serialize_entry("updated_at", updated_at)?;
            map.serialize_entry("deleted_at", &())?;
        }
        map.end()
    }
}

/// Stores a member.
pub(crate) async fn create(
    State(config): State<Arc<Config>>,
    State(load_limit): State<Arc<LoadLimit>>,
    State(store): State<Arc<Store>>,
    request: Request,
) -> Result<Json<MemberView>, Problem> {
    let services = &config.services;
    let key = request_key(request.headers())?;
    let invalid = services.validation_status;
    let member = read_object(&load_limit, request, invalid, NewMember::read).await?;
    let deadline = Instant::now() + config.http.request_timeout;
    let storing = store.create_member(key, &member, deadline);
    Ok(Json(MemberView {
        member: storing.await.map_err(not_stored)?,
        times: None,
        keys: services.members_keys,
    }))
}

/// Returns members in the order in which they were stored.
pub(crate) async fn list(State(reader): State<ListReader>, uri: Uri) -> Result<Response, Problem> {
    let services = &reader.config.services;
    let page = Page::read("members", &uri, services.list_max)
        .map_err(|broken| Problem::invalid(services.validation_status, &broken))?;
    let deadline = Instant::now() + reader.config.http.request_timeout;
    let view = |stored: StoredMember, config: &Config| MemberView {
        member: stored.member,
        times: Some((stored.created_at, stored.updated_at)),
        keys: config.services.members_keys,
    };
    reader.answer(&page, view, deadline).await
}
