//! What are paths called in HDF5, whose links have names of UTF-8?
//!
//! Part by part as they are, but `%` is `%25`, and a byte that is no UTF-8 is `%` and two hexadecimal digits. What HDF5
//! cannot hold besides (empty parts, `.`, NUL) no path has. A file in whose place a path needs a group, because something
//! lies below it, keeps its name, and the group's ends with one `%` more. The root itself is `%`.
//!
//! Invariant: different paths have different names.

use crate::format::entry::EntryPath;

/// Names paths that come in their order.
#[derive(Debug, Default)]
pub struct LinkNames {
    /// The files that the last path lies below, and itself.
    files: Vec<EntryPath>,
}

impl LinkNames {
    /// The name of a file.
    pub fn name(&mut self, path: &EntryPath) -> String {
        while self.files.last().is_some_and(|file| !path.is_within(file)) {
            self.files.pop();
        }
        let mut name = String::new();
        let mut read = 0;
        for part in path.as_bytes().split(|b| *b == b'/') {
            if read > 0 {
                name.push('/');
            }
            escape(part, &mut name);
            read += part.len();
            if self.files.iter().any(|file| file.as_bytes().len() == read) {
                name.push('%');
            }
            read += 1;
        }
        if path.is_root() {
            name.push('%');
        }
        self.files.push(path.clone());
        name
    }
}

fn escape(part: &[u8], name: &mut String) {
    for chunk in part.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '%' => name.push_str("%25"),
                c => name.push(c),
            }
        }
        for byte in chunk.invalid() {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn names_tell_paths_apart() {
        let paths: [&[u8]; 13] = [
            b"",
            b"%",
            b"%25",
            b"a",
            b"a/b",
            b"a/b/c",
            b"a/\xff\n",
            b"a%",
            b"a%/b",
            b"ab",
            b"gr\xc3\xb6\xc3\x9fe/\xc3",
            b"z/%ff",
            b"z/\xff",
        ];
        let names = [
            "%",
            "%25",
            "%2525",
            "a",
            "a%/b",
            "a%/b%/c",
            "a%/%ff\n",
            "a%25",
            "a%25%/b",
            "ab",
            "größe/%c3",
            "z/%25ff",
            "z/%ff",
        ];
        let mut links = LinkNames::default();
        let found: Vec<String> = paths.iter().map(|path| links.name(&EntryPath::new(*path).unwrap())).collect();
        assert_eq!(found, names);
    }
}
