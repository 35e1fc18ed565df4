//! Writers, removals and gcs at random, on ways that lose, delay and repeat what is sent; some of them die.

use super::*;
use crate::testing::random::TestRng;

/// A session or a collection that is under way, and the process that it belongs to.
enum Actor {
    Writer(Box<dyn Session>, Process, Vec<u8>),
    Collector(Box<dyn Collection>, Process),
}

/// One step of an actor; `false` if it is at its end.
fn step(actor: &mut Actor, random: &mut TestRng, next: &mut u8, committed: &mut BTreeSet<u8>) -> Result<bool> {
    match actor {
        Actor::Writer(session, _, packs) => match random.index(4) {
            // New, also under a name that was there before.
            0 => {
                let n = random.index(12) as u8;
                if !session.pending().packs.contains(&PackId([n; 32])) {
                    session.storage().put_if_absent(&pack(n), &[n; 100])?;
                    packs.push(n);
                }
                Ok(true)
            }
            // Found.
            1 => {
                let listed = session.storage().list(ObjectKind::Pack)?;
                let usable = |name: &ObjectName| !session.pending().contains(*name);
                let found = listed.iter().map(|listed| listed.name).filter(usable).filter_map(ObjectName::pack);
                packs.extend(found.map(|id| id.0[0]).take(2));
                Ok(true)
            }
            2 => Ok(true),
            _ => {
                *next += 1;
                write_snapshot(&**session, *next, packs)?;
                session.commit(&[SnapshotId([*next; 32])])?;
                committed.insert(*next);
                Ok(false)
            }
        },
        Actor::Collector(collection, _) => {
            if collection.pending().is_none() {
                let all = unneeded_of(collection.storage(), &everything(collection.storage())?)?;
                collection.announce(&all, true)?;
                return Ok(collection.pending().is_some());
            }
            if collection.waits_for()?.is_empty() {
                let delete = unneeded(&**collection)?;
                collection.carry_out(&delete)?;
                return Ok(random.index(2) == 0);
            }
            Ok(true)
        }
    }
}

#[test]
fn whatever_is_lost_late_or_repeated_no_visible_snapshot_loses_a_pack() {
    let (mut met, mut snapshots, mut collections, mut revoked) = (std::collections::BTreeMap::new(), 0, 0, 0);
    for seed in 0..40 {
        let mut random = TestRng(seed << 20);
        let bucket = MemoryBucket::new();
        let mut actors: Vec<Actor> = Vec::new();
        let mut ways: Vec<FaultyBucket> = Vec::new();
        let (mut next, mut committed, mut going) = (0, BTreeSet::new(), BTreeSet::new());
        for turn in 0..60 {
            let case = format!("seed {seed}, turn {turn}");
            if actors.len() < 4 {
                // Some are patient with others, some are not.
                let way = FaultyBucket::seeded(&bucket, seed << 32 | turn, [0, 60, 150][random.index(3)]);
                ways.push(way.clone());
                let options = if random.index(3) == 0 { IMPATIENT } else { BucketOptions::default() };
                let process = Process::on(way, options);
                match random.index(5) {
                    0 | 1 => actors.extend(
                        process.coordination.begin().ok().map(|session| Actor::Writer(session, process, Vec::new())),
                    ),
                    2 | 3 => actors.extend(
                        process.coordination.collect().ok().map(|collection| Actor::Collector(collection, process)),
                    ),
                    _ => {
                        if let Some(n) = process.snapshots_if_any().get(random.index(3)) {
                            going.insert(*n);
                            if process.coordination.remove(&[SnapshotId([*n; 32])]).is_ok() {
                                assert!(!Process::new(&bucket).snapshots().contains(n), "{case}: {n} was removed");
                            }
                        }
                    }
                }
            }
            if actors.is_empty() {
                continue;
            }
            let place = random.index(actors.len());
            if random.index(20) == 0 {
                // It dies, and what it sent may still arrive.
                match &actors[place] {
                    Actor::Writer(_, process, _) | Actor::Collector(_, process) => process.way.kill(),
                }
                actors.swap_remove(place);
            } else {
                match step(&mut actors[place], &mut random, &mut next, &mut committed) {
                    Ok(true) => {}
                    Ok(false) => {
                        collections += usize::from(matches!(actors[place], Actor::Collector(..)));
                        actors.swap_remove(place);
                    }
                    Err(error) => {
                        revoked += usize::from(matches!(error, Error::Revoked { .. }));
                        actors.swap_remove(place);
                    }
                }
            }
            if random.index(6) == 0 {
                ways[random.index(ways.len())].deliver();
            }
            assert_whole(&bucket, &case);
        }
        ways.iter().for_each(FaultyBucket::deliver);
        let reader = Process::new(&bucket);
        let found: BTreeSet<u8> = reader.snapshots().into_iter().collect();
        let due: BTreeSet<u8> = committed.difference(&going).copied().collect();
        assert!(due.is_subset(&found), "seed {seed}: committed {due:?}, found {found:?}");
        drop(actors);
        for _ in 0..3 {
            reader.collect().unwrap();
        }
        assert_whole(&bucket, &format!("seed {seed}, at the end"));
        assert_eq!(reader.snapshots().into_iter().collect::<BTreeSet<u8>>(), found, "seed {seed}");
        holes::assert_no_gap(&bucket);
        // Nothing is left that no snapshot needs.
        let needed: BTreeSet<u8> = found
            .iter()
            .flat_map(|n| bytes_of(&reader.storage, &ObjectName::Snapshot(SnapshotId([*n; 32]))).unwrap())
            .collect();
        assert_eq!(reader.packs().into_iter().collect::<BTreeSet<u8>>(), needed, "seed {seed}");
        assert_eq!(object_keys(&bucket).len(), needed.len() + found.len(), "seed {seed}");
        snapshots += found.len();
        for way in ways {
            way.met().into_iter().for_each(|(fault, times)| *met.entry(fault).or_default() += times);
        }
    }
    let all: Vec<usize> = met.values().copied().collect();
    assert!(met.len() == 6 && all.iter().all(|times| *times > 30), "{met:?}");
    assert!(snapshots > 80 && collections > 80 && revoked > 5, "{snapshots}, {collections}, {revoked}");
}

impl Process {
    fn snapshots_if_any(&self) -> Vec<u8> {
        let listed = self.storage.list(ObjectKind::Snapshot).unwrap_or_default();
        listed.into_iter().filter_map(|listed| listed.name.snapshot()).map(|id| id.0[0]).collect()
    }
}
