//! Where is the last whole generation of a bundle?
//!
//! Its footer is the end of the file. Where it is not, because an export was killed while it appended, or because bytes
//! were changed, records are followed from the front, head to head, without looking into any: a small read for each
//! object, and no chance to take bytes of an object for a footer. The last index on the way that has its hash is the last
//! whole generation, with a footer or without, since all that it lists was synced before it was written, and it before the
//! footer was. So of header, heads, index and footer any one can be damaged, and nothing is lost.

use super::{BundleFile, BundleFlaw};
use crate::error::{Error, Result};
use crate::format::bundle::{
    BUNDLE_HEADER_BYTES, BundleId, FOOTER_BYTES, Footer, HEAD_BYTES, Head, ObjectPlace, Record, aligned, has_magic,
    parse_header,
};
use crate::format::id::ByteHasher;
use crate::format::parse_error::ParseError;

/// What a bundle's own records say.
#[derive(Debug, Clone)]
pub struct BundleContents {
    /// The bundle's random name.
    pub bundle: BundleId,
    /// How many generations there are.
    pub generation: u64,
    /// Where the head of the last index begins, and all objects have ended.
    pub index_at: u64,
    /// Where the last whole generation ends, and the next may begin.
    pub end: u64,
    /// The last index, if it has its hash.
    pub index: Option<Vec<u8>>,
    /// Where the heads say that objects are; only without an index.
    pub places: Vec<ObjectPlace>,
    /// Whether the file ends with the footer of that generation, and the index is whole.
    pub ends_well: bool,
    /// What is not as it should be.
    pub flaws: Vec<BundleFlaw>,
}

/// One thing that lies in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoundRecord {
    Object(ObjectPlace),
    /// Where its bytes are, how many, and what they hash to.
    Index {
        offset: u64,
        bytes: u64,
        hash: [u8; 32],
    },
    Footer(Footer),
}

/// Goes from record to record.
#[derive(Debug)]
pub(super) struct Walk<'f> {
    pub(super) file: &'f BundleFile,
    pub(super) bundle: BundleId,
    /// Where the next one begins, or where there is none.
    pub(super) at: u64,
}

impl Walk<'_> {
    /// What lies here; `None` at the end of the file. The flaw, and no step further, if it is nothing.
    pub(super) fn step(&mut self) -> Result<Option<Result<FoundRecord, ParseError>>> {
        let at = self.at;
        let bytes = self.file.read(at, FOOTER_BYTES)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let flaw = match Head::parse(&bytes, self.bundle, at) {
            Ok(Head { record, bytes }) => {
                let offset = at + HEAD_BYTES;
                let end = offset.checked_add(bytes).and_then(aligned).filter(|end| *end <= self.file.bytes());
                if let Some(end) = end {
                    self.at = end;
                    return Ok(Some(Ok(match record {
                        Record::Object(name) => FoundRecord::Object(ObjectPlace { name, offset, bytes, hash: None }),
                        Record::Index(hash) => FoundRecord::Index { offset, bytes, hash },
                    })));
                }
                let there = self.file.bytes().saturating_sub(offset);
                ParseError::new(0, format!("expected a record of {bytes} bytes, found {there}: the file ends there"))
            }
            Err(flaw) => match Footer::parse(&bytes, at) {
                Ok(footer) if footer.bundle == self.bundle => {
                    self.at = at + FOOTER_BYTES;
                    return Ok(Some(Ok(FoundRecord::Footer(footer))));
                }
                _ => flaw,
            },
        };
        Ok(Some(Err(flaw.moved(at))))
    }
}

impl From<ParseError> for BundleFlaw {
    fn from(flaw: ParseError) -> Self {
        Self { offset: flaw.offset, what: flaw.what }
    }
}

/// The bytes of an index, if they have their hash. Their number is bounded by [`Head`] and [`Footer`].
pub(super) fn read_index(file: &BundleFile, offset: u64, bytes: u64, hash: [u8; 32]) -> Result<Option<Vec<u8>>> {
    let index = file.read(offset, bytes)?;
    let is_right = index.len() as u64 == bytes && ByteHasher::default().update(&index).finish() == hash;
    Ok(is_right.then_some(index))
}

/// Finds the last whole generation.
///
/// # Errors
/// [`Error::NotAStore`] if it is no bundle; [`Error::BundleDamaged`] if no generation of it is whole, or so much is
/// damaged that the places of objects are unknown.
pub fn find(file: &BundleFile) -> Result<BundleContents> {
    let front = file.read(0, BUNDLE_HEADER_BYTES)?;
    let header = parse_header(&front);
    let footer_at = file.bytes().saturating_sub(FOOTER_BYTES);
    let footer = Footer::parse(&file.read(footer_at, FOOTER_BYTES)?, footer_at);
    match (header, footer) {
        (Ok(bundle), Ok(footer)) if footer.bundle == bundle => from_footer(file, footer, Vec::new()),
        (Err(flaw), Ok(footer)) => from_footer(file, footer, vec![flaw.into()]),
        (Ok(bundle), _) => from_front(file, bundle),
        (Err(flaw), Err(_)) if has_magic(&front) => Err(file.damaged(flaw.offset, flaw.what)),
        (Err(_), Err(_)) => {
            let what = if file.bytes() == 0 { "it is empty" } else { "it does not begin as one does" };
            Err(Error::NotAStore {
                path: file.path().to_owned(),
                why: format!("it is not a directory, and no bundle: {what}"),
            })
        }
    }
}

