//! Where does the chunk that begins here end, found fast? The rule over [`Scanner`], the minimum skipped.
//!
//! The scanner knows hits as end offsets within one slice. The finder speaks of **positions**: offsets in the file at
//! which a chunk may end. It turns one into the other, and keeps apart what the two kinds of [`Warmth`] mean by a hit.
//!
//! **Invariant:** whatever the spans a file is handed over in, the cuts are those of [`rule`](super::rule).

use super::profile::{Profile, Warmth};
use super::rule::Passes;
use super::scan::{HitKind, Masks, Scanner, WINDOW};

/// Some of a file's bytes and where they lie in it.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    bytes: &'a [u8],
    base: u64,
    last: bool,
}

impl<'a> Span<'a> {
    /// `bytes` begin at offset `base`; `last` says that they end where the file ends. A span that is not the last must
    /// be followed by at least one byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8], base: u64, last: bool) -> Self {
        Self { bytes, base, last }
    }

    /// A whole file.
    #[must_use]
    pub const fn whole(bytes: &'a [u8]) -> Self {
        Self::new(bytes, 0, true)
    }

    /// Offset of the first byte in the file.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Offset of the first byte after these.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Whether they end where the file ends.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.last
    }

    /// The bytes from `from` to `to`, offsets in the file; empty where they are not all here.
    #[must_use]
    pub fn slice(&self, from: u64, to: u64) -> &'a [u8] {
        self.index(from).zip(self.index(to)).and_then(|(from, to)| self.bytes.get(from..to)).unwrap_or_default()
    }

    fn index(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset.checked_sub(self.base)?).ok()
    }
}

/// Finds cuts and hits under one profile. Make one and keep it: it looks at the CPU once.
#[derive(Debug, Clone)]
pub struct Finder {
    profile: Profile,
    scanners: Scanners,
}

#[derive(Debug, Clone)]
enum Scanners {
    /// Every strict hit is a loose hit: one scanner sees both.
    Nested(Scanner),
    /// Some fastcdc masks do not nest. `common` has the bits of both, so that its hits are a superset.
    Apart { strict: Scanner, loose: Scanner, common: Scanner },
}

/// Masks of which at least one bit is known to be set.
fn scanner(profile: &Profile, strict: u64, loose: u64) -> Option<Scanner> {
    Masks::new(strict, loose).ok().map(|masks| Scanner::new(masks, profile.table()))
}

