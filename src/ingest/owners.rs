//! What are the owners called?
//!
//! Names come from `/etc/passwd` and `/etc/group`, read once: no name service is asked (LDAP and its like), because that
//! needs the C library's resolver and may take seconds a name. Numbers are what a snapshot restores; names are for people.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Names by number.
#[derive(Debug, Clone, Default)]
pub(super) struct Owners {
    users: HashMap<u32, Arc<str>>,
    groups: HashMap<u32, Arc<str>>,
}

impl Owners {
    /// Reads the system's lists; one that cannot be read is empty.
    pub(super) fn of_system() -> Self {
        let read = |path| std::fs::read(path).map_or_else(|_| HashMap::new(), |bytes| parse(&bytes));
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    pub(super) fn user(&self, uid: u32) -> Option<Arc<str>> {
        self.users.get(&uid).cloned()
    }

    pub(super) fn group(&self, gid: u32) -> Option<Arc<str>> {
        self.groups.get(&gid).cloned()
    }
}

/// The id of a user's name, or of a group's, in the system's lists, as they are when a name is first asked for.
#[must_use]
pub fn id_of_user(name: &str) -> Option<u32> {
    IDS.0.get(name).copied()
}

/// The same of a group.
#[must_use]
pub fn id_of_group(name: &str) -> Option<u32> {
    IDS.1.get(name).copied()
}

type Ids = HashMap<Arc<str>, u32>;

static IDS: LazyLock<(Ids, Ids)> = LazyLock::new(|| {
    let Owners { users, groups } = Owners::of_system();
    let turned = |names: HashMap<u32, Arc<str>>| names.into_iter().map(|(id, name)| (name, id)).collect();
    (turned(users), turned(groups))
});

/// Both lists are lines of `name:password:number:…`; the first line of a number counts, as in the C library.
fn parse(list: &[u8]) -> HashMap<u32, Arc<str>> {
    let mut names = HashMap::new();
    for line in list.split(|b| *b == b'\n') {
        let mut fields = line.split(|b| *b == b':').map(std::str::from_utf8);
        if let (Some(Ok(name)), Some(_), Some(Ok(number))) = (fields.next(), fields.next(), fields.next())
            && let Ok(number) = number.parse()
            && !name.is_empty()
        {
            names.entry(number).or_insert_with(|| Arc::from(name));
        }
    }
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_number_counts_and_odd_lines_are_passed_over() {
        let names =
            parse(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n\n#c\n+::::::\nb\xffd:x:7:7\nbob:x:1000:100\nx:y:");
        assert_eq!(names.len(), 2);
        assert_eq!(&**names.get(&0).unwrap(), "root");
        assert_eq!(&**names.get(&1000).unwrap(), "bob");
    }
}
