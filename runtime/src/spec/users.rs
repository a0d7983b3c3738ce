//! Users and groups by the image's own passwd and group files, whose numbers are an ABI between
//! images and the state on the host.

use std::collections::BTreeMap;

/// The accounts an image knows.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: BTreeMap<String, UserEntry>,
    groups: BTreeMap<String, GroupEntry>,
}

#[derive(Clone, Debug)]
struct UserEntry {
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Clone, Debug)]
struct GroupEntry {
    gid: u32,
    members: Vec<String>,
}

/// Numeric identity of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, sorted, without the primary one.
    pub groups: Vec<u32>,
    /// Home directory by the image's passwd, if the user is in it.
    pub home: Option<String>,
}

/// A name the image does not know.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AccountError {
    /// No such user in the image's passwd.
    #[error("user `{0}` is not in the image's /etc/passwd")]
    User(String),
    /// No such group in the image's group file.
    #[error("group `{0}` is not in the image's /etc/group")]
    Group(String),
}

impl Accounts {
    /// Reads passwd(5) and group(5). Lines that are not entries are passed over, as the C library
    /// does.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(user_entry).collect();
        let groups = group.lines().filter_map(group_entry).collect();
        Self { users, groups }
    }

    /// The number of a user given by name or number.
    ///
    /// # Errors
    /// A name that is not in the image's passwd.
    pub fn uid(&self, user: &str) -> Result<u32, AccountError> {
        number(user)
            .or_else(|| self.users.get(user).map(|entry| entry.uid))
            .ok_or_else(|| AccountError::User(user.to_owned()))
    }

    /// The number of a group given by name or number.
    ///
    /// # Errors
    /// A name that is not in the image's group file.
    pub fn gid(&self, group: &str) -> Result<u32, AccountError> {
        number(group)
            .or_else(|| self.groups.get(group).map(|entry| entry.gid))
            .ok_or_else(|| AccountError::Group(group.to_owned()))
    }

    /// Who `USER` or `USER:GROUP` is, with the groups the image gives the user and `extra` ones.
    /// An empty text is root. A user id that has no entry runs with group 0, as in docker and
    /// podman.
    ///
    /// # Errors
    /// A name that the image does not know.
    pub fn identity(&self, user: &str, extra: &[String]) -> Result<Identity, AccountError> {
        let (user, group) = match user.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (user, None),
        };
        let uid = self.uid(if user.is_empty() { "0" } else { user })?;
        let entry = self.users.iter().find(|(_, entry)| entry.uid == uid);
        let gid = match (group, entry) {
            (Some(group), _) => self.gid(group)?,
            (None, Some((_, entry))) => entry.gid,
            (None, None) => 0,
        };
        let mut groups = Vec::new();
        if let Some((name, _)) = entry {
            let of_user = self.groups.values().filter(|group| group.members.contains(name));
            groups.extend(of_user.map(|group| group.gid));
        }
        for group in extra {
            groups.push(self.gid(group)?);
        }
        groups.sort_unstable();
        groups.dedup();
        groups.retain(|other| *other != gid);
        let home = entry
            .map(|(_, entry)| entry.home.clone())
            .filter(|home| !home.is_empty());
        Ok(Identity {
            uid,
            gid,
            groups,
            home,
        })
    }
}

/// A user or group id. The highest number is none: setresuid(2) and chown(2) take it for "leave as it
/// is", so that a service with it would go on as root.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

fn user_entry(line: &str) -> Option<(String, UserEntry)> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields.as_slice() else {
        return None;
    };
    let entry = UserEntry {
        uid: number(uid)?,
        gid: number(gid)?,
        home: (*home).to_owned(),
    };
    Some(((*name).to_owned(), entry))
}

fn group_entry(line: &str) -> Option<(String, GroupEntry)> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields.as_slice() else {
        return None;
    };
    let members = members
        .split(',')
        .filter(|m| !m.is_empty())
        .map(str::to_owned)
        .collect();
    Some((
        (*name).to_owned(),
        GroupEntry {
            gid: number(gid)?,
            members,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# no entry\nbroken:x:\n\
        nova:x:64060:64060::/var/lib/nova:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nkvm:x:106:nova,qemu\nlibvirt:x:64055:nova\nnova:x:64060:\n";

    fn identity(user: &str, extra: &[&str]) -> Result<Identity, AccountError> {
        let extra: Vec<String> = extra.iter().map(|e| (*e).to_owned()).collect();
        Accounts::parse(PASSWD, GROUP).identity(user, &extra)
    }

    #[test]
    fn users_get_the_groups_of_the_image() {
        let nova = identity("nova", &["root"]).unwrap();
        assert_eq!((nova.uid, nova.gid), (64060, 64060));
        assert_eq!(nova.groups, [0, 106, 64055]);
        assert_eq!(nova.home.as_deref(), Some("/var/lib/nova"));
        assert_eq!(identity("64060", &[]).unwrap().groups, [106, 64055]);
    }

    #[test]
    fn forms_of_user_and_group() {
        let table = [
            ("", 0, 0),
            ("root", 0, 0),
            ("nova:kvm", 64060, 106),
            ("12345", 12345, 0),
            ("12345:9", 12345, 9),
        ];
        for (user, uid, gid) in table {
            let got = identity(user, &[]).unwrap();
            assert_eq!((got.uid, got.gid), (uid, gid), "{user}");
        }
    }

    #[test]
    fn the_number_that_stands_for_no_change_is_no_account() {
        let all = u32::MAX.to_string();
        assert_eq!(identity(&all, &[]), Err(AccountError::User(all.clone())));
        assert_eq!(
            identity(&format!("0:{all}"), &[]),
            Err(AccountError::Group(all.clone()))
        );
        assert_eq!(identity("0", &[&all]), Err(AccountError::Group(all.clone())));
        let accounts = Accounts::parse(
            &format!("a:x:{all}:0:::\nb:x:1:{all}:::\n"),
            &format!("c:x:{all}:\n"),
        );
        for name in ["a", "b"] {
            assert_eq!(accounts.uid(name), Err(AccountError::User(name.into())));
        }
        assert_eq!(accounts.gid("c"), Err(AccountError::Group("c".into())));
    }

    #[test]
    fn unknown_names_are_named() {
        assert_eq!(identity("who", &[]), Err(AccountError::User("who".into())));
        assert_eq!(identity("nova:who", &[]), Err(AccountError::Group("who".into())));
        assert_eq!(
            identity("nova", &["broken"]),
            Err(AccountError::Group("broken".into()))
        );
    }
}
