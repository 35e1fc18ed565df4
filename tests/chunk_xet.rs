//! The `xet` profile gives the chunks and file hashes of Hugging Face Xet. The hashes below were printed by the real
//! client: `hf_xet.hash_files` of PyPI `hf_xet` 1.8.0.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use seamstore::chunk::{Profile, cut_points};
use seamstore::internals::format::xet::{XetHash, XetNode, file_hash};

use crate::chunk_data::split_mix;

fn hash_of(bytes: &[u8]) -> String {
    let mut start = 0;
    let mut nodes = Vec::new();
    for end in cut_points(bytes, &Profile::xet()) {
        let chunk = &bytes[start..end as usize];
        nodes.push(XetNode { hash: XetHash::of_chunk(chunk), length: chunk.len() as u64 });
        start = end as usize;
    }
    file_hash(&nodes).to_string()
}

#[test]
fn the_published_cut_points_are_found() {
    let cuts = cut_points(&split_mix(0, 1_000_000), &Profile::xet());
    let published = [
        84493, 134421, 144853, 243318, 271793, 336457, 467529, 494581, 582000, 596735, 616815, 653164, 678202, 724510,
        815591, 827760, 958832, 991092, 1_000_000,
    ];
    assert_eq!(cuts, published);
    let constant = cut_points(&[59; 1_000_000], &Profile::xet());
    assert_eq!(constant, (1..=7).map(|i| i * 131_072).chain([1_000_000]).collect::<Vec<u64>>());
}

#[test]
fn file_hashes_are_the_clients() {
    for (what, bytes, hash) in [
        ("empty", Vec::new(), "0000000000000000000000000000000000000000000000000000000000000000"),
        ("one byte", vec![b'a'], "49a7fffaf5f34109d4a191757f3e541e26437dcd1e0e83153454a503757856be"),
        ("100 bytes", split_mix(7, 100), "7dc17992a1bc95819c8006e00da4cd7ceca5f59d0821c840dfdf0c32535c43e3"),
        ("the minimum", split_mix(3, 8192), "7549309d2fea997f64a8de317a49ebb6967cfee5c3de2943972ff72e87201bdf"),
        ("the minimum + 1", split_mix(3, 8193), "cecb69b040f25b18fb7a444aaf9e0a3b2df98b72142b3dace51c7c67d41f0c59"),
        ("1 MB", split_mix(0, 1_000_000), "3d17b2d7d64a0e011b6717a52d9a16bd2c3f05b743fa8adf52a7d75dafab6d89"),
        ("1 MB of 59", vec![59; 1_000_000], "53f845640fcd1c7440befff65bd93434c83a30c6559a705597d61f2ef64e2f88"),
        ("3 MB of zeros", vec![0; 3_000_000], "f1107de85e83ca5361f5bb666fbbb203926efb6d69a4362e426ca4c9755907d2"),
        ("20 MB", split_mix(1, 20_000_000), "38754f736ed0b4a79b982c170181764acb07671aa5d5a438e90a3774976b7a48"),
    ] {
        assert_eq!(hash_of(&bytes), hash, "{what}");
    }
}
