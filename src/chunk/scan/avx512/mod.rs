//! How do 512-bit vectors find hits? Lanes far apart run the gear recursion side by side; scalar code has the last word.
//!
//! A **tile** is a run of bytes cut into as many equal rows as a vector has lanes. Lane `s` hashes row `s`, so one
//! vector step hashes one byte of every row. In pseudo-code:
//!
//! ```text
//! for each stride of the rows:
//!     columns = transpose(one stride of every row)    a column holds the next few bytes of every row
//!     for each column:
//!         planes = look the column's 64 bytes up      plane p holds byte p of each table value
//!         for value in weave(planes):                 the table value of one byte of every row
//!             hash = 2 * hash + value;  least = min(least, hash)
//!     after each group of bytes: suspects = lanes with least < limit
//! ```
//!
//! *A hit is one comparison*, when a mask is a run of top bits: `hash & mask == 0` is `hash < limit`. So it suffices to
//! keep the least hash of a **group** of bytes; a lane whose least is below its limit has a hit there. Which byte it
//! was, and of which kind, the scalar definition finds from the hash that the lane had before the group.
//!
//! *No warming up.* A row's hash should begin with the window of bytes before the row. Instead every lane begins at
//! zero, and the hashes of its first window are kept; at the end of the tile lane `s - 1` holds exactly what lane `s`
//! should have begun with, `c`, and hashes are linear: the true hash after `k` bytes is the kept one plus `c << k`.
//! That costs three operations a byte, where warming up would cost the whole lookup again.
//!
//! *Looking up* is what bounds the speed. 256 entries are four `vpermb` of 64 for each byte of the value, on the one
//! port that can permute, merged by two bits of the index. Weaving the planes together is therefore left to blends
//! and funnel shifts, which the other port can do too. Departures that were measured on Sapphire Rapids and lost (the
//! bare column loop of [`lane32`], where this one did 7.9 GB/s and `gearhash` 3.1): `vpermi2b` 6.9, weaving by byte
//! shuffles 5.7, weaving by shifts and `vpternlog` 7.4, gathers 5.9, gathers for every other column 7.9.
//!
//! [`tiles`] lays tiles over a range and asks the scalar definition about suspects; [`lane32`] and [`lane64`] scan one
//! tile; [`vector`] is what they share.

mod lane32;
mod lane64;
mod tiles;
mod vector;

pub(super) use lane32::Lanes32;
pub(super) use lane64::Lanes64;
pub(super) use tiles::Tiles;
pub(super) use vector::Vbmi;
