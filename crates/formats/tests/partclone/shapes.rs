//! Every shape of the format, written by the second writer: read in any order, checked in any pieces, and judged by
//! partclone.

use formats::partclone::{
    Checksums, Header, PartcloneImage, Stream, StreamCheck, UsedBlocks, Version,
    looks_like_partclone,
};
use formats::raw::RawImage;
use image::{Extent, ExtentKind, Image, ImageExt, MemoryMedium};
use testkit::host::{Needs, require, run, tool};

use super::writer::{Shape, V2, medium, random, write};

fn shapes() -> Vec<Shape> {
    let mut shapes = vec![Shape { version: 1, block_bytes: 1024, blocks: Some(1), reseed: false }];
    for (block_bytes, blocks) in
        [(512, 2048), (512, 1), (1024, 7), (4096, 256), (16384, 64), (65536, 100_000)]
    {
        for reseed in [true, false] {
            shapes.push(Shape { version: 2, block_bytes, blocks: Some(blocks), reseed });
        }
    }
    shapes.push(Shape { blocks: None, ..V2 });
    shapes
}

/// Runs as the bits say, merged.
fn runs(used: &[bool], block_bytes: usize) -> Vec<Extent> {
    let mut runs: Vec<Extent> = Vec::new();
    let block_bytes = block_bytes as u64;
    for (number, &is_used) in used.iter().enumerate() {
        let kind = if is_used { ExtentKind::Data } else { ExtentKind::Unspecified };
        match runs.last_mut() {
            Some(run) if run.kind == kind => run.len_bytes += block_bytes,
            _ => runs.push(Extent {
                offset: number as u64 * block_bytes,
                len_bytes: block_bytes,
                kind,
            }),
        }
    }
    runs
}

#[test]
fn used_blocks_read_as_they_were_and_all_others_are_unspecified() {
    for (seed, shape) in (1..).zip(shapes()) {
        let blocks = (6 << 20) / shape.block_bytes.max(4096);
        let (content, used) = random(seed, blocks, shape.block_bytes);
        let bytes = write(shape, &content, &used);
        assert!(looks_like_partclone(&bytes));
        let image = PartcloneImage::open(medium(&bytes)).unwrap();
        assert_eq!(image.size(), content.len() as u64, "{shape:?}");
        let found: Vec<Extent> =
            image.extents(0..image.size()).map(|extent| extent.unwrap()).collect();
        assert_eq!(found, runs(&used, shape.block_bytes), "{shape:?}");
        let mut expected = content.clone();
        for (block, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
            expected[block * shape.block_bytes..][..shape.block_bytes].fill(0);
        }
        let mut all = vec![1; content.len()];
        image.read_at(&mut all, 0).unwrap();
        assert!(all == expected, "{shape:?}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..60 {
            let at = rng.usize(0..content.len());
            let longest = 1 << rng.u32(0..22);
            let len = rng.usize(0..=longest.min(content.len() - at));
            let mut part = vec![1; len];
            image.read_at(&mut part, at as u64).unwrap();
            assert!(part == expected[at..at + len], "{shape:?}: {len} bytes at {at}");
        }
    }
}

#[test]
fn a_stream_is_right_in_whatever_pieces_it_passes() {
    for (seed, shape) in (1..).zip(shapes()) {
        let (content, used) = random(seed, 300, shape.block_bytes);
        let bytes = write(shape, &content, &used);
        let mut rng = fastrand::Rng::with_seed(seed);
        for longest in [1, 50, 5000, usize::MAX] {
            // One byte at a time takes long, and all that matters is near the front.
            let shown = if longest == 1 { bytes.len().min(20_000) } else { bytes.len() };
            let mut check = StreamCheck::new("stream");
            let mut rest = &bytes[..shown];
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(rng.usize(1..=rest.len().min(longest)));
                check.feed(part).unwrap();
                rest = behind;
            }
            assert_eq!(check.used().unwrap().total(), 300);
            if shown == bytes.len() {
                let checked = check.finish().unwrap();
                assert_eq!(checked.len_bytes, bytes.len() as u64);
                assert_eq!(checked.header.stream_bytes(), bytes.len() as u64);
                let stored = used.iter().filter(|used| **used).count() as u64;
                assert_eq!(checked.header.used_by_bitmap, stored);
            }
        }
    }
}

