//! `store.json` and pending-delete lists.

use seamstore::chunk::{Profile, cut_points};
use seamstore::internals::format::config::StoreConfig;
use seamstore::internals::format::pending_deletes::{PENDING_DELETES_MAX, PendingDeletes};
use seamstore::{Error, Store};

use super::script::{Script, noise};

/// The target of `store.json`: what is taken is spelt as it would be written, and a store of it can be worked with.
pub fn config(input: &[u8]) {
    let mut script = Script::new(input);
    let bytes = if script.byte() & 1 == 0 {
        let text = |script: &mut Script<'_>, honest: &str| {
            if !script.lies() {
                return honest.to_owned();
            }
            let length = script.below(40);
            let taken: Vec<u8> = (0..length).map(|_| script.byte()).collect();
            String::from_utf8_lossy(&taken).into_owned()
        };
        let id = text(&mut script, &"0f".repeat(16));
        let profile = match script.byte() % 8 {
            0 => "default".to_owned(),
            1 => "xet".to_owned(),
            2 => format!("gear-{}", script.number32(4096)),
            3 => format!("fastcdc-{}-{}", script.number32(16384), script.number32(2)),
            4 => {
                let numbers: Vec<String> = [64, 256, 1024, 1].map(|n| script.number32(n).to_string()).to_vec();
                format!("fastcdc-{}", numbers.join("-"))
            }
            _ => text(&mut script, "gear-65536"),
        };
        let codec = text(&mut script, "zstd");
        let (frame_bytes, level) = (script.number32(262_144), script.number32(3) as i32);
        let made = StoreConfig::new(id, profile, frame_bytes, codec, level);
        let bytes = made.to_bytes();
        assert_eq!(StoreConfig::parse(&bytes).unwrap(), made);
        bytes
    } else {
        script.rest().to_vec()
    };
    match StoreConfig::parse(&bytes) {
        Ok(config) => assert_eq!(config.to_bytes(), bytes),
        Err(Error::Damaged { .. } | Error::FormatVersion { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    if let Ok(opened) = open(&bytes) {
        let profile = opened.settings().profile;
        check_cuts(&profile, &noise(1, 3 * profile.max_bytes().min(1 << 18) + 7));
        check_cuts(&profile, &vec![0; 2 * profile.max_bytes().min(1 << 18) + 1]);
    }
}

/// Opens a store of nothing but a `store.json`.
fn open(config: &[u8]) -> Result<Store, Error> {
    let folder = super::folder();
    std::fs::write(folder.path().join("store.json"), config).unwrap();
    let opened = Store::open(folder.path());
    let known = matches!(opened, Ok(_) | Err(Error::Damaged { .. } | Error::FormatVersion { .. }));
    assert!(known, "{opened:?}");
    opened
}

fn check_cuts(profile: &Profile, data: &[u8]) {
    let mut start = 0;
    for cut in cut_points(data, profile) {
        assert!(cut > start && cut - start <= profile.max_bytes() as u64, "{profile}: {start} to {cut}");
        start = cut;
    }
    assert_eq!(start, data.len() as u64);
}

/// The target of pending-delete lists: what is taken is what would be written.
pub fn pending_deletes(input: &[u8]) {
    let mut script = Script::new(input);
    let bytes = if script.byte() & 1 == 0 {
        let mut made = PendingDeletes::default();
        for n in 0..script.below(6) {
            let seed = noise(n as u64 + u64::from(script.byte()), 32).try_into().unwrap();
            made.packs.insert(seamstore::entry::PackId(seed));
        }
        for n in 0..script.below(6) {
            let seed = noise(n as u64 + u64::from(script.byte()), 32).try_into().unwrap();
            made.recipes.insert(seamstore::entry::RecipesFileId(seed));
        }
        let mut bytes = made.encode();
        assert_eq!(PendingDeletes::parse(&bytes).unwrap(), made);
        script.damage(&mut bytes);
        bytes
    } else {
        script.rest().to_vec()
    };
    if let Ok(read) = PendingDeletes::parse(&bytes) {
        assert_eq!(read.encode(), bytes);
        assert!(read.len() <= PENDING_DELETES_MAX);
    }
}
