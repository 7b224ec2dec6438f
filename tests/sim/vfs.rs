//! A disk under SQLite that loses what was not synced, tears what was being
//! written, refuses when it is full, and lies about syncs when told to.
//!
//! One VFS for the process, named [`NAME`]; files are `/DISK/name`, and each disk
//! belongs to the thread that made it. A write is visible at once and durable
//! after the next sync of its file. A power cut keeps, of each file, what was
//! synced and a drawn part of what was not, torn at 512 bytes. Shared memory is
//! on the heap, so that both files are opened exactly as in production.
//!
//! Left out: durability of file creation and deletion, which happen at once.
#![expect(
    unsafe_code,
    reason = "SQLite's VFS is a table of C functions; each says why it is sound"
)]

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    rc::Rc,
    sync::Once,
};

use rusqlite::ffi;

use super::{
    file::{File, REGION_BYTES, SECTOR_BYTES},
    locks::Holder,
    random::Random,
};

/// What the VFS is called.
pub(crate) const NAME: &str = "sim";

/// Of a journal's pages.
const PAGE_BYTES: usize = 512;

/// Disks of this thread, by number.
type Disks = BTreeMap<u64, Rc<RefCell<Disk>>>;

thread_local! {
    static DISKS: RefCell<Disks> = const { RefCell::new(BTreeMap::new()) };
}

/// One board's disk.
/// What a disk holds: files by name.
pub(crate) type Card = BTreeMap<String, Vec<u8>>;

pub(crate) struct Disk {
    files: BTreeMap<String, File>,
    random: Random,
    /// Calls left until the power goes.
    countdown: Option<u64>,
    /// Only those on this file count.
    counted: Option<&'static str>,
    /// The power is off: every call fails.
    pub(crate) is_off: bool,
    /// The power went inside a write or sync.
    pub(crate) went_inside: bool,
    /// It failed a sync since the power came.
    pub(crate) has_failed: bool,
    /// The next sync of this file fails.
    failing_sync: Option<&'static str>,
    quota: Option<usize>,
}

/// Makes disk `number` of this thread anew, empty.
pub(crate) fn make(number: u64, seed: u64) -> Rc<RefCell<Disk>> {
    register();
    let disk = Rc::new(RefCell::new(Disk {
        files: BTreeMap::new(),
        random: Random::new(seed),
        countdown: None,
        counted: None,
        is_off: false,
        went_inside: false,
        has_failed: false,
        failing_sync: None,
        quota: None,
    }));
    DISKS.with(|disks| disks.borrow_mut().insert(number, Rc::clone(&disk)));
    disk
}

/// Sets what SQLite draws: salts of its WAL, `random()`.
pub(crate) fn seed(seed: u64) {
    register();
    let seed = c_int::try_from(seed % 0x7fff_fffe + 1).expect("it has 31 bits");
    let no_connection: *mut ffi::sqlite3 = ptr::null_mut();
    // SAFETY: this control takes a number and a connection, which may be null.
    unsafe { ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PRNG_SEED, seed, no_connection) };
}

fn disk(number: u64) -> Rc<RefCell<Disk>> {
    DISKS.with(|disks| Rc::clone(&disks.borrow()[&number]))
}

impl Disk {
    /// The power goes inside the `calls`-th write or sync from now.
    pub(crate) fn crash_after(&mut self, calls: u64) {
        self.countdown = Some(calls);
        self.counted = None;
    }

    /// The same, of those on one file.
    pub(crate) fn crash_after_on(&mut self, calls: u64, file: &'static str) {
        self.countdown = Some(calls);
        self.counted = Some(file);
    }

    /// The power stays on for now, and syncs are sound.
    pub(crate) fn spare(&mut self) {
        self.countdown = None;
        self.failing_sync = None;
    }

    /// The next sync of a file fails: what it was to make durable is lost for the disk.
    pub(crate) fn fail_sync(&mut self, file: Option<&'static str>) {
        self.failing_sync = file;
    }

    /// No more bytes than now and these.
    pub(crate) fn set_room(&mut self, room: Option<usize>) {
        let used: usize = self.files.values().map(|file| file.live.len()).sum();
        self.quota = room.map(|room| used + room);
    }

    /// Room is limited now.
    pub(crate) const fn is_short(&self) -> bool {
        self.quota.is_some()
    }

    /// The power is off.
    pub(crate) fn cut_power(&mut self) {
        self.is_off = true;
        self.countdown = None;
    }

    /// The power is back: of what was not synced a drawn part is there.
    pub(crate) fn power_on(&mut self) {
        self.is_off = false;
        self.went_inside = false;
        self.has_failed = false;
        let Self { files, random, .. } = self;
        for file in files.values_mut() {
            file.survive(random);
        }
    }

