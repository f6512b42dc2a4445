//! All instances of the service, from the lease and their signs of life: leader, standbys, versions, ages.

use std::time::Duration;

use bson::DateTime;
use mongodb::Database;
use serde::Serialize;

use super::time::text;
use crate::error::Failure;
use crate::instances::{self, StoredInstance};
use crate::lease::Holder;

/// The role of the instance that has the lease.
const LEADER: &str = "leader";
/// The role of an instance that takes over when the lease is free.
const STANDBY: &str = "standby";
/// The role of an instance that has given no sign for a while, or none since it lost the lease.
const SILENT: &str = "silent";

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct InstanceStatus {
    pub name: String,
    /// `leader`, `standby`, `starting`, `stepped_down` or `silent`.
    pub role: String,
    /// Null for a leader that gives no sign of life, as version 1.0.0.
    pub version: Option<String>,
    /// The time since which the instance has this role (RFC 3339); null where that is not known.
    pub since: Option<String>,
    /// The time since the last sign of life, in seconds; null for a leader that gives none.
    pub last_seen_seconds: Option<u64>,
}

impl InstanceStatus {
    /// The same so much later. What was read grows old while the database does not answer.
    #[must_use]
    pub(crate) fn aged(&self, by: Duration) -> Self {
        let last_seen_seconds = self.last_seen_seconds.map(|seconds| seconds + by.as_secs());
        Self { last_seen_seconds, ..self.clone() }
    }

    /// True for an instance that would take over now.
    #[must_use]
    pub(crate) fn is_standby(&self) -> bool {
        self.role == STANDBY
    }

    /// True for an instance that has given no sign of life for a while.
    #[must_use]
    pub(crate) fn is_silent(&self) -> bool {
        self.role == SILENT
    }
}

/// Reads the instances, the leader first. `leader` and `now` were read from the same server before.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn read(
    database: &Database,
    leader: Option<&Holder>,
    now: DateTime,
) -> Result<Vec<InstanceStatus>, Failure> {
    Ok(of(&instances::read(database).await?, leader.map(|leader| leader.name.as_str()), now))
}

/// The instances by their signs of life. The lease decides who leads.
fn of(signs: &[StoredInstance], leader: Option<&str>, now: DateTime) -> Vec<InstanceStatus> {
    let mut instances: Vec<InstanceStatus> = signs
        .iter()
        .map(|sign| {
            let role = match sign.role.as_str() {
                _ if Some(sign.name.as_str()) == leader => LEADER,
                // The instance has said nothing since it lost the lease.
                LEADER => SILENT,
                _ if sign.is_silent(now) => SILENT,
                role => role,
            };
            InstanceStatus {
                name: sign.name.clone(),
                role: role.to_owned(),
                version: Some(sign.version.clone()),
                since: (sign.role == role).then(|| text(sign.since)),
                last_seen_seconds: Some(sign.age(now).as_secs()),
            }
        })
        .collect();
    if let Some(leader) = leader.filter(|leader| instances.iter().all(|instance| instance.name != *leader)) {
        let role = LEADER.to_owned();
        let unknown =
            InstanceStatus { name: leader.to_owned(), role, version: None, since: None, last_seen_seconds: None };
        instances.push(unknown);
    }
    let place = |role: &str| [LEADER, STANDBY].iter().position(|first| *first == role).unwrap_or(2);
    instances.sort_by(|one, other| (place(&one.role), &one.name).cmp(&(place(&other.role), &other.name)));
    instances
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(name: &str, role: &str, seen_at: i64) -> StoredInstance {
        let (since, seen_at) = (DateTime::from_millis(0), DateTime::from_millis(seen_at));
        StoredInstance { name: name.to_owned(), version: "1".to_owned(), role: role.to_owned(), since, seen_at }
    }

    fn roles(signs: &[StoredInstance], leader: Option<&str>) -> Vec<(String, String)> {
        let instances = of(signs, leader, DateTime::from_millis(60_000));
        instances.into_iter().map(|instance| (instance.name, instance.role)).collect()
    }

    #[test]
    fn the_lease_decides_who_leads_and_who_gives_no_sign_is_silent() {
        let signs = [
            sign("c", "standby", 44_000),
            sign("b", "leader", 60_000),
            sign("a", "standby", 45_000),
            sign("d", "stepped_down", 60_001),
        ];
        let owned = |expected: &[(&str, &str)]| -> Vec<(String, String)> {
            expected.iter().map(|(name, role)| ((*name).to_owned(), (*role).to_owned())).collect()
        };
        let expected = [("b", "leader"), ("a", "standby"), ("c", "silent"), ("d", "stepped_down")];
        assert_eq!(roles(&signs, Some("b")), owned(&expected));
        let taken = [("a", "leader"), ("b", "silent"), ("c", "silent"), ("d", "stepped_down")];
        assert_eq!(roles(&signs, Some("a")), owned(&taken), "a role that has ended is no role");
        assert_eq!(roles(&[], Some("old")), owned(&[("old", "leader")]), "an older version gives no sign");
    }
}
