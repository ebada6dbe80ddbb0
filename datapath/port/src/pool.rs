//! The one bounded store of packet buffers: two regions of fixed chunks, free lists, and per-thread caches.
//!
//! What enters: chunk pointers that a [`Packet`](crate::Packet) gives up. What leaves: chunk pointers for new packets, and the small
//! region's address range, which AF_XDP registers as its UMEM. Neighbours: `packet` and `batch` (the only users of the raw calls),
//! `af_xdp` (UMEM and addresses).
//!
//! # How it works, and why
//!
//! Small chunks are 2,048 bytes (the UMEM chunk size; a power of two no larger than a page is what the kernel demands), jumbo chunks
//! hold one GSO frame of 64 KiB with headroom. A region never grows: an empty pool means a counted drop, not memory without bound.
//!
//! Each thread keeps a cache of free pointers per class, so an allocation is a load and a decrement: no atomic operation, no
//! lock. Cache and region exchange *magazines*: an array of free pointers that is written into the first of the chunks it lists (a free
//! chunk's bytes belong to nobody else). One compare-and-swap moves a whole magazine. The region's list of magazines is a stack,
//! so that warm memory is used again first and cold memory stays untouched; the stack's links stand in a side array, because a
//! losing `pop` may read the link of a magazine that another thread has just taken. The head bears a tag against ABA.
//! Memory that was never used is handed out by a cursor, so that starting costs nothing and RSS follows use.
//!
//! Any thread may allocate and free; a packet may be freed by another thread than the one that allocated it. A thread's cache goes
//! back to the region when the thread ends.

use crate::counters::POOL_EXHAUSTED;
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes of a small chunk: the UMEM's chunk size.
pub const SMALL_CHUNK: usize = 2048;
/// Bytes before the data of a fresh packet: room for encapsulation. Equals the kernel's XDP_PACKET_HEADROOM.
pub const HEADROOM: usize = 256;
/// Bytes of a jumbo chunk: 64 KiB of frame, Ethernet and VLAN headers, headroom before and behind.
pub const JUMBO_CHUNK: usize = 66 * 1024;
/// The largest frame that a small chunk takes behind the headroom.
pub const SMALL_FRAME_MAX: usize = SMALL_CHUNK - HEADROOM;
/// The largest frame that any chunk takes behind the headroom.
pub const FRAME_MAX: usize = JUMBO_CHUNK - HEADROOM;

const CACHE_MAX: usize = 128;
const SMALL_MAGAZINE: usize = 64;
const JUMBO_MAGAZINE: usize = 8;
const HUGE_PAGE: usize = 2 << 20;
/// Says "no magazine" in the stack of magazines.
const NONE: u32 = u32::MAX;

/// Which region a chunk belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// [`SMALL_CHUNK`] bytes, part of the UMEM.
    Small = 0,
    /// [`JUMBO_CHUNK`] bytes, for GSO frames and jumbo MTUs; not part of the UMEM.
    Jumbo = 1,
}

impl Class {
    /// Bytes of one chunk.
    #[inline]
    pub const fn chunk(self) -> usize {
        match self {
            Self::Small => SMALL_CHUNK,
            Self::Jumbo => JUMBO_CHUNK,
        }
    }

    const fn magazine(self) -> usize {
        match self {
            Self::Small => SMALL_MAGAZINE,
            Self::Jumbo => JUMBO_MAGAZINE,
        }
    }
}

/// How many chunks the pool has; both bounds are final.
#[derive(Clone, Copy, Debug)]
pub struct PoolConfig {
    /// Small chunks (2 KiB each). All of them are pinned as soon as an AF_XDP port is opened.
    pub small: u32,
    /// Jumbo chunks (66 KiB each).
    pub jumbo: u32,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { small: 65_536, jumbo: 1_024 }
    }
}

/// Why the pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The kernel gave no memory.
    #[error("cannot map {bytes} bytes for packet buffers: {source}")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A class without chunks.
    #[error("the packet buffer pool needs at least {least} {class:?} buffers, got {got}")]
    TooFew {
        /// The class in question.
        class: Class,
        /// What was asked for.
        got: u32,
        /// The least that works.
        least: u32,
    },
    /// `init` came after the first use.
    #[error("the packet buffer pool exists already")]
    Exists,
}

