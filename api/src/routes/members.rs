//! `/` and `/members`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use tokio::time::Instant;

use super::list::{self, Page};
use super::problems::not_stored;
use super::request_key::request_key;
use crate::App;
use crate::body::read_object;
use crate::config::MembersKeys;
use crate::domain::{Member, NewMember, StoredMember};
use crate::problem::Problem;

/// A member as a client sees it, in the spellings that it is to see.
pub(super) struct Shown {
    member: Member,
    /// When it was stored, and changed last, in a list.
    times: Option<(Timestamp, Timestamp)>,
    keys: MembersKeys,
}

impl Serialize for Shown {
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
                // Which the earlier service did not tell.
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
pub(super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Json<Shown>, Problem> {
    let invalid = app.validation_status;
    let key = request_key(request.headers())?;
    let member = read_object(&app, request, invalid, NewMember::read).await?;
    let deadline = Instant::now() + app.request_timeout;
    let storing = app.store.create_member(key, &member, deadline);
    let stored = storing.await.map_err(not_stored)?;
    Ok(Json(Shown {
        member: stored,
        times: None,
        keys: app.members_keys,
    }))
}

/// Returns members in the order in which they were stored.
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let page = Page::read("members", &uri, app.list_max)
        .map_err(|it| Problem::invalid(app.validation_status, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    let show = |it: StoredMember, app: &App| Shown {
        member: it.member,
        times: Some((it.created_at, it.updated_at)),
        keys: app.members_keys,
    };
    list::read_and_answer(&app, &page, show, deadline).await
}
