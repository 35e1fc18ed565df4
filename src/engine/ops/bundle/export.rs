//! What goes into a bundle? What the snapshots need that it does not have.
//!
//! gc's marking tells what the snapshots reach, and which pack or recipes file keeps what: those of the bundle
//! before those of the store. What keeps much goes as it is. What keeps little, because other snapshots need the
//! rest or none does, is written anew first, as gc would, into a file without a name. So a bundle of one of many snapshots
//! has little that it does not need; and one that is appended to gets no chunk twice.
//!
//! Order: store.json, packs, recipes files, snapshots. Nothing of it counts before the index is durable
//! ([`crate::storage::bundle`]).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::copy::{check_pack, check_stopped, copy_object};
use super::union::Union;
use crate::catalog::objects::encode_objects;
use crate::engine::ops::gc::assign::{Container, IDS_MAX};
use crate::engine::ops::gc::mark::{DamagedFrames, Marked, Marking, snapshots_in};
use crate::engine::ops::gc::rewrite::{rewrite_packs, rewrite_recipes};
use crate::engine::store::backend::{bundle_backend, open_bundle, places_of};
use crate::engine::store::control::Control;
use crate::engine::store::random_id;
use crate::engine::store::snapshots::Selector;
use crate::engine::{Store, UnreadableSnapshot};
use crate::error::{Error, Result};
use crate::format::bundle::BundleId;
use crate::format::config::StoreConfig;
use crate::format::id::SnapshotId;
use crate::format::name::{ObjectKind, ObjectName};
use crate::format::pending_deletes::PendingDeletes;
use crate::pack::reader::read_directory;
use crate::spelling::quoted;
use crate::storage::bundle::{BundleStorage, BundleWriter, Committed};
use crate::storage::disk::{Disk, SystemDisk};
use crate::storage::{ScratchStorage, Storage};

/// Packs and recipes files of which more than this share is not needed are written anew.
const WASTE_MAX: f64 = 0.2;

/// What to export.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let folder = tempfile::tempdir()?;
/// let (bundle, copy) = (folder.path().join("all.bundle"), folder.path().join("copy"));
/// let report = store.export_bundle(&BundleExport::default().snapshots([Selector::Latest]), &bundle, &control)?;
/// assert_eq!((report.generation, report.new_snapshots), (1, 1));
/// let report = Store::import_bundle(&copy, &bundle, &control)?;
/// assert!(report.made_store && report.damaged.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct BundleExport {
    pub(crate) snapshots: Vec<Selector>,
}

impl BundleExport {
    /// The snapshots; none stands for all.
    #[must_use]
    pub fn snapshots(mut self, snapshots: impl IntoIterator<Item = Selector>) -> Self {
        self.snapshots = snapshots.into_iter().collect();
        self
    }
}

/// What was exported.
///
/// ```
/// # use seamstore::{Control, Store, entry::*, report::*, request::*};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let store = Store::in_memory(Settings::default())?;
/// # let writer = store.writer(WriterOptions::default().threads(1))?;
/// # writer.add_bytes(writer.entry("notes/first.txt", EntryKind::File)?, b"found again".to_vec())?;
/// # let added = writer.finish()?;
/// # let control = Control::default();
/// let folder = tempfile::tempdir()?;
/// let (bundle, copy) = (folder.path().join("all.bundle"), folder.path().join("copy"));
/// let report = store.export_bundle(&BundleExport::default().snapshots([Selector::Latest]), &bundle, &control)?;
/// assert_eq!((report.generation, report.new_snapshots), (1, 1));
/// let report = Store::import_bundle(&copy, &bundle, &control)?;
/// assert!(report.made_store && report.damaged.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BundleExportReport {
    /// How many generations the bundle has now.
    pub generation: u64,
    /// Bytes of the bundle now.
    pub bytes: u64,
    /// Bytes that were written.
    pub added_bytes: u64,
    /// Snapshots that were asked for.
    pub snapshots: u64,
    /// Those among them that the bundle did not have.
    pub new_snapshots: u64,
    /// Packs written, those written anew among them.
    pub packs: u64,
    /// Recipes files written, likewise.
    pub recipes_files: u64,
    /// Packs and recipes files of the store that were written anew, because most of them is not needed.
    pub rewritten: u64,
    /// Bytes of chunks in the packs written that the snapshots do not need.
    pub waste_bytes: u64,
}

/// What is exported, and with what.
#[derive(Clone, Copy)]
struct ExportSource<'s> {
    request: &'s BundleExport,
    /// What the bundle has.
    held: Option<&'s BundleStorage>,
    scratch: &'s ScratchStorage,
    control: &'s Control,
}

/// Frames that an export met and that are damaged, and what was wrong with the first.
#[derive(Debug, Default)]
struct Damage {
    frames: DamagedFrames,
    first: Option<Error>,
}

