//! Is this file a package, and of which kind? Its name says so, and its first bytes must agree.
//!
//! | kind | name ends in | begins with |
//! | --- | --- | --- |
//! | wheel | `.whl` | a zip member, `PK\x03\x04` |
//! | jar | `.jar` | a zip member |
//! | crate | `.crate` | gzip |
//! | npm | `.tgz` | gzip, and in it a tar whose first member is below `package/`, or is a `package.json` |
//! | deb | `.deb`, `.udeb` | `!<arch>\n`, the member `debian-binary` |
//! | rpm | `.rpm` | `ED AB EE DB`, the lead's magic |
//!
//! A `.tgz` is any tar; so the first block of that is decoded, which no other kind needs.

use std::io::Read;

/// How many of a file's first bytes [`Package::is_one`] looks at, at most.
pub const HEAD_BYTES: usize = 2 << 10;

/// A kind of package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// A Python wheel.
    Wheel,
    /// A Rust crate.
    Crate,
    /// A package of npm.
    Npm,
    /// A Java archive.
    Jar,
    /// A Debian package.
    Deb,
    /// An RPM package.
    Rpm,
}

/// What names end in, in lower case.
const SUFFIXES: [(&[u8], Package); 7] = [
    (b".whl", Package::Wheel),
    (b".crate", Package::Crate),
    (b".tgz", Package::Npm),
    (b".jar", Package::Jar),
    (b".deb", Package::Deb),
    (b".udeb", Package::Deb),
    (b".rpm", Package::Rpm),
];

const ZIP_MEMBER: &[u8] = b"PK\x03\x04";
const GZIP: &[u8] = b"\x1f\x8b\x08";
const DEB: &[u8] = b"!<arch>\ndebian-binary";
const RPM: &[u8] = b"\xed\xab\xee\xdb";

/// A tar's block, and where in it name and magic are.
const TAR_BLOCK_BYTES: usize = 512;
const TAR_NAME: std::ops::Range<usize> = 0..100;
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

impl Package {
    /// The kind that a file of this name would be, whatever is in it. Letters may be of either case.
    #[must_use]
    pub fn by_name(name: &[u8]) -> Option<Self> {
        let ends_in = |suffix: &[u8]| {
            let stem_bytes = name.len().checked_sub(suffix.len()).filter(|stem_bytes| *stem_bytes > 0);
            stem_bytes.and_then(|at| name.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        };
        SUFFIXES.iter().find(|(suffix, _)| ends_in(suffix)).map(|(_, package)| *package)
    }

    /// Whether a file that begins with these bytes is a package of this kind. Of a file longer than that,
    /// [`HEAD_BYTES`] are needed.
    #[must_use]
    pub fn is_one(self, head: &[u8]) -> bool {
        match self {
            Self::Wheel | Self::Jar => head.starts_with(ZIP_MEMBER),
            Self::Crate => head.starts_with(GZIP),
            Self::Npm => head.starts_with(GZIP) && is_npm(head),
            Self::Deb => head.starts_with(DEB),
            Self::Rpm => head.starts_with(RPM),
        }
    }

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Wheel => "wheel",
            Self::Crate => "crate",
            Self::Npm => "npm",
            Self::Jar => "jar",
            Self::Deb => "deb",
            Self::Rpm => "rpm",
        }
    }
}

/// Whether the tar in a gzip stream begins as those do that npm makes.
fn is_npm(head: &[u8]) -> bool {
    let mut block = [0; TAR_BLOCK_BYTES];
    // The stream is cut off behind the head: only its first block is asked for.
    let mut tar = flate2::read::GzDecoder::new(head.get(..HEAD_BYTES.min(head.len())).unwrap_or_default());
    if tar.read_exact(&mut block).is_err() || block.get(TAR_MAGIC) != Some(b"ustar".as_slice()) {
        return false;
    }
    let name = block.get(TAR_NAME).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    name.starts_with(b"package/") || name.ends_with(b"/package.json")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tgz(member: &str) -> Vec<u8> {
        let mut block = vec![0; TAR_BLOCK_BYTES];
        block[..member.len()].copy_from_slice(member.as_bytes());
        block[TAR_MAGIC].copy_from_slice(b"ustar");
        let mut tar = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        tar.write_all(&block).unwrap();
        // More than is looked at, and it does not compress.
        tar.write_all(&(0..40_000u32).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes()).collect::<Vec<_>>())
            .unwrap();
        tar.finish().unwrap()
    }

    fn kind(name: &str, head: &[u8]) -> Option<&'static str> {
        Package::by_name(name.as_bytes()).filter(|package| package.is_one(head)).map(Package::word)
    }

    #[test]
    fn name_and_first_bytes_must_agree() {
        let zip = b"PK\x03\x04\x14\x00";
        let npm = tgz("package/index.js");
        for (name, head, expected) in [
            ("numpy-2.1.0-cp313-cp313-linux_x86_64.whl", &zip[..], Some("wheel")),
            ("NUMPY.WHL", zip, Some("wheel")),
            ("guava.jar", zip, Some("jar")),
            ("serde-1.0.0.crate", b"\x1f\x8b\x08\x00", Some("crate")),
            ("left-pad-1.3.0.tgz", &npm, Some("npm")),
            ("left-pad-1.3.0.tgz", &npm[..HEAD_BYTES], Some("npm")),
            ("node-22.tgz", &tgz("node/package.json"), Some("npm")),
            ("linux-6.6.tgz", &tgz("linux-6.6/README"), None),
            ("linux-6.6.tgz", b"\x1f\x8b\x08", None),
            ("bash.deb", b"!<arch>\ndebian-binary   1342943816", Some("deb")),
            ("libstuff.a", b"!<arch>\ndebian-binary", None),
            ("libstuff.deb", b"!<arch>\nstuff.o", None),
            ("bash.rpm", b"\xed\xab\xee\xdb\x03", Some("rpm")),
            ("bash.rpm", b"", None),
            ("notes.whl", b"not a zip", None),
            ("archive.zip", zip, None),
            (".whl", zip, None),
            ("", zip, None),
        ] {
            assert_eq!(kind(name, head), expected, "{name}");
        }
    }

    #[test]
    fn damaged_gzip_is_no_package() {
        let whole = tgz("package/index.js");
        for length in 0..600 {
            kind("a.tgz", &whole[..length]);
            let mut damaged = whole[..HEAD_BYTES].to_vec();
            damaged[length] ^= 0x55;
            kind("a.tgz", &damaged);
        }
    }
}
