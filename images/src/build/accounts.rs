//! Users and groups with fixed ids: the lines that go into a root before packages are configured,
//! and the check that packages made no others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::definition::User;

/// Lines to append to the four account files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// For /etc/passwd.
    pub passwd: String,
    /// For /etc/group.
    pub group: String,
    /// For /etc/shadow.
    pub shadow: String,
    /// For /etc/gshadow.
    pub gshadow: String,
}

/// Ids below are fixed by Debian's base-passwd or by Debian policy 9.2 in every system.
const FIRST_DYNAMIC: u32 = 100;
/// Ids from here on are allocated by Debian policy 9.2 or by no one.
const FIRST_STATIC: u32 = 60_000;
/// base-passwd's group `users`, the one fixed id in the dynamic range.
const USERS_GROUP: (&str, u32) = ("users", 100);

/// The lines for `users` and `groups`; `day` (days since 1970) is the date of the last password change.
#[must_use]
pub fn lines(users: &BTreeMap<String, User>, groups: &BTreeMap<String, u32>, day: u64) -> Lines {
    let mut lines = Lines::default();
    // Writing to a String cannot fail.
    for (name, gid) in by_id(groups.iter().map(|(name, gid)| (name, *gid))) {
        let members: Vec<&str> = users
            .iter()
            .filter(|(_, user)| user.groups.contains(name))
            .map(|(member, _)| member.as_str())
            .collect();
        let members = members.join(",");
        let _ = writeln!(lines.group, "{name}:x:{gid}:{members}");
        let _ = writeln!(lines.gshadow, "{name}:!::{members}");
    }
    for (name, uid) in by_id(users.iter().map(|(name, user)| (name, user.uid))) {
        let user = &users[name];
        let gid = groups.get(&user.group).copied().unwrap_or(user.uid);
        let _ = writeln!(lines.passwd, "{name}:x:{uid}:{gid}::{}:{}", user.home, user.shell);
        let _ = writeln!(lines.shadow, "{name}:!:{day}::::::");
    }
    lines
}

fn by_id<'n>(names: impl Iterator<Item = (&'n String, u32)>) -> Vec<(&'n String, u32)> {
    let mut sorted: Vec<_> = names.collect();
    sorted.sort_by_key(|(_, id)| *id);
    sorted
}

/// What is wrong with groups that users of `users` name, given all groups of the chain.
#[must_use]
pub fn unknown_group(users: &BTreeMap<String, User>, groups: &BTreeMap<String, u32>) -> Option<String> {
    users.iter().find_map(|(name, user)| {
        let mut named = std::iter::once(&user.group).chain(&user.groups);
        let missing = named.find(|group| !groups.contains_key(*group))?;
        Some(format!(
            "users.{name}: group {missing:?} has no fixed id in groups"
        ))
    })
}

/// Users and groups of a root that were not given an id by a definition: `"user x=101"`.
#[must_use]
pub fn loose(
    passwd: &str,
    group: &str,
    users: &BTreeMap<String, User>,
    groups: &BTreeMap<String, u32>,
) -> Vec<String> {
    let uids: BTreeMap<&str, u32> = users.iter().map(|(n, u)| (n.as_str(), u.uid)).collect();
    let gids: BTreeMap<&str, u32> = groups.iter().map(|(n, gid)| (n.as_str(), *gid)).collect();
    let mut found = BTreeSet::new();
    for (kind, text, fixed) in [("user", passwd, &uids), ("group", group, &gids)] {
        for (name, id) in text.lines().filter_map(name_and_id) {
            let dynamic = (FIRST_DYNAMIC..FIRST_STATIC).contains(&id);
            let known = match fixed.get(name) {
                Some(wanted) => *wanted == id,
                None => !dynamic || (kind == "group" && (name, id) == USERS_GROUP),
            };
            if !known {
                found.insert(format!("{kind} {name}={id}"));
            }
        }
    }
    found.into_iter().collect()
}

fn name_and_id(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    Some((fields.next()?, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, group: &str, groups: &[&str]) -> User {
        User {
            uid,
            group: group.to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
            home: "/var/lib/nova".to_owned(),
            shell: "/bin/sh".to_owned(),
        }
    }

    fn table() -> (BTreeMap<String, User>, BTreeMap<String, u32>) {
        let users = BTreeMap::from([("nova".to_owned(), user(64060, "nova", &["kvm"]))]);
        let groups = BTreeMap::from([("nova".to_owned(), 64060), ("kvm".to_owned(), 900)]);
        (users, groups)
    }

    #[test]
    fn lines_have_fixed_ids_and_members() {
        let (users, groups) = table();
        let lines = lines(&users, &groups, 19_000);
        assert_eq!(lines.passwd, "nova:x:64060:64060::/var/lib/nova:/bin/sh\n");
        assert_eq!(lines.group, "kvm:x:900:nova\nnova:x:64060:\n");
        assert_eq!(lines.shadow, "nova:!:19000::::::\n");
        assert_eq!(lines.gshadow, "kvm:!::nova\nnova:!::\n");
    }

    #[test]
    fn accounts_without_a_fixed_id_are_found() {
        let (users, groups) = table();
        let passwd = "root:x:0:0::/:/bin/sh\nnova:x:64060:64060::/:/bin/sh\nuuidd:x:101:101::/:/x\n";
        let group = "root:x:0:\nusers:x:100:\nkvm:x:104:\nnova:x:64060:\n";
        let found = loose(passwd, group, &users, &groups);
        assert_eq!(found, ["group kvm=104", "user uuidd=101"]);
    }

    #[test]
    fn a_group_that_no_one_defines_is_named() {
        let (mut users, groups) = table();
        assert_eq!(unknown_group(&users, &groups), None);
        users.insert("x".to_owned(), user(1, "nova", &["ghost"]));
        let problem = unknown_group(&users, &groups).expect("ghost is unknown");
        assert_eq!(problem, "users.x: group \"ghost\" has no fixed id in groups");
    }
}
