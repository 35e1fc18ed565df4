//! What are the bytes of an archive's file? A word of the `archive` column of a snapshot.

/// How a file that holds an archive was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
    /// `.xz`
    Xz,
    /// `.bz2`
    Bzip2,
}

/// What the bytes of an archive's file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArchiveForm {
    /// A tar.
    Tar,
    /// The tar that was in a compressed file; that file itself is not kept.
    TarFrom(Compression),
    /// A compressed file with a tar in it, which is kept beside it.
    TarIn(Compression),
}

/// Every form, and the word that stands for it in a snapshot.
const FORMS: [(&str, ArchiveForm); 9] = [
    ("tar", ArchiveForm::Tar),
    ("tar from gzip", ArchiveForm::TarFrom(Compression::Gzip)),
    ("tar from zstd", ArchiveForm::TarFrom(Compression::Zstd)),
    ("tar from xz", ArchiveForm::TarFrom(Compression::Xz)),
    ("tar from bzip2", ArchiveForm::TarFrom(Compression::Bzip2)),
    ("tar in gzip", ArchiveForm::TarIn(Compression::Gzip)),
    ("tar in zstd", ArchiveForm::TarIn(Compression::Zstd)),
    ("tar in xz", ArchiveForm::TarIn(Compression::Xz)),
    ("tar in bzip2", ArchiveForm::TarIn(Compression::Bzip2)),
];

impl ArchiveForm {
    /// The word that stands for it in a snapshot.
    #[must_use]
    pub fn word(self) -> &'static str {
        FORMS.iter().find(|(_, form)| *form == self).map_or("tar", |(word, _)| word)
    }

    /// The form that a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        FORMS.iter().find(|(known, _)| *known == word).map(|(_, form)| *form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_has_a_word_of_its_own() {
        for (word, form) in FORMS {
            assert_eq!((form.word(), ArchiveForm::of_word(word)), (word, Some(form)));
        }
        assert_eq!(ArchiveForm::of_word("zip"), None);
    }
}
