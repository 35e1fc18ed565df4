//! Several processes at one index, and whatever may keep one from writing it. Each `Index` stands for a process: nothing is
//! shared between two but the folder.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::testing::disk::{Fault, FaultyDisk, Op};

#[test]
fn an_index_opened_to_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut store = store(3, 100);
    open_added(&path, &store).close();
    let before = names(&path, "");
    // Also where it has so much to add that it writes runs.
    for number in 70..190 {
        store.add(number, (number * 100_000..number * 100_000 + 2_000).map(chunk));
    }
    let scratch = tempfile::tempdir().unwrap();
    let index = Index::open(&IndexOptions { keep: false, scratch: scratch.path().to_owned(), ..kept(&path) });
    assert_eq!(store.reconcile(&index).unwrap().added, 120);
    assert!(index.statistics().runs >= 3);
    store.check(&index).unwrap();
    assert_eq!(index.close(), Kept::No);
    assert_eq!(names(&path, ""), before);
    assert_eq!(names(scratch.path(), ".tmp"), [""; 0]);
    // And one that has nothing to add writes nothing.
    store.packs.retain(|pack, _| (0..3).any(|number| *pack == PackId(bytes(1 << 40 | number))));
    assert_eq!(open_added(&path, &store).close(), Kept::Yes);
    assert_eq!(names(&path, ""), before);
}

#[test]
fn what_several_add_at_once_is_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut store = store(3, 100);
    open_added(&path, &store).close();
    let others: Vec<Index> = (0..4).map(|_| open_added(&path, &store)).collect();
    let reader = Index::open(&IndexOptions { keep: false, ..kept(&path) });
    store.reconcile(&reader).unwrap();
    for (number, index) in (50..).zip(&others) {
        let pack = store.add(number, (number * 100..number * 100 + 150).map(chunk));
        index.add_pack(pack, Arc::clone(&store.packs[&pack])).unwrap();
    }
    assert!(store.find(&others[0], &chunk(5340)).is_none(), "what others add is seen when it is opened the next time");
    for index in others {
        assert_eq!(index.close(), Kept::Yes);
    }
    // All of them merged what was there before; who has it open reads on.
    assert_eq!(store.reconcile(&reader).unwrap().added, 4);
    store.check(&reader).unwrap();
    let index = Index::open(&kept(&path));
    let done = store.reconcile(&index).unwrap();
    assert_eq!((done.added, done.dropped), (0, 0));
    store.check(&index).unwrap();
    // The next process that writes merges them.
    let pack = store.add(60, (9000..9001).map(chunk));
    index.add_pack(pack, Arc::clone(&store.packs[&pack])).unwrap();
    assert_eq!(index.close(), Kept::Yes);
    assert_eq!(names(&path, ".chunks").len(), 1);
    let index = open_added(&path, &store);
    assert_eq!(index.statistics().chunks, 300 + 4 * 150 + 1);
    store.check(&index).unwrap();
}

#[test]
fn the_same_packs_added_twice_at_once_are_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let store = store(3, 100);
    let twins = [open_added(&path, &store), open_added(&path, &store), open_added(&path, &store)];
    for twin in twins {
        assert_eq!(twin.close(), Kept::Yes);
    }
    assert_eq!(names(&path, ".chunks").len(), 3);
    // A reader passes over what is not needed, and one that may write removes it.
    let reader = Index::open(&IndexOptions { keep: false, ..kept(&path) });
    assert_eq!(reader.statistics().runs, 2);
    assert_eq!(names(&path, ".chunks").len(), 3);
    let index = open_added(&path, &store);
    assert_eq!((names(&path, ".chunks").len(), names(&path, ".recipes").len()), (1, 1));
    store.check(&index).unwrap();
    store.check(&reader).unwrap();
}

#[test]
fn files_that_vanish_while_the_index_is_open_cost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut store = store(3, 100);
    open_added(&path, &store).close();
    let index = open_added(&path, &store);
    std::fs::remove_dir_all(&path).unwrap();
    let pack = store.add(50, (5000..5100).map(chunk));
    index.add_pack(pack, Arc::clone(&store.packs[&pack])).unwrap();
    store.check(&index).unwrap();
    assert_eq!(index.close(), Kept::Yes);
    // The file that is written has the new pack and what was merged with it. Of recipes, nothing was written: they are
    // added again.
    let index = Index::open(&kept(&path));
    assert_eq!(store.reconcile(&index).unwrap().added, 3);
    store.check(&index).unwrap();
}

