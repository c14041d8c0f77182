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

    /// Returns whether `Name` is among them.
    pub fn are_original(self) -> bool {
        self != Self::Lower
    }

    /// Returns whether `name` is among them.
    pub fn are_lower(self) -> bool {
        self != Self::Original
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

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

pub(super) fn surfaces(environment: &Environment) -> Result<BTreeSet<Surface>, Unusable> {
    environment.parsed(
        &["API_SURFACES"],
        Surface::ALL.into(),
        "a list of `hello`, `members`, `users` and `beers`, with commas",
        |text| {
            text.split(',')
                .map(|it| Surface::named(it.trim()))
                .collect()
        },
    )
}

pub(super) fn members_keys(environment: &Environment) -> Result<MembersKeys, Unusable> {
    environment.parsed(
        &["MEMBERS_KEYS"],
        MembersKeys::Both,
        "`both`, `original` or `lower`",
        |text| match text {
            "both" => Some(MembersKeys::Both),
            "original" => Some(MembersKeys::Original),
            "lower" => Some(MembersKeys::Lower),
            _ => None,
        },
    )
}

pub(super) fn list_max(environment: &Environment) -> Result<usize, Unusable> {
    environment.parsed(
        &["LIST_MAX"],
        10_000,
        "a number of rows from 1 to 100000",
        |text| text.parse().ok().filter(|it| (1..=100_000).contains(it)),
    )
}
