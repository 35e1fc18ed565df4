//! How is a name written as text, and how is it read back? A name is bytes: of a file, an owner, a label, a tag.
//!
//! ```text
//! as it is   valid UTF-8 that a terminal only shows
//! \\         a backslash
//! \n \t \r   line feed, tab, carriage return
//! \xNN       any other byte: of a control character, of a character that is invisible or turns the direction of
//!            writing, or one that is not UTF-8; two lower-case hexadecimal digits
//! \"         a double quote, where the name stands in double quotes
//! ```
//!
//! Invariants: different names have different spellings ([`unspelled`] gives the bytes back), and no spelling holds a
//! character that a terminal obeys.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// A name in a report. As JSON an object: `path`, its text, in which U+FFFD stands for what is not UTF-8, and only then
/// `path_hex`, its bytes in hexadecimal digits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Name(pub Vec<u8>);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            path: Cow<'a, str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            path_hex: Option<String>,
        }
        Form { path: String::from_utf8_lossy(&self.0), path_hex: hex_unless_text(&self.0) }.serialize(serializer)
    }
}

impl NameBytes for Name {
    fn name_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The hexadecimal digits of a name that is not UTF-8.
#[must_use]
pub fn hex_unless_text(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name).is_err().then(|| name.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whatever has a name's bytes.
pub trait NameBytes {
    /// The bytes.
    fn name_bytes(&self) -> &[u8];
}

impl NameBytes for [u8] {
    fn name_bytes(&self) -> &[u8] {
        self
    }
}

impl NameBytes for Vec<u8> {
    fn name_bytes(&self) -> &[u8] {
        self
    }
}

impl NameBytes for str {
    fn name_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl NameBytes for String {
    fn name_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl NameBytes for OsStr {
    fn name_bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl NameBytes for Path {
    fn name_bytes(&self) -> &[u8] {
        self.as_os_str().as_bytes()
    }
}

impl NameBytes for PathBuf {
    fn name_bytes(&self) -> &[u8] {
        self.as_os_str().as_bytes()
    }
}

impl<N: NameBytes + ?Sized> NameBytes for &N {
    fn name_bytes(&self) -> &[u8] {
        (**self).name_bytes()
    }
}

/// A name that is displayed as it is spelled.
#[derive(Debug, Clone, Copy)]
pub struct Spelled<'a> {
    bytes: &'a [u8],
    quoted: bool,
}

/// A name, spelled.
#[must_use]
pub fn spelled<N: NameBytes + ?Sized>(name: &N) -> Spelled<'_> {
    Spelled { bytes: name.name_bytes(), quoted: false }
}

/// A name, spelled in double quotes: for sentences.
#[must_use]
pub fn quoted<N: NameBytes + ?Sized>(name: &N) -> Spelled<'_> {
    Spelled { bytes: name.name_bytes(), quoted: true }
}

impl fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(self.bytes.len() + 2);
        if self.quoted {
            text.push('"');
        }
        for chunk in self.bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' if self.quoted => text.push_str("\\\""),
                    c if is_odd(c) => push_escaped(&mut text, c),
                    c => text.push(c),
                }
            }
            for byte in chunk.invalid() {
                write!(text, "\\x{byte:02x}")?;
            }
        }
        if self.quoted {
            text.push('"');
        }
        f.pad(&text)
    }
}

/// The name that a text spells; `None` if it has a backslash that begins no escape, or spells a NUL, which no name has.
#[must_use]
pub fn unspelled(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                b'"' => b'"',
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'x' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
                _ => return None,
            },
            byte => byte,
        };
        if byte == 0 {
            return None;
        }
        bytes.push(byte);
    }
    Some(bytes)
}

/// Whether a terminal does something else with a character than to show it, or shows nothing: control characters, line and
/// paragraph separators, marks and overrides of the direction of writing, characters without width.
#[must_use]
pub fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A sentence of which only names were spelled: whatever else in it a terminal would obey is escaped. Backslashes stay.
#[must_use]
pub fn harmless(text: &str) -> Cow<'_, str> {
    escaped(text, is_odd)
}

