//! `/` and `/members`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use super::list::{self, Page};
use super::problems::not_stored;
use super::request_key::request_key;
use crate::App;
use crate::body::read_object;
use crate::config::MembersKeys;
use crate::domain::{Member, NewMember, StoredMember};
use crate::problem::Problem;

/// What a client that has stored a member is told.
#[derive(Serialize)]
pub(super) struct Created {
    #[serde(flatten)]
    original: Option<CreatedOriginal>,
    #[serde(flatten)]
    lower: Option<Lower>,
}

/// One member of the list.
#[derive(Serialize)]
pub(super) struct Listed {
    #[serde(flatten)]
    original: Option<ListedOriginal>,
    #[serde(flatten)]
    lower: Option<Lower>,
    #[serde(flatten)]
    lower_times: Option<LowerTimes>,
}

/// The keys of the earlier service, in its order, and the id that it did not tell.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedOriginal {
    name: String,
    age: i32,
    #[serde(rename = "ID", skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
}

/// The keys of the earlier service, in its order.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedOriginal {
    updated_at: Timestamp,
    /// Members that were deleted are not listed, so this is always null.
    deleted_at: (),
    #[serde(rename = "ID")]
    id: Uuid,
    name: String,
    age: i32,
    created_at: Timestamp,
}

#[derive(Serialize)]
struct Lower {
    id: Uuid,
    name: String,
    age: i32,
}

#[derive(Serialize)]
struct LowerTimes {
    created_at: Timestamp,
    updated_at: Timestamp,
    deleted_at: (),
}

/// Stores a member.
pub(super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Json<Created>, Problem> {
    let invalid = app.validation_status;
    let key = request_key(request.headers())?;
    let member = read_object(&app, request, invalid, NewMember::read).await?;
    let deadline = Instant::now() + app.request_timeout;
    let stored = app.store.create_member(key, &member, deadline).await;
    let stored = stored.map_err(not_stored)?;
    Ok(Json(Created::new(stored, app.members_keys)))
}

/// Returns members in the order in which they were stored.
pub(super) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let page = Page::read("members", &uri, app.list_max)
        .map_err(|it| Problem::invalid(app.validation_status, &it))?;
    let deadline = Instant::now() + app.request_timeout;
    let show = |it, app: &App| Listed::new(it, app.members_keys);
    list::read_and_answer(&app, &page, show, deadline).await
}

impl Created {
    fn new(member: Member, keys: MembersKeys) -> Self {
        let original = CreatedOriginal {
            name: member.name.clone(),
            age: member.age,
            id: (keys == MembersKeys::Both).then_some(member.id),
        };
        Self {
            original: keys.are_original().then_some(original),
            lower: keys.are_lower().then(|| Lower::new(member)),
        }
    }
}

impl Listed {
    fn new(stored: StoredMember, keys: MembersKeys) -> Self {
        let StoredMember {
            member,
            created_at,
            updated_at,
        } = stored;
        let original = ListedOriginal {
            updated_at,
            deleted_at: (),
            id: member.id,
            name: member.name.clone(),
            age: member.age,
            created_at,
        };
        let times = LowerTimes {
            created_at,
            updated_at,
            deleted_at: (),
        };
        Self {
            original: keys.are_original().then_some(original),
            lower: keys.are_lower().then(|| Lower::new(member)),
            lower_times: (keys == MembersKeys::Lower).then_some(times),
        }
    }
}

impl Lower {
    fn new(member: Member) -> Self {
        let Member { id, name, age } = member;
        Self { id, name, age }
    }
}
