//! Two ends in one process, images in memory, and a book that watches how it is used.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fastrand::Rng;
use formats::raw::RawImage;
use formats::spgz::SpgzImage;
use image::ranges::RangeSet;
use image::{Error, ErrorKind, Image, ImageExt, ImageMut, MemoryMedium, Result, Task};
use sync::native::{self, Book, Digest, How, NoBook, Report, Shape, Source};
use sync::{Target, Wire};

/// A file in memory, which is what it was until `finish`.
pub(crate) struct MemoryTarget {
    image: Box<dyn ImageMut>,
    /// A device: keeps its size.
    is_device: bool,
    is_dry: bool,
    pub(crate) has_begun: bool,
    pub(crate) is_finished: bool,
}

impl MemoryTarget {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        MemoryTarget {
            image: Box::new(memory(bytes)),
            is_device: false,
            is_dry: false,
            has_begun: false,
            is_finished: false,
        }
    }

    /// In an spgz container, whose blocks are larger than ours.
    pub(crate) fn spgz(bytes: &[u8]) -> Self {
        let medium = MemoryMedium::new("container", 0);
        let image = SpgzImage::create(medium, 128 << 10, bytes.len() as u64).unwrap();
        if !bytes.is_empty() {
            image.write_at(bytes, 0).unwrap();
        }
        MemoryTarget { image: Box::new(image), ..MemoryTarget::of(&[]) }
    }

    pub(crate) fn device(bytes: &[u8]) -> Self {
        MemoryTarget { is_device: true, ..MemoryTarget::of(bytes) }
    }

    pub(crate) fn dry(bytes: &[u8]) -> Self {
        MemoryTarget { is_dry: true, ..MemoryTarget::of(bytes) }
    }

    pub(crate) fn is_now(&mut self, image: RawImage<MemoryMedium>) {
        self.image = Box::new(image);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.image.size() as usize];
        if !bytes.is_empty() {
            self.image.read_at(&mut bytes, 0).unwrap();
        }
        bytes
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        let size_bytes = self.image.size();
        let data = self.image.extents(0..size_bytes).map(Result::unwrap);
        data.filter(|run| run.kind == image::ExtentKind::Data).map(|run| run.len_bytes).sum()
    }
}

impl Target for MemoryTarget {
    fn size_bytes(&self) -> u64 {
        self.image.size()
    }

    fn begin(&mut self, source_bytes: u64) -> Result<()> {
        if self.is_device && source_bytes > self.image.size() {
            return Err(Error::new(ErrorKind::TooSmall, "the device is too small"));
        }
        self.has_begun = true;
        Ok(())
    }

    fn image(&self) -> &dyn ImageMut {
        assert!(self.has_begun, "used before it was begun");
        &*self.image
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        assert!(!self.is_dry, "resized in a dry run");
        match self.is_device {
            true => Ok(()),
            false => self.image.resize(size_bytes),
        }
    }

    fn finish(&mut self) -> Result<()> {
        assert!(!self.is_dry, "finished in a dry run");
        self.is_finished = true;
        self.image.flush()
    }
}

/// An image of these bytes, sparse where whole blocks are zero.
pub(crate) fn memory(bytes: &[u8]) -> RawImage<MemoryMedium> {
    let image = RawImage::open(MemoryMedium::new("memory", bytes.len() as u64)).unwrap();
    for (number, block) in bytes.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            image.write_at(block, number as u64 * 4096).unwrap();
        }
    }
    image
}

/// Who speaks with whom, and how.
pub(crate) struct Ends<'a> {
    pub(crate) scope: Option<&'a RangeSet>,
    pub(crate) expected: Option<Digest>,
    pub(crate) source_book: &'a dyn Book,
    pub(crate) target_book: &'a dyn Book,
    pub(crate) compress: bool,
    pub(crate) source_is_dry: bool,
    pub(crate) target_is_dry: bool,
    pub(crate) threads: usize,
    pub(crate) unchanged: &'a (dyn Fn() -> Result<()> + Sync),
    pub(crate) tasks: (Task, Task),
}

