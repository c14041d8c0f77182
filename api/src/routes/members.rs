//! `/` and `/members`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tokio::time::Instant;

use super::list::{ListPage, ListReader};
use super::request_key::request_key;
use crate::body::read_object;
use crate::config::{Config, MembersKeys};
use crate::domain::{Member, NewMember};
use crate::load_limit::LoadLimit;
use crate::problem::Problem;
use crate::store::Store;

/// A member as clients see it.
pub(crate) struct MemberView {
    member: Member,
    /// Whether it is one of a list, which has its times.
    is_listed: bool,
    keys: MembersKeys,
}

impl Serialize for MemberView {
    /// Writes the keys of the earlier service, in its order, and then their lower case.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (member, keys) = (&self.member, self.keys);
        let mut map = serializer.serialize_map(None)?;
        if keys != MembersKeys::Lower {
            if self.is_listed {
                map.serialize_entry("UpdatedAt", &member.updated_at)?;
                // Members that were deleted are not listed.
                map.serialize_entry("DeletedAt", &())?;
                map.serialize_entry("ID", &member.id)?;
            }
            map.serialize_entry("Name", &member.name)?;
            map.serialize_entry("Age", &member.age)?;
            if self.is_listed {
                map.serialize_entry("CreatedAt", &member.created_at)?;
            } else if keys == MembersKeys::Both {
                // The earlier service did not return it.
                map.serialize_entry("ID", &member.id)?;
            }
        }
        if keys != MembersKeys::Original {
            map.serialize_entry("id", &member.id)?;
            map.serialize_entry("name", &member.name)?;
            map.serialize_entry("age", &member.age)?;
        }
        if keys == MembersKeys::Lower && self.is_listed {
            map.serialize_entry("created_at", &member.created_at)?;
            map.serialize_entry("updated_at", &member.updated_at)?;
            map.serialize_entry("deleted_at", &())?;
        }
        map.end()
    }
}

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
    Ok(Json(MemberView {
        member: store.create_member(key, &member, deadline).await?,
        is_listed: false,
        keys: services.members_keys,
    }))
}

/// Returns members in the order in which they were stored.
pub(crate) async fn list(State(reader): State<ListReader>, uri: Uri) -> Result<Response, Problem> {
    let services = &reader.config.services;
    let page = ListPage::read("members", &uri, services, services.validation_status)?;
    let deadline = Instant::now() + reader.config.http.request_timeout;
    let view = |member: Member, config: &Config| MemberView {
        member,
        is_listed: true,
        keys: config.services.members_keys,
    };
    reader.answer(&page, view, deadline).await
}