/// The index of a process that is killed, at each of its operations in turn: the next opening is right, and knows all that
/// was kept before.
#[test]
fn a_process_killed_while_it_writes_costs_what_it_was_adding() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(6, 700);
    let base = folder.path().join("base");
    open_added(&base, &store).close();
    for number in 50..52 {
        store.add(number, (number * 1000..number * 1000 + 500).map(chunk));
    }
    let (mut ended, mut kills) = (false, 0);
    while !ended {
        let path = folder.path().join(format!("killed {kills}"));
        std::fs::create_dir(&path).unwrap();
        for name in names(&base, "") {
            std::fs::copy(base.join(&name), path.join(&name)).unwrap();
        }
        let disk = FaultyDisk::killed_after(kills);
        let index = Index::open(&IndexOptions { disk: Arc::new(disk.clone()), ..kept(&path) });
        store.reconcile(&index).unwrap();
        ended = index.close() == Kept::Yes && disk.struck().is_none();
        let index = Index::open(&kept(&path));
        assert_eq!(names(&path, ".tmp"), [""; 0], "{kills}");
        let added = store.reconcile(&index).unwrap().added;
        assert!(added <= 2, "{kills}: {added}");
        store.check(&index).unwrap();
        assert_eq!(index.close(), Kept::Yes);
        let index = Index::open(&kept(&path));
        assert_eq!(store.reconcile(&index).unwrap().added, 0, "{kills}");
        assert_eq!(names(&path, "").len(), 2, "{kills}");
        store.check(&index).unwrap();
        kills += 1;
    }
    assert!(kills > 5, "{kills}");
}

/// What a process is writing stays, however long that takes it, and what a dead one wrote goes.
#[test]
fn a_file_that_is_being_written_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    std::fs::create_dir(&path).unwrap();
    let (alive, dead) = (path.join("00000000000000aa.tmp"), path.join("00000000000000bb.tmp"));
    let file = std::fs::File::create_new(&alive).unwrap();
    file.try_lock().unwrap();
    std::fs::write(&dead, b"begun").unwrap();
    let store = store(2, 100);
    drop(Index::open(&IndexOptions { keep: false, ..kept(&path) }));
    assert!(dead.exists(), "a reader changes nothing");
    assert_eq!(open_added(&path, &store).close(), Kept::Yes);
    assert!(alive.exists() && !dead.exists());
}

#[test]
fn a_store_that_may_not_be_written_is_still_indexed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(3, 100);
    // Something is in the way, or the folder is one of somebody else.
    let in_the_way = folder.path().join("file");
    std::fs::write(&in_the_way, b"no folder").unwrap();
    let linked = folder.path().join("link");
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &linked).unwrap();
    let foreign = folder.path().join("foreign");
    open_added(&foreign, &store).close();
    let before = names(&foreign, "");
    let is_foreign = std::os::unix::fs::chown(&foreign, Some(65534), None).is_ok();
    store.add(50, (5000..5100).map(chunk));
    for path in [&in_the_way, &linked, &foreign] {
        let index = Index::open(&kept(path));
        if path != &foreign || is_foreign {
            assert_eq!(index.statistics().runs, 0, "{path:?}");
        }
        store.reconcile(&index).unwrap();
        store.check(&index).unwrap();
        if path != &foreign || is_foreign {
            assert_eq!(index.close(), Kept::No, "{path:?}");
        }
    }
    assert_eq!(names(elsewhere.path(), ""), [""; 0], "a link leads nowhere");
    if is_foreign {
        assert_eq!(names(&foreign, ""), before);
    } else {
        crate::testing::skip::skipped("only root can give files away");
    }
    // A folder that is this user's, with a file that is not.
    let path = folder.path().join("own");
    open_added(&path, &store).close();
    for name in names(&path, "") {
        if std::os::unix::fs::chown(path.join(&name), Some(65534), None).is_ok() {
            std::fs::set_permissions(path.join(&name), PermissionsExt::from_mode(0o644)).unwrap();
        }
    }
    let index = Index::open(&kept(&path));
    assert_eq!(index.statistics().runs, if is_foreign { 0 } else { 2 });
    store.reconcile(&index).unwrap();
    store.check(&index).unwrap();
}