    /// A file's bytes, as a process that starts finds them.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.files.get(name).map(|file| file.live.clone()).unwrap_or_default()
    }

    /// What is on it for good, to be put back later.
    pub(crate) fn card(&self) -> Card {
        let files = self.files.iter();
        files.map(|(name, file)| (name.clone(), file.durable.clone())).collect()
    }

    /// It holds what it held then, and nothing else.
    pub(crate) fn put_back(&mut self, card: Card) {
        let file = |bytes: Vec<u8>| File { live: bytes.clone(), durable: bytes, ..File::default() };
        self.files = card.into_iter().map(|(name, bytes)| (name, file(bytes))).collect();
    }

    /// Flips a bit among the first frames of a WAL; false when it has too few.
    pub(crate) fn damage_wal(&mut self, name: &str) -> bool {
        let Some(file) = self.files.get_mut(name) else { return false };
        let (header, frame) = (32, 24 + PAGE_BYTES);
        let frames = file.durable.len().saturating_sub(header) / frame;
        if frames < 20 {
            return false;
        }
        let most = (frames / 2 * frame) as u64;
        let place = header + usize::try_from(self.random.below(most)).unwrap_or(0);
        file.durable[place] ^= 1 << self.random.below(8);
        file.live.clone_from(&file.durable);
        true
    }

    /// Counts a write or sync; true when the power goes in it.
    fn counts(&mut self, name: &str) -> bool {
        let is_counted = self.counted.is_none_or(|file| file == name);
        match self.countdown.as_mut().filter(|_| is_counted) {
            Some(0) => {
                self.cut_power();
                self.went_inside = true;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn used(&self) -> usize {
        self.files.values().map(|file| file.live.len()).sum()
    }
}

/// SQLite's file object, ours behind it.
#[repr(C)]
struct Handle {
    base: ffi::sqlite3_file,
    open: *mut Open,
}

struct Open {
    disk: Rc<RefCell<Disk>>,
    name: String,
}

fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let name = c"sim";
        let vfs = Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: c_int::try_from(size_of::<Handle>()).expect("small"),
            mxPathname: 128,
            pNext: ptr::null_mut(),
            zName: name.as_ptr(),
            pAppData: ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: None,
            xCurrentTimeInt64: Some(current_time_ms),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        });
        // SAFETY: the table lives for ever and its functions keep SQLite's rules.
        let code = unsafe { ffi::sqlite3_vfs_register(Box::leak(vfs), 0) };
        assert_eq!(code, ffi::SQLITE_OK);
    });
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_lock),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// The disk and the file's name in a path `/DISK/name`.
fn place(path: *const c_char) -> Option<(Rc<RefCell<Disk>>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite hands over a zero-terminated path.
    let path = unsafe { CStr::from_ptr(path) }.to_str().ok()?;
    let (number, name) = path.strip_prefix('/')?.split_once('/')?;
    Some((disk(number.parse().ok()?), name.to_owned()))
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for a Handle, and null or a place for flags.
    unsafe { (*file).pMethods = ptr::null() };
    let Some((disk, name)) = place(path) else { return ffi::SQLITE_CANTOPEN };
    if disk.borrow().is_off {
        return ffi::SQLITE_IOERR;
    }
    disk.borrow_mut().files.entry(name.clone()).or_default();
    let open = Box::into_raw(Box::new(Open { disk, name }));
    // SAFETY: as above.
    unsafe {
        (*file.cast::<Handle>()).open = open;
        (*file).pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    with(file, |disk, name| {
        file_of(disk, name).locks.leave(holder(file));
        ffi::SQLITE_OK
    });
    // SAFETY: the handle was filled by `open`, and SQLite closes it once.
    drop(unsafe { Box::from_raw((*file.cast::<Handle>()).open) });
    ffi::SQLITE_OK
}

/// Open files are told apart by where they are.
fn holder(file: *mut ffi::sqlite3_file) -> Holder {
    file.addr() as Holder
}

/// Works on an open file, unless the power is off.
fn with(file: *mut ffi::sqlite3_file, work: impl FnOnce(&mut Disk, &str) -> c_int) -> c_int {
    // SAFETY: the handle was filled by `open` and is not closed yet.
    let open = unsafe { &*(*file.cast::<Handle>()).open };
    let mut disk = open.disk.borrow_mut();
    if disk.is_off {
        return ffi::SQLITE_IOERR;
    }
    work(&mut disk, &open.name)
}

fn file_of<'a>(disk: &'a mut Disk, name: &str) -> &'a mut File {
    disk.files.entry(name.to_owned()).or_default()
}

