//! The map of used blocks: against partclone's own stream, on what it refuses, and under the layer.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use filesystems::partclone::{Partclone, Variant};
use filesystems::{Used, UsedOnly, used_blocks};
use formats::partclone::{Header, Stream, UsedBlocks};
use formats::raw::RawImage;
use image::{ErrorKind, ExtentKind, Image, ImageExt, Medium, MemoryMedium, Task};
use sys::{Access, FileMedium};
use testkit::contract::{ImageRules, check_image};
use testkit::host::{self, Filesystem, LoopDevice, LoopOptions, Needs, TempDir};

fn variant(name: &str) -> Variant {
    Variant::by_name(name).unwrap()
}

/// A filesystem in a file of `mib` MiB, made by a line of the shell in which `$0` is the file.
fn made(folder: &TempDir, mib: u64, line: &str) -> PathBuf {
    let path = folder.join("image");
    let _ = fs::remove_file(&path);
    File::create(&path).unwrap().set_len(mib << 20).unwrap();
    host::run(host::tool("sh").args(["-ec", line]).arg(&path));
    path
}

fn ask(name: &str, path: &Path) -> Used {
    let partclone = Partclone::find().expect("the test needs partclone");
    used_blocks(&partclone, variant(name), path, &Task::silent()).unwrap()
}

fn known(name: &str, path: &Path) -> (Header, UsedBlocks) {
    match ask(name, path) {
        Used::Known { header, used } => (header, used),
        Used::Unknown(reason) => panic!("{name}: {reason}"),
    }
}

#[track_caller]
fn refused(name: &str, path: &Path, part: &str) {
    match ask(name, path) {
        Used::Known { .. } => panic!("{name} is known"),
        Used::Unknown(reason) => assert!(reason.contains(part), "{reason}"),
    }
}

