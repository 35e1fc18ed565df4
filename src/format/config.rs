//! What a store is: `store.json`, written once when the store is made.
//!
//! ```json
//! {"format": "seamstore", "version": 1, "id": "<32 hex digits>", "profile": "default",
//!  "frame_bytes": 1048576, "codec": "zstd", "level": 2, "checksum": "<32 hex digits>"}
//! ```
//! `checksum` is the first 16 bytes of the BLAKE3 of the other values, each followed by a line feed, in the order above;
//! a change of any of them, by damage or by hand, is noticed.

use serde::{Deserialize, Serialize};

use super::FORMAT_VERSION;
use super::id::checksum;
use crate::error::{Error, Result};

const FORMAT_NAME: &str = "seamstore";
const FILE: &str = "store.json";

/// A store's identity and the settings that all its parts share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    format: String,
    version: u32,
    /// A random name for this store: 32 hexadecimal digits.
    pub id: String,
    /// The chunking profile, by its name.
    pub profile: String,
    /// The size a frame is filled to, in bytes.
    pub frame_bytes: u32,
    /// The codec of frames, by its name.
    pub codec: String,
    /// The codec's level.
    pub level: i32,
    checksum: String,
}

/// Read first, so that a store of another version is not taken for a damaged one.
#[derive(Deserialize)]
struct Version {
    format: String,
    version: u64,
}

impl StoreConfig {
    /// No store.json is larger, in bytes.
    pub const BYTES_MAX: u64 = 64 << 10;

    /// The configuration of a new store.
    #[must_use]
    pub fn new(id: String, profile: String, frame_bytes: u32, codec: String, level: i32) -> Self {
        let mut config = Self {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION,
            id,
            profile,
            frame_bytes,
            codec,
            level,
            checksum: String::new(),
        };
        config.checksum = config.expected_checksum();
        config
    }

    fn expected_checksum(&self) -> String {
        let values = format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            self.format, self.version, self.id, self.profile, self.frame_bytes, self.codec, self.level
        );
        checksum(&[values.as_bytes()]).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // A struct of strings and numbers always serialises.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file's bytes.
    ///
    /// # Errors
    /// [`Error::FormatVersion`] for another version, [`Error::Damaged`] for anything that is not what was written.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |e: &serde_json::Error| {
            let line_start: usize =
                bytes.split_inclusive(|b| *b == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len).sum();
            // Of values that do not fit, the line is not known: it is 0.
            let offset = (e.line() > 0).then(|| (line_start + e.column().saturating_sub(1)) as u64);
            Error::Damaged { file: FILE.to_owned(), offset, what: e.to_string() }
        };
        let head: Version = serde_json::from_slice::<serde_json::Value>(bytes)
            .and_then(serde_json::from_value)
            .map_err(|e| damaged(&e))?;
        if head.format == FORMAT_NAME && head.version != u64::from(FORMAT_VERSION) {
            return Err(Error::FormatVersion {
                file: FILE.to_owned(),
                found: head.version,
                supported: u64::from(FORMAT_VERSION),
            });
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|e| damaged(&e))?;
        let expected = config.expected_checksum();
        if config.format != FORMAT_NAME || config.checksum != expected {
            return Err(Error::damaged_whole(
                FILE,
                format!("its checksum is {:?}, its values make {expected:?}", config.checksum),
            ));
        }
        // One spelling only, so that no byte can change unnoticed.
        let written = config.to_bytes();
        if written != bytes {
            let same = written.iter().zip(bytes).take_while(|(written, found)| written == found).count();
            return Err(Error::damaged(FILE, same as u64, "its layout is not the one it was written in"));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn sample() -> StoreConfig {
        StoreConfig::new("00ff".repeat(8), "default".into(), 262_144, "zstd".into(), 3)
    }

    #[test]
    fn reads_what_it_wrote() {
        assert_eq!(StoreConfig::parse(&sample().to_bytes()).unwrap(), sample());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(StoreConfig::parse(&flipped).is_err(), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn damage_is_said_to_be_at_a_byte_only_where_the_byte_is_known() {
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        let at = |part: &str| Some(text.find(part).unwrap() as u64);
        let cases = [
            // A value does not fit: the parser does not say where.
            (text.replace("\"version\": 1", "\"version\": true"), None),
            // Any of the values may be the wrong one.
            (text.replace("262144", "262145"), None),
            (text.replace("{\n", "{\n "), Some(4)),
            (text.replace("\"zstd\"", "?"), at("\"zstd\"")),
            (String::new(), Some(0)),
        ];
        for (changed, expected) in cases {
            assert_ne!(changed, text);
            match StoreConfig::parse(changed.as_bytes()) {
                Err(Error::Damaged { offset, .. }) => assert_eq!(offset, expected, "{changed}"),
                other => panic!("{changed}: {other:?}"),
            }
        }
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let text = String::from_utf8(sample().to_bytes()).unwrap();
        let later = text.replace("\"version\": 1", "\"version\": 2");
        let error = StoreConfig::parse(later.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::FormatVersion { found: 2, supported: 1, .. }), "{error:?}");
    }
}
