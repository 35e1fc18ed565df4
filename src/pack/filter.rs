//! How are arrays of numbers laid out so that they compress? The byte shuffle: the first bytes of all elements, then
//! all second bytes, and so on, each such run a *plane*.
//!
//! A float's sign and exponent repeat, its mantissa is noise; side by side they hide each other from a compressor, in
//! planes they do not. Elements are counted from the frame's first byte, whatever their true phase: another phase
//! only names the planes in another order. A chunk of new data after one that was known may change the phase in the
//! middle of a frame; each block of the compressor has its own statistics, so that costs little (frames of the
//! `checkpoints` corpus get no smaller if every chunk is shuffled at its own best phase).
//!
//! Invariant: [`unshuffle`] after [`shuffle`] of the same stride gives the same bytes, for any length.

pub use crate::format::frame::Filter;

/// Replaces `out` by the planes of `raw`, and the bytes that make no whole element after them.
pub fn shuffle(filter: Filter, raw: &[u8], out: &mut Vec<u8>) {
    out.resize(raw.len(), 0);
    match filter {
        Filter::None => out.copy_from_slice(raw),
        Filter::Shuffle2 => {
            let (elements, planes) = parts::<2>(raw, out);
            for (k, plane) in planes.into_iter().enumerate() {
                for (byte, element) in plane.iter_mut().zip(elements) {
                    *byte = (u16::from_le_bytes(*element) >> (8 * k)) as u8;
                }
            }
        }
        Filter::Shuffle4 => {
            let (elements, planes) = parts::<4>(raw, out);
            for (k, plane) in planes.into_iter().enumerate() {
                for (byte, element) in plane.iter_mut().zip(elements) {
                    *byte = (u32::from_le_bytes(*element) >> (8 * k)) as u8;
                }
            }
        }
        Filter::Shuffle8 => {
            let (elements, planes) = parts::<8>(raw, out);
            for (k, plane) in planes.into_iter().enumerate() {
                for (byte, element) in plane.iter_mut().zip(elements) {
                    *byte = (u64::from_le_bytes(*element) >> (8 * k)) as u8;
                }
            }
        }
    }
}

/// Replaces `out` by the bytes that [`shuffle`] made `shuffled` of.
pub fn unshuffle(filter: Filter, shuffled: &[u8], out: &mut Vec<u8>) {
    out.resize(shuffled.len(), 0);
    match filter {
        Filter::None => out.copy_from_slice(shuffled),
        Filter::Shuffle2 => {
            let (elements, [a, b]) = parts_back::<2>(shuffled, out);
            for ((element, a), b) in elements.iter_mut().zip(a).zip(b) {
                *element = [*a, *b];
            }
        }
        Filter::Shuffle4 => {
            let (elements, [a, b, c, d]) = parts_back::<4>(shuffled, out);
            for ((((element, a), b), c), d) in elements.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *element = [*a, *b, *c, *d];
            }
        }
        Filter::Shuffle8 => {
            let (elements, [a, b, c, d, e, f, g, h]) = parts_back::<8>(shuffled, out);
            let front = a.iter().zip(b).zip(c).zip(d);
            let back = e.iter().zip(f).zip(g).zip(h);
            for (element, ((((a, b), c), d), (((e, f), g), h))) in elements.iter_mut().zip(front.zip(back)) {
                *element = [*a, *b, *c, *d, *e, *f, *g, *h];
            }
        }
    }
}

/// Where the planes end in the shuffled bytes of a frame; the last one takes the bytes that make no element.
pub(super) fn plane_ends(filter: Filter, raw_bytes: usize) -> impl Iterator<Item = usize> {
    let stride = filter.stride();
    let plane_bytes = raw_bytes / stride;
    (1..=stride).map(move |k| if k == stride { raw_bytes } else { k * plane_bytes })
}

/// The elements of `raw` and, in `out`, their planes; the odd bytes at the end are copied.
fn parts<'a, const S: usize>(raw: &'a [u8], out: &'a mut [u8]) -> (&'a [[u8; S]], [&'a mut [u8]; S]) {
    let (elements, odd) = raw.as_chunks::<S>();
    let (mut left, odd_out) = out.split_at_mut(elements.len() * S);
    odd_out.copy_from_slice(odd);
    let planes = std::array::from_fn(|_| {
        let (plane, rest) = std::mem::take(&mut left).split_at_mut(elements.len());
        left = rest;
        plane
    });
    (elements, planes)
}

/// The elements of `out` and, in `shuffled`, their planes; the odd bytes at the end are copied.
fn parts_back<'a, const S: usize>(shuffled: &'a [u8], out: &'a mut [u8]) -> (&'a mut [[u8; S]], [&'a [u8]; S]) {
    let (elements, odd_out) = out.as_chunks_mut::<S>();
    let (mut left, odd) = shuffled.split_at(elements.len() * S);
    odd_out.copy_from_slice(odd);
    let planes = std::array::from_fn(|_| {
        let (plane, rest) = left.split_at(elements.len());
        left = rest;
        plane
    });
    (elements, planes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    const SHUFFLES: [Filter; 3] = [Filter::Shuffle2, Filter::Shuffle4, Filter::Shuffle8];

    #[test]
    fn planes_are_first_bytes_then_second_bytes_then_the_odd_ones() {
        let raw: Vec<u8> = (0..19).collect();
        let mut out = Vec::new();
        shuffle(Filter::Shuffle2, &raw, &mut out);
        assert_eq!(out, [0, 2, 4, 6, 8, 10, 12, 14, 16, 1, 3, 5, 7, 9, 11, 13, 15, 17, 18]);
        shuffle(Filter::Shuffle4, &raw, &mut out);
        assert_eq!(out, [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 16, 17, 18]);
        shuffle(Filter::Shuffle8, &raw, &mut out);
        assert_eq!(out, [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15, 16, 17, 18]);
        shuffle(Filter::None, &raw, &mut out);
        assert_eq!(out, raw);
    }

    #[test]
    fn unshuffling_gives_back_every_length() {
        let mut raw = vec![0; 2100];
        blake3::Hasher::new().finalize_xof().fill(&mut raw);
        let (mut shuffled, mut back) = (Vec::new(), Vec::new());
        for filter in SHUFFLES {
            for bytes in (0..300).chain([1023, 1024, 1025, 2099, 2100]) {
                shuffle(filter, &raw[..bytes], &mut shuffled);
                unshuffle(filter, &shuffled, &mut back);
                assert_eq!(back, raw[..bytes], "{filter}, {bytes} bytes");
            }
        }
    }

    #[test]
    fn planes_end_where_bytes_of_one_place_do() {
        let ends = |filter, bytes| plane_ends(filter, bytes).collect::<Vec<_>>();
        assert_eq!(ends(Filter::None, 19), [19]);
        assert_eq!(ends(Filter::Shuffle2, 19), [9, 19]);
        assert_eq!(ends(Filter::Shuffle4, 19), [4, 8, 12, 19]);
        assert_eq!(ends(Filter::Shuffle8, 3), [0, 0, 0, 0, 0, 0, 0, 3]);
    }
}
