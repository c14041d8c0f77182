//! Which of the services are served, and how they differ from their defaults.

use std::collections::BTreeSet;

use super::environment::{Environment, Unusable};

/// One of the services that this program serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Surface {
    /// `/hello`.
    Hello,
    /// `/` and `/members`.
    Members,
    /// `/users`.
    Users,
    /// `/beers` and `/seed`.
    Beers,
}

/// Which spellings of their keys the answers about members have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembersKeys {
    /// `Name` and `name`.
    Both,
    /// `Name`: exactly the keys of the earlier service.
    Original,
    /// `name`.
    Lower,
}

impl MembersKeys {
    /// Returns the name by which it is chosen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Original => "original",
            Self::Lower => "lower",
        }
    }
}

impl Surface {
    const ALL: [Self; 4] = [Self::Hello, Self::Members, Self::Users, Self::Beers];

    /// Returns the name by which it is switched on.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Members => "members",
            Self::Users => "users",
            Self::Beers => "beers",
        }
    }
}

pub(super) fn surfaces(environment: &Environment) -> Result<BTreeSet<Surface>, Unusable> {
    environment.list(
        "API_SURFACES",
        Surface::ALL.into(),
        "a list of `hello`, `members`, `users` and `beers`, with commas",
        |name| Surface::ALL.into_iter().find(|it| it.name() == name),
    )
}

pub(super) fn members_keys(environment: &Environment) -> Result<MembersKeys, Unusable> {
    let all = [MembersKeys::Both, MembersKeys::Original, MembersKeys::Lower];
    environment.choice(
        "MEMBERS_KEYS",
        MembersKeys::Both,
        &all.map(|it| (it.name(), it)),
    )
}