/// What a region's memory is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Reserved huge pages (MAP_HUGETLB).
    HugePages,
    /// Ordinary pages, with a request for transparent huge pages.
    Ordinary,
}

/// Figures of one class, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Chunks in all.
    pub chunks: u32,
    /// Chunks that were never used since the start.
    pub untouched: u32,
    /// Chunks on the shared list (thread caches not counted).
    pub shared_free: u32,
    /// Allocations refused because nothing was free.
    pub exhausted: u64,
}

/// The process-wide pool; get it by [`global`].
#[derive(Debug)]
pub struct Pool {
    small: Region,
    jumbo: Region,
}

static POOL: OnceLock<Pool> = OnceLock::new();

/// Makes the pool with `config`; must come before the first packet.
pub fn init(config: PoolConfig) -> Result<&'static Pool, PoolError> {
    let pool = Pool::new(config)?;
    let mut fresh = false;
    let pool = POOL.get_or_init(|| {
        fresh = true;
        pool
    });
    if fresh { Ok(pool) } else { Err(PoolError::Exists) }
}

/// The pool; made with default sizes if [`init`] was not called.
///
/// # Panics
/// If the kernel refuses the default mapping: a process that has no memory for packets cannot switch any.
pub fn global() -> &'static Pool {
    POOL.get_or_init(|| Pool::new(PoolConfig::default()).expect("128 MiB of address space for packet buffers"))
}

impl Pool {
    fn new(config: PoolConfig) -> Result<Self, PoolError> {
        for (class, got) in [(Class::Small, config.small), (Class::Jumbo, config.jumbo)] {
            let least = u32::try_from(class.magazine()).expect("magazines are small");
            if got < least {
                return Err(PoolError::TooFew { class, got, least });
            }
        }
        Ok(Self { small: Region::new(Class::Small, config.small)?, jumbo: Region::new(Class::Jumbo, config.jumbo)? })
    }

    fn region(&self, class: Class) -> &Region {
        match class {
            Class::Small => &self.small,
            Class::Jumbo => &self.jumbo,
        }
    }

    /// Figures of one class. Readable from any thread; each figure is exact, their sum is only near.
    pub fn stats(&self, class: Class) -> PoolStats {
        let region = self.region(class);
        let used = region.virgin.load(Ordering::Relaxed).min(region.count);
        PoolStats {
            chunks: region.count,
            untouched: region.count - used,
            shared_free: region.shared.load(Ordering::Relaxed),
            exhausted: region.exhausted.load(Ordering::Relaxed),
        }
    }

    /// What the small region is made of.
    pub fn backing(&self) -> Backing {
        self.small.backing
    }

    /// Start and length in bytes of the small region: the UMEM.
    pub fn umem(&self) -> (NonNull<u8>, usize) {
        (self.small.base, self.small.count as usize * SMALL_CHUNK)
    }
}

#[derive(Debug)]
struct Region {
    base: NonNull<u8>,
    class: Class,
    count: u32,
    backing: Backing,
    /// Tag in the upper half, chunk number of the first magazine (or `NONE`) in the lower.
    head: AtomicU64,
    /// For each chunk that heads a magazine: the chunk number of the next magazine.
    next: Box<[AtomicU32]>,
    /// The first chunk that was never handed out.
    virgin: AtomicU32,
    /// Chunks in magazines on the stack.
    shared: AtomicU32,
    exhausted: AtomicU64,
}

// SAFETY: the region hands each chunk to one owner at a time; everything else in it is atomic or constant.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// A list of free chunks, written into the first of them.
#[repr(C)]
struct Magazine {
    len: usize,
    slots: [*mut u8; SMALL_MAGAZINE],
}
const _: () = assert!(size_of::<Magazine>() <= SMALL_CHUNK);
// A cache that has made room takes one magazine more.
const _: () = assert!(CACHE_MAX == 2 * SMALL_MAGAZINE && crate::BATCH_MAX <= SMALL_MAGAZINE);