fn index(number: i64) -> usize {
    usize::try_from(number).expect("offsets are not negative")
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives room for `count` bytes.
    let buffer =
        unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), index(count.into())) };
    with(file, |disk, name| {
        let live = &file_of(disk, name).live;
        let start = index(offset).min(live.len());
        let there = &live[start..live.len().min(start + buffer.len())];
        buffer[..there.len()].copy_from_slice(there);
        buffer[there.len()..].fill(0);
        if there.len() == buffer.len() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
    })
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives `count` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), index(count.into())) };
    with(file, |disk, name| {
        let offset = index(offset);
        let grows = (offset + bytes.len()).saturating_sub(file_of(disk, name).live.len());
        if disk.quota.is_some_and(|quota| disk.used() + grows > quota) {
            return ffi::SQLITE_FULL;
        }
        file_of(disk, name).write(offset, bytes);
        if disk.counts(name) { ffi::SQLITE_IOERR_WRITE } else { ffi::SQLITE_OK }
    })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    with(file, |disk, name| {
        file_of(disk, name).truncate(index(size));
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    with(file, |disk, name| {
        if disk.counts(name) {
            return ffi::SQLITE_IOERR_FSYNC;
        }
        if disk.failing_sync.take_if(|file| name == *file).is_some() {
            disk.has_failed = true;
            file_of(disk, name).pending.clear();
            return ffi::SQLITE_IOERR_FSYNC;
        }
        file_of(disk, name).sync();
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    size: *mut ffi::sqlite3_int64,
) -> c_int {
    with(file, |disk, name| {
        let length = i64::try_from(file_of(disk, name).live.len()).expect("fits");
        // SAFETY: SQLite gives a place for the size.
        unsafe { *size = length };
        ffi::SQLITE_OK
    })
}

fn granted(is_granted: bool) -> c_int {
    if is_granted { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    with(file, |disk, name| granted(file_of(disk, name).locks.lock(holder(file), level)))
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    with(file, |disk, name| {
        file_of(disk, name).locks.unlock(holder(file), level);
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn check_lock(file: *mut ffi::sqlite3_file, held: *mut c_int) -> c_int {
    with(file, |disk, name| {
        // SAFETY: SQLite gives a place for the answer.
        unsafe { *held = c_int::from(file_of(disk, name).locks.is_reserved()) };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn control(
    _file: *mut ffi::sqlite3_file,
    _operation: c_int,
    _argument: *mut c_void,
) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_file: *mut ffi::sqlite3_file) -> c_int {
    c_int::try_from(SECTOR_BYTES).expect("small")
}

/// As SQLite's own VFS for Unix says, or commits would be padded differently.
unsafe extern "C" fn characteristics(_file: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    extend: c_int,
    place: *mut *mut c_void,
) -> c_int {
    assert_eq!(index(bytes.into()), REGION_BYTES);
    with(file, |disk, name| {
        let regions = &mut file_of(disk, name).regions;
        let region = index(region.into());
        while extend != 0 && regions.len() <= region {
            regions.push(Box::new([0; REGION_BYTES]));
        }
        let found = regions.get_mut(region);
        let found = found.map_or(ptr::null_mut(), |region| region.as_mut_ptr().cast::<c_void>());
        // SAFETY: SQLite gives a place for the answer; a region stays where it is
        // until the power goes, and then nobody may call any more.
        unsafe { *place = found };
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let slots = (index(offset.into()), index(count.into()));
    with(file, |disk, name| granted(file_of(disk, name).locks.slots(holder(file), slots, flags)))
}

unsafe extern "C" fn shm_barrier(_file: *mut ffi::sqlite3_file) {}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    with(file, |disk, name| {
        if delete != 0 {
            file_of(disk, name).regions.clear();
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn delete(
    _vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    _sync: c_int,
) -> c_int {
    let Some((disk, name)) = place(path) else { return ffi::SQLITE_IOERR_DELETE };
    let mut disk = disk.borrow_mut();
    if disk.is_off {
        return ffi::SQLITE_IOERR_DELETE;
    }
    disk.files.remove(&name);
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(
    _vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    _flags: c_int,
    answer: *mut c_int,
) -> c_int {
    let exists = place(path).is_some_and(|(disk, name)| disk.borrow().files.contains_key(&name));
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *answer = c_int::from(exists) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(
    _vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite hands over a zero-terminated path and `room` bytes.
    unsafe {
        let bytes = CStr::from_ptr(path).to_bytes_with_nul();
        if bytes.len() > index(room.into()) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(
    _vfs: *mut ffi::sqlite3_vfs,
    count: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite gives room for `count` bytes.
    unsafe { ptr::write_bytes(out, 7, index(count.into())) };
    count
}

unsafe extern "C" fn sleep(_vfs: *mut ffi::sqlite3_vfs, us: c_int) -> c_int {
    us
}

unsafe extern "C" fn current_time(_vfs: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = 2_460_000.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_ms(
    _vfs: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives a place for the answer.
    unsafe { *out = 212_544_043_200_000 };
    ffi::SQLITE_OK
}
