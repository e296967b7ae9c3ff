//! Many threads against one, holes, and broken sources.

use super::*;
use crate::ChunkSizes;
use crate::chunker::{Rule, cuts};
use image::{Extent, ExtentKind, Medium, MemoryMedium};

/// A disk in memory, with holes where nothing was written.
struct Disk(MemoryMedium);

impl Image for Disk {
    fn size(&self) -> u64 {
        self.0.len().unwrap()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }
}

fn disk(size: u64, writes: &[(u64, Vec<u8>)]) -> Disk {
    let medium = MemoryMedium::new("disk", size);
    for (offset, bytes) in writes {
        medium.write_at(bytes, *offset).unwrap();
    }
    Disk(medium)
}

fn random(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

/// What the parallel way gives, and what the plain one does.
fn check(image: &Disk, cutting: &Cutting, threads: usize) {
    let mut blob = vec![0; image.size() as usize];
    image.read_at(&mut blob, 0).unwrap();
    let mut start = 0;
    let expected: Vec<(ChunkId, u64)> = cuts(cutting, &blob)
        .into_iter()
        .map(|end| {
            let bytes = &blob[start as usize..end as usize];
            start = end;
            (ChunkId::of(Algorithm::Sha512_256, bytes), bytes.len() as u64)
        })
        .collect();
    let mut found = Vec::new();
    let task = Task::silent();
    task.begin(image::Phase::Copy, image.size());
    let write = |run: Run| {
        found.extend(std::iter::repeat_n((run.id, run.len_bytes), run.count as usize));
        Ok(())
    };
    ingest(image, cutting, Algorithm::Sha512_256, threads, &task, &NameOnly, write).unwrap();
    assert!(found == expected, "{} chunks instead of {}", found.len(), expected.len());
    assert_eq!(task.progress().unwrap().done_bytes, image.size());
}

#[test]
fn many_threads_find_the_chunks_that_one_would() {
    let mut rng = fastrand::Rng::with_seed(3);
    for round in 0..12 {
        let size = rng.u64(0..9 << 20);
        let writes: Vec<(u64, Vec<u8>)> = (0..rng.usize(0..12))
            .map(|_| {
                let offset = rng.u64(0..size.max(1));
                let len = rng.u64(0..(size - offset).clamp(1, 2 << 20)) as usize;
                (offset, random(&mut rng, len))
            })
            .collect();
        let disk = disk(size, &writes);
        let sizes = match round % 4 {
            0 => ChunkSizes::default(),
            1 => ChunkSizes::around(4096).unwrap(),
            2 => ChunkSizes::around(700_000).unwrap(),
            _ => ChunkSizes::new(65_536, 65_536, 65_536).unwrap(),
        };
        let cutting = Cutting::new(sizes, Rule::Casync).unwrap();
        for threads in [1, 2, 5] {
            check(&disk, &cutting, threads);
        }
    }
}

#[test]
fn a_divisor_that_cuts_zeroes_is_no_exception() {
    // The hash of zeroes is 0x9e489e48; with this divisor it is a candidate, so that zeroes are cut small.
    let divisor = (2..5000).find(|d| 0x9e48_9e48u32 % d == d - 1).unwrap();
    let sizes =
        (48..20_000).map(|avg| ChunkSizes::new(48, avg.max(48), 40_000).unwrap()).find(|sizes| {
            sizes.divisor() % divisor == 0 && 0x9e48_9e48 % sizes.divisor() == sizes.divisor() - 1
        });
    let Some(sizes) = sizes else { return };
    let cutting = Cutting::new(sizes, Rule::Casync).unwrap();
    let disk = disk(3 << 20, &[(100_000, vec![7; 5000])]);
    check(&disk, &cutting, 3);
}

#[test]
fn an_error_of_the_source_ends_the_work() {
    struct Broken;
    impl Image for Broken {
        fn size(&self) -> u64 {
            64 << 20
        }
        fn read_at(&self, _: &mut [u8], offset: u64) -> Result<()> {
            let kind = image::ErrorKind::Io;
            if offset > 20 << 20 { Err(Error::new(kind, "bad sector")) } else { Ok(()) }
        }
        fn extent_at(&self, offset: u64) -> Result<Extent> {
            let len_bytes = self.size() - offset;
            Ok(Extent { offset, len_bytes, kind: ExtentKind::Data })
        }
    }
    let cutting = Cutting::default();
    let result =
        ingest(&Broken, &cutting, Algorithm::Sha256, 3, &Task::silent(), &NameOnly, |_| Ok(()));
    assert_eq!(result.unwrap_err().to_string(), "bad sector");
}