impl Region {
    fn new(class: Class, count: u32) -> Result<Self, PoolError> {
        let bytes = (count as usize * class.chunk()).next_multiple_of(HUGE_PAGE);
        let (base, backing) = map(bytes).map_err(|source| PoolError::Map { bytes, source })?;
        Ok(Self {
            base,
            class,
            count,
            backing,
            head: AtomicU64::new(u64::from(NONE)),
            next: (0..count).map(|_| AtomicU32::new(NONE)).collect(),
            virgin: AtomicU32::new(0),
            shared: AtomicU32::new(0),
            exhausted: AtomicU64::new(0),
        })
    }

    fn chunk(&self, number: u32) -> *mut u8 {
        debug_assert!(number < self.count);
        self.base.as_ptr().wrapping_add(number as usize * self.class.chunk())
    }

    fn number(&self, chunk: *mut u8) -> u32 {
        let number = (chunk.addr() - self.base.as_ptr().addr()) / self.class.chunk();
        debug_assert!(number < self.count as usize);
        u32::try_from(number).expect("a region has fewer than 2^32 chunks")
    }

    /// Fills `out` with up to one magazine of free chunks; the count, 0 if the region is empty.
    fn refill(&self, out: &mut [*mut u8; CACHE_MAX]) -> usize {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let number = low(head);
            if number == NONE {
                return self.unused(out);
            }
            let next = self.next[number as usize].load(Ordering::Relaxed);
            let new = u64::from(next) | (tag(head) << 32);
            match self.head.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return self.unpack(number, out),
                Err(now) => head = now,
            }
        }
    }

    fn unpack(&self, number: u32, out: &mut [*mut u8; CACHE_MAX]) -> usize {
        let magazine = self.chunk(number).cast::<Magazine>();
        // SAFETY: the pop made this thread the only owner of the chunk, whose bytes `spill` wrote as a Magazine (chunks are aligned).
        let magazine = unsafe { &*magazine };
        let len = magazine.len;
        out[..len].copy_from_slice(&magazine.slots[..len]);
        self.shared.fetch_sub(u32::try_from(len).expect("a magazine is small"), Ordering::Relaxed);
        len
    }

    fn unused(&self, out: &mut [*mut u8; CACHE_MAX]) -> usize {
        let want = u32::try_from(self.class.magazine()).expect("a magazine is small");
        // The check keeps the cursor from creeping to overflow; a lost race moves it at most one magazine per thread too far.
        if self.virgin.load(Ordering::Relaxed) >= self.count {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
            POOL_EXHAUSTED.inc();
            return 0;
        }
        let first = self.virgin.fetch_add(want, Ordering::Relaxed);
        let last = first.saturating_add(want).min(self.count);
        if first >= last {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
            POOL_EXHAUSTED.inc();
            return 0;
        }
        for (slot, number) in out.iter_mut().zip(first..last) {
            *slot = self.chunk(number);
        }
        (last - first) as usize
    }

    /// Takes all of `chunks` (at most one magazine, at least one chunk).
    fn spill(&self, chunks: &[*mut u8]) {
        debug_assert!(!chunks.is_empty() && chunks.len() <= self.class.magazine());
        let first = chunks[0];
        let magazine = first.cast::<Magazine>();
        let mut content = Magazine { len: chunks.len(), slots: [std::ptr::null_mut(); SMALL_MAGAZINE] };
        content.slots[..chunks.len()].copy_from_slice(chunks);
        // SAFETY: the caller owns the free chunk `first`, which is large enough (asserted above) and aligned to at least 2 KiB.
        unsafe { magazine.write(content) };
        self.shared.fetch_add(u32::try_from(chunks.len()).expect("a magazine is small"), Ordering::Relaxed);
        let number = self.number(first);
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.next[number as usize].store(low(head), Ordering::Relaxed);
            let new = u64::from(number) | (tag(head) << 32);
            match self.head.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
const fn low(head: u64) -> u32 {
    head as u32
}

const fn tag(head: u64) -> u64 {
    (head >> 32).wrapping_add(1) & 0xffff_ffff
}

/// Maps `bytes` (a multiple of 2 MiB), from huge pages when the machine has them reserved.
fn map(bytes: usize) -> io::Result<(NonNull<u8>, Backing)> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let huge = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags | libc::MAP_HUGETLB, -1, 0) };
    if huge != libc::MAP_FAILED {
        let base = NonNull::new(huge.cast()).ok_or_else(io::Error::last_os_error)?;
        return Ok((base, Backing::HugePages));
    }
    // One huge page more than needed, so that the start can be aligned to one.
    // SAFETY: as above.
    let plain = unsafe { libc::mmap(std::ptr::null_mut(), bytes + HUGE_PAGE, protection, flags | libc::MAP_NORESERVE, -1, 0) };
    if plain == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = plain.map_addr(|address| address.next_multiple_of(HUGE_PAGE));
    // A refusal only costs speed.
    // SAFETY: the range lies inside the mapping just made.
    let _ = unsafe { libc::madvise(base, bytes, libc::MADV_HUGEPAGE) };
    let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
    Ok((base, Backing::Ordinary))
}