/// What is to be written, and where it is.
struct Plan<'s> {
    store: &'s dyn Storage,
    scratch: &'s ScratchStorage,
    /// In the order of writing.
    objects: Vec<(bool, ObjectName)>,
    report: BundleExportReport,
}

impl Store {
    /// Writes snapshots, and all they need, into a bundle: a new one, or a further generation of one that is there.
    ///
    /// # Errors
    /// [`Error::NotFound`] if a snapshot is not there; [`Error::Damaged`] if what they need is damaged or lost;
    /// [`Error::Usage`] if the bundle is of another store; [`Error::Locked`] if somebody else appends to it;
    /// [`Error::NotAStore`] if something else has the name; [`Error::Interrupted`]. What was there is there then.
    pub fn export_bundle(&self, request: &BundleExport, file: &Path, control: &Control) -> Result<BundleExportReport> {
        self.export_bundle_on(Arc::new(SystemDisk::PRIVATE), request, file, control)
    }

    /// As [`Store::export_bundle`], on another disk.
    ///
    /// # Errors
    /// As [`Store::export_bundle`].
    pub(crate) fn export_bundle_on(
        &self,
        disk: Arc<dyn Disk>,
        request: &BundleExport,
        file: &Path,
        control: &Control,
    ) -> Result<BundleExportReport> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_there = match disk.file_bytes(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::io("open", file, error)),
            Ok(_) => true,
        };
        if !is_there {
            let begin = || BundleWriter::create(Arc::clone(&disk), file, random_bundle()?);
            return self.export_into(request, None, folder, control, begin);
        }
        // HeldLock for as long as is appended: nobody else does meanwhile.
        let mut held = None;
        let writer = BundleWriter::append(Arc::clone(&disk), file, |file, found| {
            let places = places_of(&file, &found)?;
            held = Some(BundleStorage::new(file, found, places.clone())?);
            Ok(places)
        })?;
        let Some(held) = held else { return Err(Error::NotAStore { path: file.to_owned(), why: String::new() }) };
        self.check_same(&held)?;
        self.export_into(request, Some(&held), folder, control, || Ok(writer))
    }

    /// Writes a new bundle, front to back, to something that `name` is said to be.
    ///
    /// # Errors
    /// As [`Store::export_bundle`]. What was written until then is no bundle.
    pub(crate) fn export_bundle_to(
        &self,
        request: &BundleExport,
        out: &mut dyn Write,
        name: &Path,
        control: &Control,
    ) -> Result<BundleExportReport> {
        // Nothing is written before there is an object to write.
        let writer = BundleWriter::stream(Arc::new(SystemDisk::PRIVATE), out, name, random_bundle()?)?;
        self.export_into(request, None, &std::env::temp_dir(), control, || Ok(writer))
    }

    /// Refuses a bundle of another store: the two do not cut alike, or at least need not.
    fn check_same(&self, bundle: &BundleStorage) -> Result<()> {
        let (backend, caches) = bundle_backend(bundle.clone(), Arc::new(SystemDisk::PRIVATE));
        let other = Self::open_with(backend, caches)?;
        if other.config == self.config {
            return Ok(());
        }
        let described = |config: &StoreConfig| format!("{} ({})", config.id, config.profile);
        Err(Error::Usage(format!(
            "bundle {} is of store {}, not of {}: import it into this one first (`store bundle import`), and export \
             both to a new file",
            quoted(bundle.path()),
            described(&other.config),
            described(&self.config)
        )))
    }

    fn export_into<'w>(
        &self,
        request: &BundleExport,
        held: Option<&BundleStorage>,
        folder: &Path,
        control: &Control,
        begin: impl FnOnce() -> Result<BundleWriter<'w>>,
    ) -> Result<BundleExportReport> {
        // What is not pending deletion stays until this ends. Where no lease can be had, on a disk that cannot be written, there
        // is most likely nobody who deletes; if there is, what vanishes is missed, and named.
        let _session = self.coordination().begin().ok();
        let scratch = ScratchStorage::create(folder).or_else(|_| ScratchStorage::create(&std::env::temp_dir()))?;
        let source = ExportSource { request, held, scratch: &scratch, control };
        let exported = self.export_planned(source, begin);
        exported.map_err(|error| match error {
            Error::Interrupted { .. } if held.is_some() => {
                Error::Interrupted { kept: "the bundle is as it was".to_owned() }
            }
            Error::Interrupted { .. } => Error::Interrupted { kept: "no bundle was made".to_owned() },
            error => error,
        })
    }

    /// Plans and writes. Where a frame turns out to be damaged, it plans anew without it: another pack may have its chunks.
    fn export_planned<'w>(
        &self,
        source: ExportSource<'_>,
        begin: impl FnOnce() -> Result<BundleWriter<'w>>,
    ) -> Result<BundleExportReport> {
        let mut damage = Damage::default();
        let mut plan = self.plan(&mut damage, source)?;
        // A new index and footer take the place of damaged ones, also where nothing else is missing.
        if plan.objects.is_empty()
            && let Some(held) = source.held.filter(|held| held.found().ends_well)
        {
            let (generation, bytes) = (held.found().generation, held.found().end);
            return Ok(BundleExportReport { generation, bytes, ..plan.report });
        }
        let mut writer = begin()?;
        let mut written = BTreeSet::new();
        while let Err(error) = plan.write(&mut writer, &mut written, source.control) {
            damage.note(self.storage(), error, source.control)?;
            plan = self.plan(&mut damage, source)?;
        }
        let index = encode_objects(writer.places())?;
        let Committed { generation, bytes, added_bytes } = writer.commit(&index)?;
        Ok(BundleExportReport { generation, bytes, added_bytes, ..plan.report })
    }

    /// Plans the export. Of all snapshots, those that cannot be read are passed over.
    fn plan<'s>(&'s self, damage: &mut Damage, source: ExportSource<'s>) -> Result<Plan<'s>> {
        let ExportSource { request, control, .. } = source;
        let mut left_out = BTreeSet::new();
        loop {
            let error = match self.plan_without(&left_out, damage, source) {
                Err(error) if request.snapshots.is_empty() => error,
                planned => return planned,
            };
            match self.snapshot_of(&error).filter(|id| !left_out.contains(id)) {
                Some(id) => {
                    control.pass_over(&[UnreadableSnapshot::of(id, error)?]);
                    left_out.insert(id);
                }
                None => return Err(error),
            }
        }
    }

    /// The snapshot whose file an error is about.
    fn snapshot_of(&self, error: &Error) -> Option<SnapshotId> {
        let name = match error {
            Error::Damaged { file, .. } | Error::FormatVersion { file, .. } => ObjectName::from_path(file),
            Error::Io { path, .. } => {
                let mut parts = path.iter().rev();
                let (file, folder) = (parts.next()?.to_str()?, parts.next()?.to_str()?);
                ObjectName::from_path(&format!("{folder}/{file}"))
            }
            _ => None,
        };
        name.and_then(ObjectName::snapshot)
    }

    fn plan_without<'s>(
        &'s self,
        left_out: &BTreeSet<SnapshotId>,
        damage: &mut Damage,
        source: ExportSource<'s>,
    ) -> Result<Plan<'s>> {
        let ExportSource { request, held, scratch, control } = source;
        let pending_deletes = self.pending_deletes()?;
        let store = self.storage();
        let wanted: BTreeSet<SnapshotId> = if request.snapshots.is_empty() {
            self.snapshot_ids()?.into_iter().filter(|id| !left_out.contains(id)).collect()
        } else {
            let id = |selector| {
                let found = self.resolve(Path::new(""), selector)?;
                control.pass_over(&found.passed_over);
                Ok(found.snapshot.id())
            };
            request.snapshots.iter().map(id).collect::<Result<_>>()?
        };
        let names = held.iter().flat_map(|held| held.places()).map(|place| place.name).collect();
        let union = Union { held: names, first: held.map(|held| held as &dyn Storage), second: store };
        let mut without = snapshots_in(&union)?;
        without.retain(|id| !wanted.contains(id));
        let nothing = PendingDeletes::default();
        let first = Some(&union.held);
        let mut plan = loop {
            let marking = Marking {
                storage: &union,
                control,
                without: &without,
                gone: &nothing,
                last: &pending_deletes,
                first,
                damaged: Some(&damage.frames),
                ids_max: IDS_MAX,
            };
            let marked = marking.mark()?;
            if marked.lost_chunks > 0 {
                let what =
                    format!("{} chunks that the snapshots need are in no pack that can be read", marked.lost_chunks);
                return Err(damage.first.take().unwrap_or_else(|| Error::damaged_whole("packs", what)));
            }
            let mut plan = Plan { store, scratch, objects: Vec::new(), report: BundleExportReport::default() };
            match plan.choose(&marking, &marked, self)? {
                Some(error) => damage.note(store, error, control)?,
                None => break plan,
            }
        };
        plan.report.snapshots = wanted.len() as u64;
        let new = wanted.into_iter().map(ObjectName::Snapshot).filter(|name| !union.held.contains(name));
        plan.objects.extend(new.map(|name| (false, name)));
        plan.report.new_snapshots = plan.objects.iter().filter(|(_, name)| name.snapshot().is_some()).count() as u64;
        Ok(plan)
    }
}

