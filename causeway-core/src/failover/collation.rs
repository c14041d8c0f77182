//! Versions of the libraries that order text, and the difference that makes a promotion return wrong rows.
//!
//! An index over text is ordered by the library of the node that wrote it. A primary with another version does not
//! find rows that are there, and a unique index of it accepts duplicates (`pg_collation_actual_version` in
//! PostgreSQL's documentation).

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// Library that orders text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollationProvider {
    /// The operating system's C library.
    Libc,
    /// ICU.
    Icu,
    /// PostgreSQL itself, from release 17.
    Builtin,
}

/// Version of a library that orders text. ICU has several, by locale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CollationVersion {
    /// Library.
    pub provider: CollationProvider,
    /// Version, as PostgreSQL reports it.
    pub version: String,
}

/// Collation in use whose recorded version is not the one that the server has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StaleCollation {
    /// Library.
    pub provider: CollationProvider,
    /// Version in the catalog: the one with which the indexes were built.
    pub recorded: String,
    /// Version that the server has.
    pub actual: String,
}

/// Collation versions of a running server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCollations {
    /// Versions that it has.
    pub actual: BTreeSet<CollationVersion>,
    /// Collations in use that were recorded with other versions.
    pub stale: BTreeSet<StaleCollation>,
}

/// Collation versions of a primary, as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryCollations {
    /// Primary.
    pub node: NodeId,
    /// Versions that it has.
    pub actual: BTreeSet<CollationVersion>,
}

/// Difference of a node's collation versions from those with which its indexes were written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollationDifference {
    /// Library.
    pub provider: CollationProvider,
    /// Versions of the node.
    pub here: String,
    /// Versions with which the indexes were written.
    pub there: String,
    /// Primary that has `there`; none if no primary was seen, and `there` is what the catalog records.
    pub primary: Option<NodeId>,
}

impl NodeCollations {
    /// Compares with the primary's versions, or with the recorded ones if the primary's were never seen.
    pub fn difference(&self, primary: Option<&PrimaryCollations>) -> Option<CollationDifference> {
        let Some(primary) = primary else {
            return self.stale.first().map(|stale| CollationDifference {
                provider: stale.provider,
                here: stale.actual.clone(),
                there: stale.recorded.clone(),
                primary: None,
            });
        };
        let providers: BTreeSet<_> = self.actual.iter().map(|version| version.provider).collect();
        providers.into_iter().find_map(|provider| {
            let here = versions_of(provider, &self.actual);
            let there = versions_of(provider, &primary.actual);
            // A collation that was just created is on the primary alone until the standby has replayed it, and
            // one that was just dropped on the standby alone.
            if there.is_empty() || here.is_subset(&there) || there.is_subset(&here) {
                return None;
            }
            Some(CollationDifference {
                provider,
                here: join(here.difference(&there)),
                there: join(there.difference(&here)),
                primary: Some(primary.node.clone()),
            })
        })
    }
}

fn versions_of(
    provider: CollationProvider,
    versions: &BTreeSet<CollationVersion>,
) -> BTreeSet<&str> {
    let same = versions
        .iter()
        .filter(|version| version.provider == provider);
    same.map(|version| version.version.as_str()).collect()
}

fn join<'a>(versions: impl Iterator<Item = &'a &'a str>) -> String {
    let versions: Vec<_> = versions.copied().collect();
    versions.join(", ")
}

impl fmt::Display for CollationProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Libc => "libc",
            Self::Icu => "ICU",
            Self::Builtin => "the builtin provider",
        })
    }
}

impl fmt::Display for StaleCollation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            provider,
            recorded,
            actual,
        } = self;
        write!(
            f,
            "indexes over text were built with {provider} {recorded}, and this node orders by {actual}"
        )
    }
}