/// Free chunks that this thread keeps, per class.
struct Caches {
    small: Cache,
    jumbo: Cache,
}

struct Cache {
    len: usize,
    slots: [*mut u8; CACHE_MAX],
}

impl Cache {
    const EMPTY: Self = Self { len: 0, slots: [std::ptr::null_mut(); CACHE_MAX] };
}

/// Gives a thread's caches back when it ends. Apart from the caches, because a thread-local that needs dropping is slower to reach.
struct Returner;

impl Drop for Returner {
    fn drop(&mut self) {
        flush_thread();
    }
}

thread_local! {
    static CACHES: UnsafeCell<Caches> = const { UnsafeCell::new(Caches { small: Cache::EMPTY, jumbo: Cache::EMPTY }) };
    static RETURNER: Returner = const { Returner };
}

/// This thread's cache of `class`.
///
/// # Safety
/// The caller has no other reference to it as long as it has this one, and gives it to no other thread.
#[inline(always)]
unsafe fn cache<'c>(class: Class) -> &'c mut Cache {
    // Only the address is taken inside of `with`, so that what is done with it is compiled for the processor that the caller is compiled for.
    let caches = CACHES.with(UnsafeCell::get);
    // SAFETY: the cell belongs to this thread and needs no destructor; the rest is the caller's promise.
    let caches = unsafe { &mut *caches };
    match class {
        Class::Small => &mut caches.small,
        Class::Jumbo => &mut caches.jumbo,
    }
}

/// Runs `f` on this thread's cache of `class`.
#[inline(always)]
fn with_cache<R>(class: Class, f: impl FnOnce(&mut Cache) -> R) -> R {
    // SAFETY: no `f` in this file looks for the cache again.
    f(unsafe { cache(class) })
}

/// A free chunk of `class`, or None (counted) if there is none.
#[inline]
pub(crate) fn alloc(class: Class) -> Option<NonNull<u8>> {
    with_cache(class, |cache| {
        if cache.len == 0 && !refill(cache, class) {
            return None;
        }
        cache.len -= 1;
        NonNull::new(cache.slots[cache.len])
    })
}

/// Calls `f` with up to `n` free chunks, one by one; how many there were.
#[inline]
pub(crate) fn alloc_bulk(class: Class, n: usize, mut f: impl FnMut(NonNull<u8>)) -> usize {
    with_cache(class, |cache| {
        let mut left = n;
        while left > 0 {
            if cache.len == 0 && !refill(cache, class) {
                break;
            }
            let take = left.min(cache.len);
            let from = cache.len - take;
            for slot in &cache.slots[from..cache.len] {
                // The cache holds chunk addresses only, which lie inside a mapping and so are never null.
                f(NonNull::new(*slot).expect("a chunk has an address"));
            }
            cache.len = from;
            left -= take;
        }
        n - left
    })
}

/// What [`alloc_into`] fills places with.
///
/// A trait, whose function can be `inline(always)`, where a closure would do otherwise: a closure that the compiler does not care to inline is compiled
/// for every processor, whatever its caller is compiled for, and what it changes from chunk to chunk goes through memory.
///
/// # Safety
/// `make` reaches no cache of the pool: it allocates and frees nothing, and does not unwind once it holds a packet, which would be freed.
pub(crate) unsafe trait Make<T> {
    /// Makes it of a chunk that is the maker's from now on.
    fn make(&mut self, chunk: NonNull<u8>) -> T;
}