fn from_footer(file: &BundleFile, footer: Footer, mut flaws: Vec<BundleFlaw>) -> Result<BundleContents> {
    let Footer { bundle, generation, index_at, index_bytes, index_hash, .. } = footer;
    let index = read_index(file, index_at + HEAD_BYTES, index_bytes, index_hash)?;
    let mut places = Vec::new();
    if index.is_none() {
        flaws.push(wrong_index(index_at + HEAD_BYTES));
        let mut walk = Walk { file, bundle, at: BUNDLE_HEADER_BYTES };
        while walk.at < index_at {
            match walk.step()? {
                Some(Ok(FoundRecord::Object(place))) => places.push(place),
                Some(Ok(_)) => {}
                Some(Err(flaw)) => {
                    let what = format!("{}; and its index does not have the hash that its footer says", flaw.what);
                    return Err(file.damaged(flaw.offset, what));
                }
                None => break,
            }
        }
    }
    let ends_well = index.is_some();
    Ok(BundleContents { bundle, generation, index_at, end: file.bytes(), index, places, ends_well, flaws })
}

fn from_front(file: &BundleFile, bundle: BundleId) -> Result<BundleContents> {
    let mut walk = Walk { file, bundle, at: BUNDLE_HEADER_BYTES };
    let mut places: Vec<ObjectPlace> = Vec::new();
    let mut flaws = Vec::new();
    let mut whole: Option<BundleContents> = None;
    let mut generation = 0;
    let mut unread = None;
    loop {
        let at = walk.at;
        let step = match walk.step()? {
            None => break,
            Some(Ok(step)) => step,
            Some(Err(flaw)) => {
                flaws.push(BundleFlaw::from(flaw));
                break;
            }
        };
        // An index whose hash is wrong is that of a generation all the same if a footer says so, which came later.
        let generation_here = match step {
            FoundRecord::Object(place) => {
                places.push(place);
                None
            }
            FoundRecord::Index { offset, bytes, hash } => {
                generation += 1;
                unread = Some(at);
                read_index(file, offset, bytes, hash)?.map(|index| (at, Some(index)))
            }
            FoundRecord::Footer(footer) if unread == Some(footer.index_at) => {
                let index = whole.take().filter(|found| found.index_at == footer.index_at);
                Some((footer.index_at, index.and_then(|found| found.index)))
            }
            FoundRecord::Footer(_) => None,
        };
        if let Some((index_at, index)) = generation_here {
            let places = if index.is_some() { Vec::new() } else { places.clone() };
            whole = Some(BundleContents {
                bundle,
                generation,
                index_at,
                end: walk.at,
                index,
                places,
                ends_well: false,
                flaws: Vec::new(),
            });
        }
    }
    let Some(mut whole) = whole else {
        let (offset, what) = flaws.pop().map_or((walk.at, String::new()), |flaw| (flaw.offset, flaw.what + "; "));
        let what = format!("{what}no generation of it is whole: the export that made it did not come to its end");
        return Err(file.damaged(offset, what));
    };
    if whole.index.is_none() {
        whole.flaws.push(wrong_index(whole.index_at + HEAD_BYTES));
    }
    let left = file.bytes() - whole.end;
    let what = match left {
        0 => "expected a footer, found the end of the file".to_owned(),
        left => format!(
            "expected the end of generation {}, found {left} bytes that are no whole generation: an export was \
             interrupted, or they are damaged",
            whole.generation
        ),
    };
    whole.flaws.push(BundleFlaw { offset: whole.end, what });
    whole.flaws.extend(flaws.into_iter().filter(|flaw| flaw.offset != whole.end));
    Ok(whole)
}

fn wrong_index(offset: u64) -> BundleFlaw {
    BundleFlaw { offset, what: "expected an index with the hash that its footer says, found other bytes".to_owned() }
}

/// Whether a footer of the bundle lies anywhere in a stretch of it. For who is about to cut it off: where the way to it is
/// damaged, a whole generation may lie behind bytes that cannot be read.
pub(super) fn has_footer_within(file: &BundleFile, bundle: BundleId, from: u64) -> Result<Option<u64>> {
    const STRIDE: u64 = 1 << 20;
    let mut at = from;
    while at < file.bytes() {
        let bytes = file.read(at, STRIDE + FOOTER_BYTES)?;
        let mut within = 0;
        while within < STRIDE as usize {
            let Some(rest) = bytes.get(within..).filter(|rest| rest.len() >= FOOTER_BYTES as usize) else { break };
            let place = at + within as u64;
            if Footer::parse(rest, place).is_ok_and(|footer| footer.bundle == bundle) {
                return Ok(Some(place));
            }
            within += 64;
        }
        at += STRIDE;
    }
    Ok(None)
}
