//! Images of partclone itself, of every filesystem that can be made here: ours are the same bytes, and what is read of
//! them is what stands on the device.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use formats::partclone::{Checksums, Header, PartcloneImage, Stream, StreamCheck};
use formats::raw::RawImage;
use image::{ExtentKind, Image, ImageExt};
use sys::{Access, FileMedium};
use testkit::host::{LoopDevice, LoopOptions, Needs, TempDir, require, run, tool};

use super::writer::medium_of_file;

/// A filesystem on a device whose size is no multiple of anything: the command that makes it, partclone's variant, the
/// size.
struct Subject {
    mkfs: &'static [&'static str],
    variant: &'static str,
    size_bytes: u64,
}

const EXT4_SMALL: Subject = Subject {
    mkfs: &["mkfs.ext4", "-q", "-F", "-b", "1024"],
    variant: "ext4",
    size_bytes: (24 << 20) + 512,
};

const SUBJECTS: [Subject; 6] = [
    EXT4_SMALL,
    Subject {
        mkfs: &["mkfs.ext4", "-q", "-F", "-b", "4096"],
        variant: "ext4",
        size_bytes: (40 << 20) + 1536,
    },
    Subject { mkfs: &["mkfs.xfs", "-q", "-f"], variant: "xfs", size_bytes: (300 << 20) + 2560 },
    Subject { mkfs: &["mkfs.btrfs", "-q", "-f"], variant: "btrfs", size_bytes: (130 << 20) + 1536 },
    Subject { mkfs: &["mkfs.vfat"], variant: "vfat", size_bytes: (40 << 20) + 512 },
    Subject {
        mkfs: &["mkfs.ntfs", "-q", "-F", "-Q"],
        variant: "ntfs",
        size_bytes: (40 << 20) + 1536,
    },
];

impl Subject {
    fn needs(&self) -> Needs {
        let tools = [self.mkfs[0], self.program()];
        Needs::root().tools(&tools)
    }

    fn program(&self) -> &'static str {
        match self.variant {
            "ext4" => "partclone.ext4",
            "xfs" => "partclone.xfs",
            "btrfs" => "partclone.btrfs",
            "vfat" => "partclone.vfat",
            _ => "partclone.ntfs",
        }
    }

    /// Makes it in a file that begins with noise, so that nobody takes what is free for zeroes.
    fn make(&self, scratch: &TempDir) -> std::path::PathBuf {
        let path = scratch.join("disk.img");
        let mut noise = vec![0; 20 << 20];
        fastrand::Rng::with_seed(9).fill(&mut noise);
        fs::write(&path, noise).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(self.size_bytes).unwrap();
        run(tool(self.mkfs[0]).args(&self.mkfs[1..]).arg(&path));
        path
    }

    /// What partclone makes of it.
    fn image(&self, scratch: &TempDir, disk: &Path, options: &[&str]) -> std::path::PathBuf {
        let device = LoopDevice::attach(disk, &LoopOptions::default());
        let path = scratch.join("image.pcl");
        let mut command = tool(self.program());
        command.args(["-c", "-s"]).arg(device.path()).args(options);
        command.arg("-L").arg(scratch.join("log"));
        command.stdout(File::create(&path).unwrap());
        run(&mut command);
        path
    }
}

/// Reads every used byte of `image`, and says how many there are.
fn assert_is_of(image: &dyn Image, disk: &dyn Image) -> u64 {
    let mut used_bytes = 0;
    for extent in image.extents(0..image.size()) {
        let extent = extent.unwrap();
        if extent.kind == ExtentKind::Unspecified {
            continue;
        }
        used_bytes += extent.len_bytes;
        let mut at = extent.offset;
        while at < extent.end() {
            let len = (extent.end() - at).min(700_001) as usize;
            let (mut found, mut expected) = (vec![1; len], vec![2; len]);
            image.read_at(&mut found, at).unwrap();
            disk.read_at(&mut expected, at).unwrap();
            assert!(found == expected, "it differs within {len} bytes at {at}");
            at += len as u64;
        }
    }
    used_bytes
}

#[test]
fn our_stream_is_partclones_byte_for_byte_on_each_filesystem() {
    let ready = SUBJECTS.iter().filter_map(|subject| Some((subject, require(&subject.needs())?)));
    let ready: Vec<(&Subject, TempDir)> = ready.collect();
    // Partclone sleeps most of its time.
    std::thread::scope(|scope| {
        for (subject, scratch) in &ready {
            scope.spawn(move || check_stream(subject, scratch));
        }
    });
}

fn check_stream(subject: &Subject, scratch: &TempDir) {
    let disk_path = subject.make(scratch);
    let path = subject.image(scratch, &disk_path, &[]);
    let theirs = fs::read(&path).unwrap();
    let disk = RawImage::open(FileMedium::open(&disk_path, Access::Read).unwrap()).unwrap();
    let image = PartcloneImage::open(medium_of_file(&path)).unwrap();
    let header = image.header().clone();
    assert!(header.device_bytes <= subject.size_bytes, "{header:?}");
    let used_bytes = assert_is_of(&image, &disk);
    assert_eq!(used_bytes, header.used_by_bitmap * u64::from(header.block_bytes));
    let mut check = StreamCheck::new("stream");
    theirs.chunks(100_003).for_each(|part| check.feed(part).unwrap());
    assert_eq!(check.finish().unwrap().header, header);
    let stream = Stream::new(header, image.used().clone());
    let (mut ours, mut out): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    for part in stream.parts(3 << 20) {
        stream.fill(&disk, part, &mut out).unwrap();
        ours.extend(&out);
    }
    assert!(ours == theirs, "{}: it is another stream", subject.variant);
}

#[test]
fn images_made_with_other_options_are_read_and_checked() {
    let Some(scratch) = require(&EXT4_SMALL.needs()) else { return };
    let disk_path = EXT4_SMALL.make(&scratch);
    let disk = RawImage::open(FileMedium::open(&disk_path, Access::Read).unwrap()).unwrap();
    let check = &|number: usize, options: &[&str], expected: Checksums| {
        let scratch = TempDir::below(scratch.path(), &format!("options{number}"));
        let path = EXT4_SMALL.image(&scratch, &disk_path, options);
        let bytes = fs::read(&path).unwrap();
        let (header, len) = Header::decode(&bytes).unwrap();
        assert_eq!(header.checksums, expected);
        assert_eq!(header.encode(), bytes[..len]);
        let image = PartcloneImage::open(medium_of_file(&path)).unwrap();
        assert!(assert_is_of(&image, &disk) > 1 << 20);
        let mut check = StreamCheck::new("stream");
        check.feed(&bytes).unwrap();
        check.finish().unwrap();
    };
    let cases = [
        (&["-a0"][..], Checksums::None),
        (&["-k", "7"], Checksums::Crc32 { blocks: 7, reseed: true }),
        (&["-k", "7", "-K"], Checksums::Crc32 { blocks: 7, reseed: false }),
        (&["-K"], Checksums::Crc32 { blocks: 1024, reseed: false }),
    ];
    std::thread::scope(|scope| {
        for (number, (options, expected)) in cases.into_iter().enumerate() {
            scope.spawn(move || check(number, options, expected));
        }
    });
}