/// Lets each operation on the folder fail in turn: no error, the index is right, and says whether it was kept.
#[test]
fn whatever_fails_in_the_folder_the_index_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(4, 300);
    let base = folder.path().join("base");
    open_added(&base, &store).close();
    store.add(50, (50_000..50_400).map(chunk));
    let mut struck = 0;
    for errno in [rustix::io::Errno::IO, rustix::io::Errno::NOSPC, rustix::io::Errno::MFILE] {
        let is_no_read = |op| op != Op::Read;
        let moments = (0..12).map(|well| (well, (|op| op == Op::Read) as fn(Op) -> bool));
        for (well, among) in moments.chain((0..40).map(|well| (well, is_no_read as fn(Op) -> bool))) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("index");
            std::fs::create_dir(&path).unwrap();
            for name in names(&base, "") {
                std::fs::copy(base.join(&name), path.join(&name)).unwrap();
            }
            let disk = FaultyDisk::unsynced();
            disk.fault(Fault::Fails(errno), well, among);
            let index = Index::open(&IndexOptions { disk: Arc::new(disk.clone()), ..kept(&path) });
            // A read that fails is reported, and the next attempt does without that file.
            if store.reconcile(&index).is_err() {
                store.reconcile(&index).unwrap();
            }
            if store.check(&index).is_err() {
                store.reconcile(&index).unwrap();
                store.check(&index).unwrap();
            }
            let kept_all = index.close();
            struck += usize::from(disk.struck().is_some());
            assert!(disk.struck().is_some() || kept_all == Kept::Yes);
            let index = Index::open(&kept(&path));
            store.reconcile(&index).unwrap();
            store.check(&index).unwrap();
            assert_eq!(index.close(), Kept::Yes);
        }
    }
    assert!(struck > 3 * 25, "{struck} operations failed");
}

/// One process is suspended at each operation of its index in turn. Meanwhile four add at once: none waits, the next to
/// open the index knows all they added, and when the first goes on, nobody's work is lost either.
#[test]
fn what_several_add_at_once_is_all_kept_while_another_is_suspended_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    let before = store(3, 200);
    open_added(&base, &before).close();
    let Store { packs: packs_before, files, .. } = before;
    let mut suspended = 0;
    for moment in 0.. {
        let path = folder.path().join(format!("{moment}"));
        std::fs::create_dir(&path).unwrap();
        for name in names(&base, "") {
            std::fs::copy(base.join(&name), path.join(&name)).unwrap();
        }
        // A pack is there before an index names it.
        let packs = std::sync::Mutex::new(packs_before.clone());
        let listed = || Store { packs: packs.lock().unwrap().clone(), files: files.clone(), ..Store::default() };
        let add = |number: u64, options: &IndexOptions| {
            let index = Index::open(options);
            listed().reconcile(&index).unwrap();
            let (id, directory) = (PackId(bytes(1 << 40 | number)), directory([chunk(number << 20), chunk(3)]));
            packs.lock().unwrap().insert(id, Arc::clone(&directory));
            index.add_pack(id, directory).unwrap();
            index.close()
        };
        let check = |knows: u64| {
            let (index, store) = (Index::open(&IndexOptions { keep: false, ..kept(&path) }), listed());
            assert!(index.statistics().packs >= knows, "{moment}: {}", index.statistics().packs);
            store.reconcile(&index).unwrap();
            store.check(&index).unwrap();
        };
        let disk = FaultyDisk::unsynced();
        disk.fault(Fault::Suspended, moment, |op| op != Op::Read);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| {
                let kept = add(100, &IndexOptions { disk: Arc::new(disk.clone()), ..kept(&path) });
                is_over.store(true, Ordering::Release);
                kept
            });
            while disk.struck().is_none() && !is_over.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            let (add, path) = (&add, &path);
            let others: Vec<_> = (101..105).map(|number| scope.spawn(move || add(number, &kept(path)))).collect();
            let outcomes: Vec<_> = others.into_iter().map(|thread| thread.join().unwrap()).collect();
            assert_eq!(outcomes, [Kept::Yes; 4], "{moment}");
            check(3 + 4);
            disk.resume();
            assert_eq!(slow.join().unwrap(), Kept::Yes, "{moment}");
        });
        check(3 + 5);
        if disk.struck().is_none() {
            break;
        }
        suspended += 1;
    }
    assert!(suspended >= 15, "{suspended}");
}