#[test]
fn partclone_accepts_every_shape_that_is_read_here() {
    let Some(scratch) = require(&Needs::none().tools(&["partclone.chkimg"])) else { return };
    let judge = &|seed: u64, shape: Shape| {
        let (content, used) = random(seed, 300, shape.block_bytes);
        let path = scratch.join(format!("image{seed}"));
        std::fs::write(&path, write(shape, &content, &used)).unwrap();
        let log = scratch.join(format!("log{seed}"));
        run(tool("partclone.chkimg").arg("-s").arg(&path).arg("-L").arg(log));
    };
    // It sleeps most of its time.
    std::thread::scope(|scope| {
        for (seed, shape) in (1..).zip(shapes()) {
            scope.spawn(move || judge(seed, shape));
        }
    });
}

#[test]
fn a_map_of_version_1_may_have_other_numbers_which_mean_unused() {
    let shape = Shape { version: 1, block_bytes: 512, blocks: Some(1), reseed: false };
    let (content, mut used) = random(5, 40, 512);
    (used[0], used[1]) = (true, false);
    let mut bytes = write(shape, &content, &used);
    bytes[4160 + 1] = 0x5a;
    // And the number of used blocks was not always counted rightly.
    bytes[56] ^= 3;
    let image = PartcloneImage::open(medium(&bytes)).unwrap();
    assert!(!image.used().is_used(1));
    assert_eq!(image.header().version, Version::V1);
    let mut check = StreamCheck::new("stream");
    check.feed(&bytes).unwrap();
    let stored = used.iter().filter(|used| **used).count() as u64;
    assert_eq!(check.finish().unwrap().header.used_by_bitmap, stored);
}

#[test]
fn a_stream_is_made_in_parts_as_the_second_writer_makes_it_whole() {
    for (seed, block_bytes) in [(1, 512), (2, 1024), (3, 4096), (4, 65_536), (5, 4 << 20)] {
        let blocks = ((9 << 20) / block_bytes).max(3);
        let (content, used) = random(seed, blocks, block_bytes);
        let per_checksum = ((1 << 20) / block_bytes).max(1) as u32;
        let expected =
            write(Shape { block_bytes, blocks: Some(per_checksum), ..V2 }, &content, &used);
        let (header, len) = Header::decode(&expected).unwrap();
        assert_eq!(header.encode(), expected[..len]);
        let bits = expected[len..len + blocks.div_ceil(8)].to_vec();
        let stale = Header { checksums: Checksums::None, used_by_bitmap: 1, ..header };
        let stream = Stream::new(stale, UsedBlocks::new(bits, blocks as u64));
        assert_eq!(stream.len_bytes(), expected.len() as u64);
        let source = RawImage::open(medium(&content)).unwrap();
        for wish in [0, 1 << 20, 5 << 20, 1 << 40] {
            let mut out = Vec::new();
            let mut end = 0;
            for part in stream.parts(wish) {
                assert_eq!(part.start, end);
                end = part.end;
                stream.fill(&source, part.clone(), &mut out).unwrap();
                assert!(out == expected[part.start as usize..part.end as usize], "{part:?}");
            }
            assert_eq!(end, expected.len() as u64);
        }
    }
}

#[test]
fn a_map_that_is_not_of_the_device_is_refused() {
    let bytes = write(V2, &[7; 512 * 10], &[true; 10]);
    let (header, len) = Header::decode(&bytes).unwrap();
    let stream = Stream::new(header, UsedBlocks::new(bytes[len..len + 2].to_vec(), 10));
    let small = RawImage::open(MemoryMedium::new("device", 512 * 9)).unwrap();
    let part = stream.parts(1)[1].clone();
    let error = stream.fill(&small, part, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("5120"), "{error}");
}