impl Default for Ends<'_> {
    fn default() -> Self {
        Ends {
            scope: None,
            expected: None,
            source_book: &NoBook,
            target_book: &NoBook,
            compress: true,
            source_is_dry: false,
            target_is_dry: false,
            threads: 2,
            unchanged: &|| Ok(()),
            tasks: (Task::silent(), Task::silent()),
        }
    }
}

impl Ends<'_> {
    pub(crate) fn source(&self, image: &dyn Image, wire: Wire<'_>) -> Result<Report> {
        let what = Source {
            image,
            scope: self.scope,
            expected: self.expected,
            book: self.source_book,
            compress: self.compress,
            dry_run: self.source_is_dry,
            threads: self.threads,
            unchanged: self.unchanged,
        };
        native::source(&what, wire, &self.tasks.0)
    }

    pub(crate) fn target(&self, target: &mut dyn Target, wire: Wire<'_>) -> Result<Report> {
        let how = How {
            book: self.target_book,
            compress: true,
            dry_run: self.target_is_dry,
            threads: self.threads,
        };
        native::target(target, &how, wire, &self.tasks.1)
    }

    /// Both ends, on threads of this process.
    pub(crate) fn run_over(
        &self,
        image: &dyn Image,
        target: &mut dyn Target,
        (here, there): (Wire<'_>, Wire<'_>),
    ) -> (Result<Report>, Result<Report>) {
        thread::scope(|scope| {
            let source = scope.spawn(|| self.source(image, here));
            let target = self.target(target, there);
            (source.join().expect("the source panicked"), target)
        })
    }

    pub(crate) fn run(
        &self,
        image: &dyn Image,
        target: &mut dyn Target,
    ) -> (Result<Report>, Result<Report>) {
        self.run_over(image, target, sync::wire::pair(1 << 20))
    }

    /// Both ends, which must agree.
    pub(crate) fn sync(&self, image: &dyn Image, target: &mut dyn Target) -> (Report, Report) {
        let (source, target) = self.run(image, target);
        let (source, target) = (source.unwrap(), target.unwrap());
        let alike = |report: &Report| Report { known_bytes: 0, ..*report };
        assert_eq!(alike(&source), alike(&target), "the ends report different things");
        (source, target)
    }
}

/// Bytes of all sorts: noise, zeroes, repeated, text-like.
pub(crate) fn random_bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let run = rng.usize(1..400_000).min(len - bytes.len());
        match rng.u8(0..5) {
            0 | 1 => bytes.resize(bytes.len() + run, 0),
            2 => bytes.resize(bytes.len() + run, rng.u8(..)),
            3 => bytes.extend((0..run).map(|at| (at / 7) as u8)),
            _ => {
                let mut noise = vec![0; run];
                rng.fill(&mut noise);
                bytes.append(&mut noise);
            }
        }
    }
    bytes
}

/// A size that is on an edge, or near one, or any.
pub(crate) fn random_len(rng: &mut Rng) -> usize {
    let edge = *rng.choice(&[0, 4096, 65_536, 1 << 20, 3 << 20]).unwrap();
    match rng.u8(0..4) {
        0 => edge,
        1 => edge + rng.usize(0..5000),
        2 => edge.saturating_sub(rng.usize(0..5000)),
        _ => rng.usize(0..8 << 20),
    }
}

/// What another image became: parts changed, zeroed, another length.
pub(crate) fn changed(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match rng.u8(0..4) {
        0 => bytes.truncate(rng.usize(0..=bytes.len())),
        1 => {
            let more = random_len(rng) / 3;
            bytes.extend(random_bytes(rng, more));
        }
        _ => {}
    }
    for _ in 0..rng.usize(0..30) {
        if bytes.is_empty() {
            break;
        }
        let start = rng.usize(0..bytes.len());
        let len = *rng.choice(&[1, 100, 4096, 10_000, 70_000, 300_000, 2 << 20]).unwrap();
        let end = bytes.len().min(start + len);
        match rng.u8(0..3) {
            0 => bytes[start..end].fill(0),
            _ => rng.fill(&mut bytes[start..end]),
        }
    }
    bytes
}

