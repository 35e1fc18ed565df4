//! What is a content called where names are SHA-1? The one door to the `sha1` crate. It names; it vouches for nothing.

use sha1::Digest;

/// Hashes a content as it comes.
#[derive(Debug, Clone, Default)]
pub struct Sha1(sha1::Sha1);

impl Sha1 {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The 20 bytes of the hash.
    #[must_use]
    pub fn finish(self) -> [u8; 20] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::frame::hex;

    #[test]
    fn it_is_sha_1() {
        let mut sha1 = Sha1::default();
        sha1.update(b"a");
        sha1.update(b"bc");
        assert_eq!(hex(&sha1.finish()), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