impl Damage {
    /// Notes the frame that an error of a pack is about, and all others of the pack that are damaged.
    ///
    /// # Errors
    /// The error, if it is not about a frame, or about one that was noted before.
    fn note(&mut self, storage: &dyn Storage, error: Error, control: &Control) -> Result<()> {
        let Error::Damaged { file, offset: Some(byte), .. } = &error else { return Err(error) };
        let Some(pack) = ObjectName::from_path(file).and_then(ObjectName::pack) else { return Err(error) };
        let Ok(directory) = read_directory(storage, pack) else { return Err(error) };
        if !self.frames.insert(pack, &directory, *byte) {
            return Err(error);
        }
        self.first.get_or_insert(error);
        check_pack(storage, pack, &directory, control, &mut |frame, _| {
            self.frames.insert(pack, &directory, frame.offset);
            Ok(())
        })
    }
}

impl Plan<'_> {
    /// Chooses packs and recipes files, and writes anew what is needed of those that have much besides, and of those with
    /// damaged frames. If a frame turns out to be damaged, says so.
    fn choose(&mut self, marking: &Marking<'_>, marked: &Marked, store: &Store) -> Result<Option<Error>> {
        let held = |name: &ObjectName| marking.first.is_some_and(|first| first.contains(name));
        let needed = |of: &'_ [Container]| -> (Vec<Container>, Vec<Container>) {
            let needed = of.iter().filter(|container| !held(&container.name) && container.retained > 0);
            needed.cloned().partition(|container| {
                let is_damaged = marking.damaged.is_some_and(|damaged| damaged.has(container.name));
                is_damaged || container.waste() as f64 > WASTE_MAX * container.weight as f64
            })
        };
        let (sparse_packs, packs) = needed(&marked.packs);
        let (sparse_recipes, recipes) = needed(&marked.recipes);
        let (frames, none) = (store.settings().frames, BTreeSet::new());
        let new_packs = rewrite_packs(marking, &sparse_packs.iter().collect::<Vec<_>>(), self.scratch, frames, &none)?;
        if let Some((_, error)) = new_packs.left.into_iter().next() {
            return Ok(Some(error));
        }
        let new_recipes = rewrite_recipes(marking, &sparse_recipes.iter().collect::<Vec<_>>(), self.scratch)?;
        if !held(&ObjectName::Config) {
            self.objects.push((false, ObjectName::Config));
        }
        for (kind, containers) in [(ObjectKind::Pack, &packs), (ObjectKind::Recipes, &recipes)] {
            self.objects.extend(containers.iter().map(|container| (false, container.name)));
            let mut anew = self.scratch.list(kind)?;
            anew.sort();
            // What was written anew may be what the bundle has, from another time.
            self.objects.extend(anew.iter().filter(|new| !held(&new.name)).map(|new| (true, new.name)));
        }
        let report = &mut self.report;
        report.packs = packs.len() as u64 + new_packs.written;
        report.recipes_files = recipes.len() as u64 + new_recipes.written;
        report.rewritten = (sparse_packs.len() + sparse_recipes.len()) as u64;
        report.waste_bytes = packs.iter().map(Container::waste).sum();
        Ok(None)
    }

    /// Writes the objects that are not written yet.
    fn write(
        &self,
        writer: &mut BundleWriter<'_>,
        written: &mut BTreeSet<ObjectName>,
        control: &Control,
    ) -> Result<()> {
        for (is_new, name) in &self.objects {
            check_stopped(control)?;
            if written.contains(name) {
                continue;
            }
            let from: &dyn Storage = if *is_new { self.scratch } else { self.store };
            // What is begun cannot be taken back.
            if let Some(pack) = name.pack().filter(|_| !is_new) {
                check_pack(from, pack, &read_directory(from, pack)?, control, &mut |_, error| Err(error))?;
            }
            let bytes = from.size(name)?;
            writer.put(*name, bytes, |take| copy_object(from, *name, bytes, control, take))?;
            written.insert(*name);
            control.count(1, bytes);
        }
        Ok(())
    }
}

fn random_bundle() -> Result<BundleId> {
    let digits = random_id()?;
    let mut id = [0; 16];
    for (byte, pair) in id.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    Ok(BundleId(id))
}

/// Opens a bundle to take things from it.
///
/// # Errors
/// As [`Store::open`]; [`Error::Usage`] for a folder.
pub(super) fn open_source(disk: Arc<dyn Disk>, file: &Path) -> Result<Store> {
    if disk.is_dir(file).is_ok_and(|is_dir| is_dir) {
        return Err(Error::Usage(format!("{} is a directory: a bundle is one file", quoted(file))));
    }
    let (backend, caches) = bundle_backend(open_bundle(&*disk, file)?, disk);
    Store::open_with(backend, caches)
}