/// A book in memory that knows what it was told, and holds the protocol to its contract.
#[derive(Default)]
pub(crate) struct WatchedBook {
    shape: Mutex<Option<Shape>>,
    known: Mutex<BTreeMap<u64, Digest>>,
    pub(crate) forgets: AtomicU64,
    pub(crate) learns: AtomicU64,
    settled: AtomicU64,
    pub(crate) flushes: AtomicU64,
    is_read_only: AtomicBool,
}

impl WatchedBook {
    /// Of a source: nothing is written.
    pub(crate) fn read_only() -> Self {
        let book = WatchedBook::default();
        book.is_read_only.store(true, Ordering::Relaxed);
        book
    }

    pub(crate) fn known(&self) -> usize {
        self.known.lock().unwrap().len()
    }

    pub(crate) fn knows_all(&self) {
        let shape = self.shape.lock().unwrap().expect("it was begun");
        assert_eq!(self.known() as u64, shape.regions());
        assert_eq!(self.settled.load(Ordering::Relaxed), shape.regions());
    }

    /// Makes one digest wrong.
    pub(crate) fn mislead(&self, region: u64) {
        self.known.lock().unwrap().insert(region, [7; 32]);
    }

    /// Each digest is that of what stands there.
    pub(crate) fn is_true_for(&self, bytes: &[u8]) {
        let shape = self.shape.lock().unwrap().expect("it was begun");
        for (&region, digest) in &*self.known.lock().unwrap() {
            let range = shape.region(region);
            let content = &bytes[range.start as usize..range.end as usize];
            assert_eq!(*digest, digest::blake3::hash(content), "region {region}");
        }
    }
}

impl Book for WatchedBook {
    fn begin(&self, shape: &Shape) {
        let mut known = self.shape.lock().unwrap();
        if *known != Some(*shape) {
            self.known.lock().unwrap().clear();
        }
        *known = Some(*shape);
        self.settled.store(0, Ordering::Relaxed);
    }

    fn digest(&self, region: u64) -> Option<Digest> {
        self.known.lock().unwrap().get(&region).copied()
    }

    fn learn(&self, region: u64, digest: Digest) {
        assert!(self.shape.lock().unwrap().is_some(), "learnt before it was begun");
        assert!(region >= self.settled.load(Ordering::Relaxed), "learnt after it was settled");
        self.learns.fetch_add(1, Ordering::Relaxed);
        self.known.lock().unwrap().insert(region, digest);
    }

    fn forget(&self, region: u64) -> Result<()> {
        assert!(!self.is_read_only.load(Ordering::Relaxed), "a source writes");
        let settled = self.settled.load(Ordering::Relaxed);
        let regions = self.shape.lock().unwrap().expect("it was begun").regions();
        // Once all is settled, what is forgotten is what turned out to be wrong.
        assert!(region >= settled || settled == regions, "written after it was settled");
        self.forgets.fetch_add(1, Ordering::Relaxed);
        self.known.lock().unwrap().remove(&region);
        Ok(())
    }

    fn settle(&self, below: u64, flush: &dyn Fn() -> Result<()>) -> Result<()> {
        let before = self.settled.swap(below, Ordering::Relaxed);
        assert!(before <= below, "settled {below} after {before}");
        let known = self.known.lock().unwrap();
        assert_eq!(known.range(..below).count() as u64, below, "settled and not learnt");
        drop(known);
        flush()?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn root(&self) -> Option<Digest> {
        let shape = (*self.shape.lock().unwrap())?;
        let known: Vec<Digest> = self.known.lock().unwrap().values().copied().collect();
        (known.len() as u64 == shape.regions()).then(|| native::root_of(&shape, &known))
    }
}