/// What stock partclone writes.
fn stock(name: &str, path: &Path) -> Vec<u8> {
    let mut command = host::tool(&format!("partclone.{name}"));
    command.args(["-c", "-s"]).arg(path).env("LC_ALL", "C").stderr(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// What we write by its map.
fn ours(path: &Path, header: Header, used: UsedBlocks) -> Vec<u8> {
    let image = RawImage::open(FileMedium::open(path, Access::Read).unwrap()).unwrap();
    let stream = Stream::new(header, used);
    let mut all = Vec::new();
    let mut out = Vec::new();
    for part in stream.parts(1 << 20) {
        stream.fill(&image, part, &mut out).unwrap();
        all.extend_from_slice(&out);
    }
    assert_eq!(all.len() as u64, stream.len_bytes());
    all
}

/// Some files, some of which are removed again; then everything is on the disk.
const FILES: &str =
    "for n in $(seq 25); do head -c ${n}00000 /dev/urandom > $d/f$n; done; rm $d/f1*";

/// Each of the filesystems with files in it, checked against stock partclone.
fn agrees_with_stock(folder: &TempDir, name: &str, mib: u64, line: &str) {
    let path = made(folder, mib, line);
    if ["ext4", "xfs", "btrfs"].contains(&name) {
        let mounted = Filesystem::mount(&path);
        host::run(host::tool("sh").args(["-ec", &format!("d=$0; {FILES}")]).arg(mounted.path()));
    }
    let device = LoopDevice::attach(&path, &LoopOptions::default());
    let (header, used) = known(name, device.path());
    assert_eq!(header.used_by_bitmap, used.used(), "{line}");
    let theirs = stock(name, device.path());
    assert!(ours(&path, header, used) == theirs, "{line}: other bytes than partclone's");
}

#[test]
fn a_stream_by_the_map_is_what_partclone_writes() {
    let tools = ["partclone.dd", "mkfs.vfat", "mkfs.ntfs", "mcopy", "ntfscp"];
    let needs = Needs::root().tools(&tools).filesystems(&["ext4", "xfs", "btrfs"]);
    let Some(scratch) = host::require(&needs) else { return };
    for (name, mib, line) in [
        ("ext4", 64, "mkfs.ext4 -q -b 4096 $0"),
        ("ext4", 64, "mkfs.ext4 -q -b 1024 $0 65533"),
        ("ext4", 64, "mkfs.ext4 -q -O ^has_journal $0"),
        ("xfs", 300, "mkfs.xfs -q $0"),
        ("xfs", 320, "mkfs.xfs -q -b size=1024 -m reflink=0 -d size=310m $0"),
        ("btrfs", 160, "mkfs.btrfs -q $0"),
        ("btrfs", 161, "mkfs.btrfs -q -m single -b 168656896 $0"),
        (
            "vfat",
            40,
            "mkfs.vfat -F 32 -s 1 $0; head -c 3000000 /dev/urandom | mcopy -i $0 - ::a.bin",
        ),
        ("vfat", 20, "mkfs.vfat -F 16 $0; head -c 3000000 /dev/urandom | mcopy -i $0 - ::a.bin"),
        ("ntfs", 32, "mkfs.ntfs -qFf $0 2>&1; ntfscp -q -f $0 /bin/sh sh"),
    ] {
        agrees_with_stock(&scratch, name, mib, line);
    }
}

#[test]
fn filesystems_that_no_tool_here_fills_agree_empty() {
    let tools = ["partclone.dd", "mkfs.exfat", "mkfs.f2fs"];
    let Some(scratch) = host::require(&Needs::root().tools(&tools)) else { return };
    agrees_with_stock(&scratch, "exfat", 64, "mkfs.exfat $0");
    // Smaller ones it refuses.
    agrees_with_stock(&scratch, "f2fs", 100, "mkfs.f2fs -q $0");
}

#[test]
fn what_partclone_refuses_or_we_do_not_believe_has_no_map() {
    let needs = Needs::root().tools(&["partclone.dd", "debugfs"]).filesystems(&["ext4", "xfs"]);
    let Some(scratch) = host::require(&needs) else { return };
    let bigalloc = made(&scratch, 64, "mkfs.ext4 -q -O bigalloc -C 65536 $0");
    refused("ext4", &bigalloc, "clusters of several blocks");
    let errors = made(&scratch, 64, "mkfs.ext4 -q $0; debugfs -w -R 'ssv state 3' $0 2>&1");
    refused("ext4", &errors, "has errors");
    let unclean = made(&scratch, 64, "mkfs.ext4 -q $0; debugfs -w -R 'ssv state 0' $0 2>&1");
    refused("ext4", &unclean, "not cleanly unmounted");
    let larger = made(&scratch, 64, "mkfs.ext4 -q $0; truncate -s 50M $0");
    refused("ext4", &larger, "larger than the device");
    let ext4 = made(&scratch, 64, "mkfs.ext4 -q $0");
    refused("ntfs", &ext4, "no NTFS filesystem");
    refused("minix", &ext4, "partclone refuses it");
    refused("dd", &ext4, "no filesystem that partclone knows");
    let xfs = made(&scratch, 300, "mkfs.xfs -q $0");
    let mounted = Filesystem::mount(&xfs);
    File::create(mounted.path().join("file")).unwrap().sync_all().unwrap();
    refused("xfs", mounted.device(), "not cleanly unmounted");
}

#[test]
fn a_mounted_filesystem_is_refused_with_the_place() {
    let needs = Needs::root().tools(&["partclone.dd"]).filesystems(&["btrfs"]);
    let Some(scratch) = host::require(&needs) else { return };
    let path = made(&scratch, 160, "mkfs.btrfs -q $0");
    let mounted = Filesystem::mount(&path);
    let place = format!("is mounted at {}", mounted.path().display());
    refused("btrfs", mounted.device(), &place);
}

#[test]
fn one_who_has_lost_patience_gets_no_map() {
    let needs = Needs::root().tools(&["partclone.dd", "mkfs.ext4"]);
    let Some(scratch) = host::require(&needs) else { return };
    let path = made(&scratch, 64, "mkfs.ext4 -q $0");
    let task = Task::silent();
    task.cancel();
    let partclone = Partclone::find().unwrap();
    let Err(error) = used_blocks(&partclone, variant("ext4"), &path, &task) else {
        panic!("it was not cancelled");
    };
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}

/// A stand-in that gives a stream with `changed` bytes of it turned round.
fn liar(folder: &TempDir, stream: &[u8], changed: &[usize]) -> Partclone {
    let mut bytes = stream.to_vec();
    for at in changed {
        bytes[*at] ^= 0x10;
    }
    fs::write(folder.join("stream"), bytes).unwrap();
    let path = folder.join("liar.ext4");
    fs::write(&path, "#!/bin/sh\nexec cat \"${0%/*}/stream\"\n").unwrap();
    host::run(host::tool("chmod").arg("755").arg(&path));
    Partclone::stub(folder.join("liar"))
}

#[test]
fn a_map_with_any_wrong_byte_is_not_believed() {
    let needs = Needs::root().tools(&["partclone.dd", "mkfs.ext4"]);
    let Some(scratch) = host::require(&needs) else { return };
    let path = made(&scratch, 16, "mkfs.ext4 -q $0");
    let stream = stock("ext4", &path);
    let map_end = Header::V2_BYTES + (16 << 10) / 8 + 4;
    let ask = |partclone: &Partclone| {
        used_blocks(partclone, variant("ext4"), &path, &Task::silent()).unwrap()
    };
    assert!(matches!(ask(&liar(&scratch, &stream, &[])), Used::Known { .. }));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..60 {
        let at = random.usize(..map_end);
        assert!(matches!(ask(&liar(&scratch, &stream, &[at])), Used::Unknown(_)), "byte {at}");
    }
    for len in [0, 1, 50, Header::V2_BYTES, map_end - 1] {
        let found = ask(&liar(&scratch, &stream[..len], &[]));
        assert!(matches!(found, Used::Unknown(_)), "{len} bytes");
    }
    // A right map, of another filesystem.
    let smaller = made(&scratch, 16, "mkfs.ext4 -q $0 12000");
    let foreign = liar(&scratch, &stream, &[]);
    let Used::Unknown(reason) =
        used_blocks(&foreign, variant("ext4"), &smaller, &Task::silent()).unwrap()
    else {
        panic!("the map of another filesystem was believed")
    };
    assert!(reason.contains("12288000 bytes"), "{reason}");
}

#[test]
fn reading_through_the_layer_sees_only_what_is_used() {
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..200 {
        let block_bytes = 512_u64 << random.u32(0..4);
        let total = random.u64(1..200);
        let rest = random.u64(0..3000);
        let size = total * block_bytes + rest;
        let bits: Vec<u8> = (0..total.div_ceil(8)).map(|_| random.u8(..) & random.u8(..)).collect();
        let used = UsedBlocks::new(bits, total);
        let image = RawImage::open(MemoryMedium::new("noise", size)).unwrap();
        let layer = UsedOnly::new(image, used.clone(), block_bytes);
        let mut at = 0;
        for extent in layer.extents(0..size) {
            let extent = extent.unwrap();
            assert_eq!(extent.offset, at);
            at = extent.end();
            for byte in [extent.offset, extent.end() - 1] {
                let block = byte / block_bytes;
                let is_free = block < total && !used.is_used(block);
                assert_eq!(extent.kind == ExtentKind::Unspecified, is_free, "byte {byte}");
            }
        }
        assert_eq!((at, layer.size()), (size, size));
    }
}

#[test]
fn the_layer_is_an_image() {
    let make = |content: &[u8]| {
        let medium = MemoryMedium::new("content", content.len() as u64);
        if !content.is_empty() {
            medium.write_at(content, 0).unwrap();
        }
        let total = content.len() as u64 / 4096;
        let used = UsedBlocks::new(vec![0b0110_1101; total.div_ceil(8) as usize], total);
        UsedOnly::new(RawImage::open(medium).unwrap(), used, 4096)
    };
    check_image(make, ImageRules { leaves_out: true, ..ImageRules::default() });
}