impl Finder {
    /// A finder for this profile, with the best kernel of this CPU.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        let (strict, loose) = (profile.strict_mask(), profile.loose_mask());
        let both = |mask| scanner(&profile, mask, mask);
        let scanners = match scanner(&profile, strict, loose) {
            Some(nested) => Scanners::Nested(nested),
            None => match (both(strict), both(loose), both(strict & loose)) {
                (Some(strict), Some(loose), Some(common)) => Scanners::Apart { strict, loose, common },
                _ => unreachable!("the masks of every fastcdc profile share bits"),
            },
        };
        Self { profile, scanners }
    }

    /// The profile this finder follows.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// How far the end offset of a hit's window lies past the position it cuts at.
    const fn lag(&self) -> u64 {
        match self.profile.warmth() {
            Warmth::Full => 0,
            Warmth::Restarting => 1,
        }
    }

    /// The first position, counted from a chunk's begin, at which a hit is a matter of the last [`WINDOW`] bytes alone.
    pub(super) const fn full_from(&self) -> u64 {
        match self.profile.warmth() {
            Warmth::Full => self.profile.sizes().min(),
            Warmth::Restarting => self.profile.sizes().min() + WINDOW as u64 - 1,
        }
    }

    /// The end of the chunk that begins at `start`, if it lies in the span: at least `from` (what is before is known to
    /// be no cut) and less than the span's end, or equal to it where the file ends there. `None` where the span does not
    /// tell: the next one, handed over with its [`WINDOW`] bytes of warm-up, will, from the end of this one on.
    ///
    /// The span holds the [`WINDOW`] bytes before every position that is tested, and the bytes from `start + min` on
    /// where the profile restarts its hash there.
    #[must_use]
    pub fn next_cut(&self, span: &Span<'_>, start: u64, from: u64) -> Option<u64> {
        let sizes = self.profile.sizes();
        let forced = start + sizes.max();
        let to = self.tested_to(start, span.end(), span.last);
        self.first_early(span, start, from, to)
            .or_else(|| self.first_full(span, from.max(start + self.full_from()), start + sizes.normal(), to))
            .or(if forced < span.end() {
                Some(forced)
            } else if span.last {
                Some(span.end())
            } else {
                None
            })
    }

    /// The end of the positions before `end` at which a hit can end the chunk that begins at `start`; `last` says that
    /// the file ends at `end`.
    pub(super) fn tested_to(&self, start: u64, end: u64, last: bool) -> u64 {
        let forced = start + self.profile.sizes().max();
        if forced < end {
            return forced;
        }
        let odd_one_out = last && self.profile.warmth() == Warmth::Restarting;
        end - if odd_one_out { end.saturating_sub(start) % 2 } else { 0 }
    }

    /// The first hit at `from..to` of a window that begins at the chunk's minimum and is not yet full.
    pub(super) fn first_early(&self, span: &Span<'_>, start: u64, from: u64, to: u64) -> Option<u64> {
        let begin = start + self.profile.sizes().min();
        let to = to.min(start + self.full_from());
        if to <= begin.max(from) {
            return None;
        }
        let mut hash = 0u64;
        (begin..).zip(span.slice(begin, to)).find_map(|(at, byte)| {
            hash = self.step(hash, *byte);
            (at >= from && self.passes_at(hash, at - start)).then_some(at)
        })
    }

    fn step(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.profile.table().get(usize::from(byte)).copied().unwrap_or_default())
    }

    /// Whether this hash ends a chunk of this length.
    fn passes_at(&self, hash: u64, length: u64) -> bool {
        let strict = length < self.profile.sizes().normal();
        hash & if strict { self.profile.strict_mask() } else { self.profile.loose_mask() } == 0
    }

    /// The first strict hit before `loose_from`, else the first loose one after, of full windows at `from..to`.
    fn first_full(&self, span: &Span<'_>, from: u64, loose_from: u64, to: u64) -> Option<u64> {
        let end_of = |at: u64| span.index(at + self.lag());
        let (from_end, to_end) = (end_of(from)?, end_of(to)?);
        let loose_end = end_of(loose_from.clamp(from, to.max(from)))?;
        let found = match &self.scanners {
            Scanners::Nested(scanner) => scanner.first_cut(span.bytes, from_end, loose_end, to_end),
            Scanners::Apart { strict, loose, .. } => strict
                .first_strict(span.bytes, from_end, loose_end)
                .or_else(|| loose.first_loose(span.bytes, loose_end, to_end)),
        };
        #[cfg(test)]
        counting::scanned(
            span.base + from_end as u64,
            span.base + found.map_or(to_end.max(from_end), |end| end + 1) as u64,
        );
        found.map(|end| span.base + end as u64 - self.lag())
    }

    /// Calls `on_hit` for every position of `from..to` whose full window passes a mask, ascending.
    ///
    /// The span holds the [`WINDOW`] bytes before `from` (or the file begins there).
    pub(super) fn hits(&self, span: &Span<'_>, from: u64, to: u64, mut on_hit: impl FnMut(u64, Passes)) {
        let end_of = |at: u64| span.index(at + self.lag());
        let (Some(from), Some(to)) = (end_of(from), end_of(to)) else { return };
        #[cfg(test)]
        counting::scanned(span.base + from as u64, span.base + to as u64);
        let position = |end: usize| span.base + end as u64 - self.lag();
        match &self.scanners {
            Scanners::Nested(scanner) => scanner.hits(span.bytes, from, to, |hit| {
                on_hit(position(hit.end), Passes { strict: hit.kind == HitKind::Strict, loose: true });
            }),
            Scanners::Apart { common, .. } => common.hits(span.bytes, from, to, |hit| {
                let window = span.bytes.get(hit.end.saturating_sub(WINDOW)..hit.end).unwrap_or_default();
                let hash = window.iter().fold(0, |hash, byte| self.step(hash, *byte));
                let passes = Passes {
                    strict: hash & self.profile.strict_mask() == 0,
                    loose: hash & self.profile.loose_mask() == 0,
                };
                if passes != Passes::default() {
                    on_hit(position(hit.end), passes);
                }
            }),
        }
    }
}

/// All cut points of a file: ascending, the last is its length; none for an empty file.
#[must_use]
pub fn cut_points(data: &[u8], profile: &Profile) -> Vec<u64> {
    let finder = Finder::new(*profile);
    let span = Span::whole(data);
    let mut cuts = Vec::with_capacity(data.len() / profile.average_bytes() + 1);
    let mut at = 0;
    while at < span.end() {
        // A whole file always tells where a chunk ends.
        at = finder.next_cut(&span, at, at).unwrap_or(span.end());
        cuts.push(at);
    }
    cuts
}

/// Which end offsets were scanned, so that tests can say that none was scanned twice.
#[cfg(test)]
pub(super) mod counting {
    use std::cell::RefCell;
    use std::ops::Range;

    thread_local! {
        static SCANNED: RefCell<Vec<Range<u64>>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn scanned(from: u64, to: u64) {
        SCANNED.with_borrow_mut(|ranges| ranges.push(from..to));
    }

    /// The ranges scanned by this thread since the last call.
    pub(in crate::chunk) fn take() -> Vec<Range<u64>> {
        SCANNED.with_borrow_mut(std::mem::take)
    }
}