/// Fills `out` from the front with what `maker` makes of free small chunks; how many there were.
#[inline(always)]
pub(crate) fn alloc_into<T>(out: &mut [MaybeUninit<T>], maker: &mut impl Make<T>) -> usize {
    // SAFETY: only allocating and freeing reach a cache, which makers do not (`Make`).
    let cache = unsafe { cache(Class::Small) };
    let mut done = 0;
    while done < out.len() {
        if cache.len == 0 && !refill(cache, Class::Small) {
            break;
        }
        let take = (out.len() - done).min(cache.len);
        let from = cache.len - take;
        for (slot, to) in cache.slots[from..cache.len].iter().zip(&mut out[done..]) {
            // The cache holds chunk addresses only, which lie inside a mapping and so are never null.
            to.write(maker.make(NonNull::new(*slot).expect("a chunk has an address")));
        }
        cache.len = from;
        done += take;
    }
    done
}

/// Takes small chunks back, all at once.
///
/// # Safety
/// Each of `chunks`, of which there are at most `SMALL_MAGAZINE`, is the start of a small chunk that came from this pool, and nobody
/// uses it any more.
#[inline]
pub(crate) unsafe fn free_bulk(chunks: impl ExactSizeIterator<Item = NonNull<u8>>) {
    with_cache(Class::Small, |cache| {
        let n = chunks.len();
        if cache.len + n > capacity(Class::Small) {
            make_room(cache, Class::Small);
        }
        for (to, chunk) in cache.slots[cache.len..][..n].iter_mut().zip(chunks) {
            *to = chunk.as_ptr();
        }
        cache.len += n;
    });
}

/// Takes a chunk back.
///
/// # Safety
/// `chunk` is the start of a chunk of `class` that came from this pool, and nobody uses it any more.
#[inline]
pub(crate) unsafe fn free(class: Class, chunk: NonNull<u8>) {
    with_cache(class, |cache| {
        if cache.len == capacity(class) {
            make_room(cache, class);
        }
        cache.slots[cache.len] = chunk.as_ptr();
        cache.len += 1;
    });
}

#[inline]
const fn capacity(class: Class) -> usize {
    class.magazine() * 2
}

#[cold]
#[inline(never)]
fn refill(cache: &mut Cache, class: Class) -> bool {
    // Fails only while this thread is ending, when the caches were returned already: then a few chunks may stay behind.
    let _ = RETURNER.try_with(|_| ());
    cache.len = global().region(class).refill(&mut cache.slots);
    cache.len > 0
}

#[cold]
#[inline(never)]
fn make_room(cache: &mut Cache, class: Class) {
    let _ = RETURNER.try_with(|_| ());
    let keep = cache.len - class.magazine();
    global().region(class).spill(&cache.slots[keep..cache.len]);
    cache.len = keep;
}

/// Gives this thread's cached free chunks back to the pool, for instance before a long sleep.
pub fn flush_thread() {
    let Some(pool) = POOL.get() else { return };
    for class in [Class::Small, Class::Jumbo] {
        with_cache(class, |cache| {
            for part in cache.slots[..cache.len].chunks(class.magazine()) {
                pool.region(class).spill(part);
            }
            cache.len = 0;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_comes_once_and_comes_back() {
        let region = Region::new(Class::Small, 200).unwrap();
        let mut slots = [std::ptr::null_mut(); CACHE_MAX];
        for _ in 0..3 {
            let mut all = Vec::new();
            loop {
                let n = region.refill(&mut slots);
                if n == 0 {
                    break;
                }
                all.extend_from_slice(&slots[..n]);
            }
            assert_eq!(all.len(), 200);
            let mut sorted = all.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 200);
            for part in all.chunks(37) {
                region.spill(part);
            }
        }
        assert_eq!(region.exhausted.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn threads_exchange_without_loss() {
        let region = Region::new(Class::Small, 1024).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut slots = [std::ptr::null_mut(); CACHE_MAX];
                    for round in 0..20_000usize {
                        let n = region.refill(&mut slots);
                        if n > 0 {
                            let cut = round % n;
                            if cut > 0 {
                                region.spill(&slots[..cut]);
                            }
                            region.spill(&slots[cut..n]);
                        }
                    }
                });
            }
        });
        let mut slots = [std::ptr::null_mut(); CACHE_MAX];
        let mut total = 0;
        loop {
            let n = region.refill(&mut slots);
            if n == 0 {
                break;
            }
            total += n;
        }
        assert_eq!(total, 1024);
    }
}