/// As [`harmless`], of several lines.
#[must_use]
pub fn harmless_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_odd(c))
}

/// JSON in which strings have escapes for all that a terminal would obey. Between strings there are line feeds only.
#[must_use]
pub fn harmless_json(json: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| c != '\n' && is_odd(c);
    if is_plain(json) || !json.contains(is_escaped) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if is_escaped(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if is_plain(text) && !(text.contains('\n') && is_escaped('\n')) || !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_escaped(c) { push_escaped(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Whether all is ASCII that is shown, and line feeds: the quick answer for nearly all output.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~'))
}

fn push_escaped(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str("\\n"),
        '\t' => text.push_str("\\t"),
        '\r' => text.push_str("\\r"),
        c => {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                text.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_spelled_as_documented() {
        for (name, text) in [
            (&b"plain, \xc3\xa9, \xe6\x96\x87"[..], "plain, \u{e9}, \u{6587}"),
            (b"dev-disk-by\\x2dlabel", "dev-disk-by\\\\x2dlabel"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"\x1b[31m\x7f", "\\x1b[31m\\x7f"),
            (b"caf\xe9", "caf\\xe9"),
            ("\u{202e}gpj.exe".as_bytes(), "\\xe2\\x80\\xaegpj.exe"),
            ("\u{85}\u{2028}\u{200b}".as_bytes(), "\\xc2\\x85\\xe2\\x80\\xa8\\xe2\\x80\\x8b"),
            (b"say \"so\"", "say \"so\""),
        ] {
            assert_eq!(spelled(name).to_string(), text);
            assert_eq!(unspelled(text.as_bytes()).unwrap(), name);
        }
        assert_eq!(quoted("say \"so\"").to_string(), "\"say \\\"so\\\"\"");
        assert_eq!(format!("{:>6}|{:<6}|", spelled("ab"), spelled("a\\")), "    ab|a\\\\   |");
    }

    #[test]
    fn what_spells_no_name_is_refused() {
        for text in ["a\\", "\\q", "\\x", "\\x1", "\\xg0", "\\x00", "a\0b", "\\X41"] {
            assert_eq!(unspelled(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(unspelled(b"\\x4A\\\"").unwrap(), b"J\"");
    }

    #[test]
    fn sentences_lines_and_json_lose_nothing_but_what_a_terminal_obeys() {
        assert!(matches!(harmless("as it is, \\ and \u{e9} too"), Cow::Borrowed(_)));
        assert_eq!(harmless("a\nb\u{9b}c"), "a\\nb\\xc2\\x9bc");
        assert_eq!(harmless("a\nb"), "a\\nb");
        assert_eq!(harmless_lines("a\nb\u{7f}\n"), "a\nb\\x7f\n");
        let json = serde_json::to_string_pretty(&["\u{202e}\u{e0041}\u{7f}\n\\"]).unwrap();
        let harmless = harmless_json(&json);
        assert!(harmless.chars().all(|c| c == '\n' || !is_odd(c)), "{harmless}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&harmless).unwrap(), ["\u{202e}\u{e0041}\u{7f}\n\\"]);
    }

    proptest! {
        #[test]
        fn what_is_spelled_is_read_back_and_no_terminal_obeys_it(
            name in prop_oneof![
                proptest::collection::vec(1_u8.., 0..40),
                "[\\\\xna0-9\"\u{1b}\u{202e}\u{7f}\u{85}]{0,20}".prop_map(String::into_bytes),
            ]
        ) {
            for text in [spelled(&name).to_string(), quoted(&name).to_string().trim_matches('"').to_owned()] {
                prop_assert!(!text.contains(is_odd), "{text:?}");
            }
            let text = spelled(&name).to_string();
            let read = unspelled(text.as_bytes());
            prop_assert_eq!(read.as_deref(), Some(name.as_slice()));
            let text = quoted(&name).to_string();
            let inner = text.get(1..text.len() - 1).unwrap();
            let read = unspelled(inner.as_bytes());
            prop_assert_eq!(read.as_deref(), Some(name.as_slice()));
        }
    }
}