impl fmt::Display for CollationDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            provider,
            here,
            there,
            primary,
        } = self;
        match primary {
            Some(primary) => write!(
                f,
                "this node orders text by {provider} {here}, and the primary `{primary}` by {there}"
            ),
            None => write!(
                f,
                "this node orders text by {provider} {here}, and its indexes were built with {there}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_version_than_the_primary_then_difference_names_both() {
        let here = node(&["libc 2.36", "icu 153.120"]);
        let primary = primary(&["libc 2.31", "icu 153.120"]);
        let found = here.difference(Some(&primary)).unwrap();
        assert_eq!(
            found.to_string(),
            "this node orders text by libc 2.36, and the primary `a` by 2.31"
        );
    }

    #[test]
    fn one_icu_locale_differs_then_difference() {
        let here = node(&["icu 153.120", "icu 153.120.45"]);
        let primary = primary(&["icu 153.120", "icu 153.120.44"]);
        let found = here.difference(Some(&primary)).unwrap();
        assert_eq!((&*found.here, &*found.there), ("153.120.45", "153.120.44"));
    }

    #[test]
    fn collation_on_one_node_only_then_no_difference() {
        let few = node(&["icu 153.120"]);
        let many = ["icu 153.120", "icu 153.120.44", "libc 2.36"];
        assert_eq!(few.difference(Some(&primary(&many))), None);
        assert_eq!(
            node(&many).difference(Some(&primary(&["icu 153.120"]))),
            None
        );
    }

    #[test]
    fn primary_never_seen_then_recorded_versions_count() {
        let mut here = node(&["libc 2.36"]);
        assert_eq!(here.difference(None), None);
        here.stale.insert(stale());
        let found = here.difference(None).unwrap();
        assert_eq!(
            found.to_string(),
            "this node orders text by libc 2.36, and its indexes were built with 2.31"
        );
    }

    #[test]
    fn cluster_upgraded_alike_then_no_difference() {
        let mut here = node(&["libc 2.36"]);
        here.stale.insert(stale());
        assert_eq!(here.difference(Some(&primary(&["libc 2.36"]))), None);
    }

    proptest! {
        /// Which node is asked makes no difference, and a node does not differ from itself.
        #[test]
        fn any_versions_then_symmetric(one in versions(), other in versions()) {
            let compare = |here: &BTreeSet<CollationVersion>, there: &BTreeSet<CollationVersion>| {
                let here = NodeCollations { actual: here.clone(), stale: BTreeSet::new() };
                here.difference(Some(&PrimaryCollations {
                    node: "a".parse().unwrap(),
                    actual: there.clone(),
                }))
            };
            let (forth, back) = (compare(&one, &other), compare(&other, &one));
            prop_assert_eq!(
                forth.map(|found| (found.provider, found.here, found.there)),
                back.map(|found| (found.provider, found.there, found.here))
            );
            prop_assert_eq!(compare(&one, &one), None);
        }

        /// Two nodes that each have one version of a library differ if and only if the versions do.
        #[test]
        fn one_version_each_then_compared(here in 0..3_u8, there in 0..3_u8) {
            let versions = |number: u8| node(&[&format!("libc 2.{number}")]).actual;
            let own = NodeCollations { actual: versions(here), stale: BTreeSet::new() };
            let primary = PrimaryCollations {
                node: "a".parse().unwrap(),
                actual: versions(there),
            };
            prop_assert_eq!(own.difference(Some(&primary)).is_some(), here != there);
        }
    }

    fn versions() -> impl Strategy<Value = BTreeSet<CollationVersion>> {
        let provider = prop_oneof![Just(CollationProvider::Libc), Just(CollationProvider::Icu)];
        let version = (provider, 0..4_u8).prop_map(|(provider, number)| CollationVersion {
            provider,
            version: number.to_string(),
        });
        proptest::collection::btree_set(version, 0..5)
    }

    fn stale() -> StaleCollation {
        StaleCollation {
            provider: CollationProvider::Libc,
            recorded: "2.31".to_owned(),
            actual: "2.36".to_owned(),
        }
    }

    fn node(versions: &[&str]) -> NodeCollations {
        let parse = |text: &&str| {
            let (provider, version) = text.split_once(' ').unwrap();
            CollationVersion {
                provider: serde_json::from_value(provider.into()).unwrap(),
                version: version.to_owned(),
            }
        };
        NodeCollations {
            actual: versions.iter().map(parse).collect(),
            stale: BTreeSet::new(),
        }
    }

    fn primary(versions: &[&str]) -> PrimaryCollations {
        PrimaryCollations {
            node: "a".parse().unwrap(),
            actual: node(versions).actual,
        }
    }
}
