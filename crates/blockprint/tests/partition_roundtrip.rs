//! Partition images there and back: ours and stock partclone's, each restored by ours and by stock partclone, for each filesystem.
//!
//! Every target is filled with the same random bytes before, so that all ways must lead to the same bytes, and whatever a way forgets
//! to write is seen. What one of them holds is then judged by its own checker, and file by file.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use testkit::host::{
    LoopDevice, LoopOptions, Mount, Needs, TempDir, fsck, require, run, tool, try_run,
};

use crate::support::{KIB, MIB, Part, assert_same, blockprint, make};

/// A kind of partition: how it is made, filled, checked and read.
struct Kind {
    filesystem: &'static str,
    /// The variant of partclone that images it.
    variant: &'static str,
    size_bytes: u64,
    /// Arguments of `mkfs.<filesystem>`; what is no filesystem is made without.
    mkfs: &'static [&'static str],
    mount: &'static str,
    access: Access,
    ways: &'static [Way],
}

/// How the files on it are reached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// The kernel mounts it, or FUSE.
    Mounted,
    /// Not mountable here: by mtools.
    Mtools,
    /// There are none.
    Bytes,
}

/// Whose image, and who restores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    StockByStock,
    StockByOurs,
    StockByOursWithPartclone,
    OursByStock,
    OursByOurs,
    OursByOursWithPartclone,
}

const ALL: [Way; 6] = [
    Way::StockByStock,
    Way::StockByOurs,
    Way::OursByStock,
    Way::OursByOurs,
    Way::StockByOursWithPartclone,
    Way::OursByOursWithPartclone,
];

const NTFS_TOOLS: [&str; 3] = ["ntfs-3g", "ntfsfix", "mkfs.ntfs"];

impl Kind {
    const fn mounted(
        filesystem: &'static str,
        size_bytes: u64,
        mkfs: &'static [&'static str],
    ) -> Self {
        let (variant, mount, access) = (filesystem, "", Access::Mounted);
        Kind { filesystem, variant, size_bytes, mkfs, mount, access, ways: &ALL }
    }

    /// With other features than usual, where partclone's part in a restore is no other than with the usual ones.
    const fn special(
        filesystem: &'static str,
        size_bytes: u64,
        mkfs: &'static [&'static str],
    ) -> Self {
        let (few, _) = ALL.split_at(4);
        Kind { ways: few, ..Kind::mounted(filesystem, size_bytes, mkfs) }
    }

    /// What no variant of partclone knows, so that all bytes of it are in the image.
    const fn raw(size_bytes: u64) -> Self {
        Kind { access: Access::Bytes, ..Kind::mounted("dd", size_bytes, &[]) }
    }

    fn needs(&self) -> Needs {
        let base = Needs::root().tools(&["partclone.ext4", "pigz", "zstd", "lz4", "python3"]);
        match self.filesystem {
            "ext4" => base.tools(&["e2fsck"]).filesystems(&["ext4"]),
            "xfs" => base.tools(&["xfs_repair"]).filesystems(&["xfs"]),
            "btrfs" => base.tools(&["btrfs"]).filesystems(&["btrfs"]),
            "ntfs" => base.tools(&NTFS_TOOLS),
            "vfat" => base.tools(&["mkfs.vfat", "fsck.vfat", "mcopy"]),
            _ => base,
        }
    }

    /// Makes the file `image` with such a partition in it.
    fn make(&self, image: &Path) {
        File::create(image).and_then(|file| file.set_len(self.size_bytes)).unwrap();
        if self.filesystem != "dd" {
            run(tool(&format!("mkfs.{}", self.filesystem)).args(self.mkfs).arg(image));
        }
        let device = attach(image);
        match self.access {
            Access::Mounted => {
                populate(Mount::new(device.path(), self.mount).path(), self.filesystem);
            }
            Access::Mtools => populate_fat(image),
            Access::Bytes => {}
        }
    }

    fn check(&self, image: &Path) {
        match self.filesystem {
            "ext4" => fsck::ext4(image),
            "xfs" => fsck::xfs(image),
            "btrfs" => fsck::btrfs(image),
            "vfat" => drop(run(tool("fsck.vfat").arg("-n").arg(image))),
            "ntfs" => check_ntfs(image),
            _ => {}
        }
    }

    /// A digest of all files: names, contents, times, owners, links and extended attributes.
    fn picture(&self, image: &Path) -> String {
        match self.access {
            Access::Mounted => {
                let options = LoopOptions { read_only: true, ..LoopOptions::default() };
                let device = LoopDevice::attach(image, &options);
                let options = if self.filesystem == "xfs" { "ro,nouuid" } else { "ro" };
                digest(Mount::new(device.path(), options).path())
            }
            Access::Mtools => {
                let folder = TempDir::new("fat");
                run(mtool("mcopy", image).args(["-s", "-m", "-Q", "::/"]).arg(folder.path()));
                digest(folder.path())
            }
            Access::Bytes => run(tool("sha256sum").stdin(Stdio::from(File::open(image).unwrap()))),
        }
    }
}

/// The copy of the boot sector in the last sector of the partition belongs to no cluster, and partclone does not keep it: ntfsfix
/// must find that, and nothing else.
fn check_ntfs(image: &Path) {
    let Err(report) = try_run(tool("ntfsfix").arg("-n").arg(image)) else { return };
    let processed = report.contains("$MFT and $MFTMirr completed successfully");
    let bad = report.lines().filter(|line| line.contains("BAD") || line.contains("FAILED"));
    let other = bad.filter(|line| !line.contains("alternate boot sector")).count();
    assert!(processed && other == 0, "{report}");
}

/// Makes such a partition, backs it up both ways, restores both images in all ways, and judges.
#[track_caller]
fn there_and_back(kind: &Kind, prepare: impl FnOnce(&Path)) {
    let Some(scratch) = require(&kind.needs()) else { return };
    let source = scratch.join("source.img");
    kind.make(&source);
    prepare(&source);
    let before = kind.picture(&source);
    let images = back_up(kind, &source, &scratch);
    let noise = scratch.join("noise");
    make(&noise, 77, &[Part::Noise(kind.size_bytes)]);
    let target = |way: Way| scratch.join(format!("{way:?}.img"));
    thread::scope(|scope| {
        for &way in kind.ways {
            let (scratch, images, noise) = (&scratch, &images, &noise);
            scope.spawn(move || {
                let image = match way {
                    Way::StockByStock | Way::StockByOurs | Way::StockByOursWithPartclone => {
                        &images.stock
                    }
                    _ => &images.ours,
                };
                fs::copy(noise, target(way)).unwrap();
                restore(kind, way, image, &target(way), scratch);
            });
        }
        scope.spawn(|| images.compare(kind));
    });
    for &way in kind.ways {
        let same = try_run(tool("cmp").arg(target(Way::StockByStock)).arg(target(way)));
        assert!(same.is_ok(), "{way:?} differs from what partclone restores: {same:?}");
    }
    let restored = target(Way::OursByOurs);
    if kind.variant == "dd" {
        assert_same(&restored, &source);
    } else {
        let untouched = try_run(tool("cmp").arg(&restored).arg(&source));
        assert!(untouched.is_err(), "blocks that are not used were written as well");
    }
    kind.check(&restored);
    assert_eq!(kind.picture(&restored), before, "the files are not those that were backed up");
}

/// Two images of one partition.
struct Images {
    /// What stock partclone wrote.
    stream: PathBuf,
    /// The same, packed by a stock compressor.
    stock: PathBuf,
    ours: PathBuf,
    /// How ours is packed.
    our_ending: &'static str,
}

/// Backs it up both ways, at the same time.
fn back_up(kind: &Kind, source: &Path, scratch: &TempDir) -> Images {
    let options = LoopOptions { read_only: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(source, &options);
    let (clone, stock_ending, our_ending): (&[&str], _, _) = match kind.variant {
        "dd" => (&["-s"], "gz", "lz4"),
        "xfs" => (&["-c", "-s"], "zst", "gz"),
        _ => (&["-c", "-s"], "gz", "zst"),
    };
    let stream = scratch.join("stock.stream");
    let stock = scratch.join(format!("stock-2026-01-02T0304.apt.{}.{stock_ending}", kind.variant));
    let folder = scratch.join("ours");
    fs::create_dir(&folder).unwrap();
    // A device of its own: whoever backs up claims what he reads.
    let second = LoopDevice::attach(source, &options);
    let ours = thread::scope(|scope| {
        scope.spawn(|| {
            let mut command = tool(&format!("partclone.{}", kind.variant));
            let output = File::create(&stream).unwrap();
            run(command.args(clone).arg(device.path()).stdout(output));
            let mut packer = if stock_ending == "gz" { tool("pigz") } else { tool("zstd") };
            let input = File::open(&stream).unwrap();
            run(packer.arg("-c").stdin(input).stdout(File::create(&stock).unwrap()));
        });
        let call = blockprint(scratch).args(["--json", "backup", "--name", "ours"]);
        let call = call.args(["--compression", our_ending]).arg(second.path()).arg(&folder);
        let result = call.run().expect_ok().result();
        PathBuf::from(result["destination"].as_str().unwrap())
    });
    Images { stream, stock, ours, our_ending }
}

impl Images {
    /// Panics unless ours holds the bytes of partclone's, and partclone's checker likes it.
    fn compare(&self, kind: &Kind) {
        let unpacked = self.ours.with_extension("stream");
        let mut unpacker = unpacker(self.our_ending);
        let output = File::create(&unpacked).unwrap();
        run(unpacker.stdin(File::open(&self.ours).unwrap()).stdout(output));
        assert_same(&unpacked, &self.stream);
        if kind.variant != "dd" {
            run(tool("partclone.chkimg").arg("-s").arg(&unpacked));
        }
    }
}

fn restore(kind: &Kind, way: Way, image: &Path, target: &Path, scratch: &TempDir) {
    let device = attach(target);
    let ours = || blockprint(scratch).args(["restore", "--yes"]);
    match way {
        Way::StockByStock | Way::OursByStock => {
            let ending = image.extension().unwrap().to_string_lossy().into_owned();
            let mut unpacker = unpacker(&ending);
            unpacker.stdin(File::open(image).unwrap()).stdout(Stdio::piped());
            let mut unpacking = unpacker.spawn().unwrap();
            let mut command = tool(&format!("partclone.{}", kind.variant));
            if kind.variant != "dd" {
                command.arg("-r");
            }
            command.arg("-o").arg(device.path()).stdin(unpacking.stdout.take().unwrap());
            run(&mut command);
            assert!(unpacking.wait().unwrap().success());
        }
        Way::StockByOurs | Way::OursByOurs => {
            ours().arg("--verify").arg(image).arg(device.path()).run().expect_ok();
        }
        Way::StockByOursWithPartclone | Way::OursByOursWithPartclone => {
            ours().arg("--by-partclone").arg(image).arg(device.path()).run().expect_ok();
        }
    }
}

fn unpacker(ending: &str) -> std::process::Command {
    let mut command = tool(match ending {
        "gz" => "pigz",
        "zst" => "zstd",
        _ => "lz4",
    });
    command.arg("-dc");
    command
}

fn attach(image: &Path) -> LoopDevice {
    LoopDevice::attach(image, &LoopOptions::default())
}

/// Everything below `root` in a fixed order as one digest.
fn digest(root: &Path) -> String {
    let script = "tar --create --file=- --sort=name --format=posix --xattrs --xattrs-include='user.*' \
         --pax-option=exthdr.name=%f,delete=atime,delete=ctime . | sha256sum";
    run(tool("bash").args(["-o", "pipefail", "-c", script]).current_dir(root))
}

/// Files with all that a filesystem can be made to hold: odd names, holes, links, attributes, fragments, and space that was freed.
fn populate(root: &Path, variant: &str) {
    let mut random = fastrand::Rng::with_seed(31);
    let mut noise = |len: u64| {
        let mut bytes = vec![0; len as usize];
        random.fill(&mut bytes);
        bytes
    };
    let odd = root.join("odd");
    fs::create_dir(&odd).unwrap();
    for name in ["ä ö 目", "-dash", "quote'\"", " blanks  ", &"n".repeat(255)] {
        fs::write(odd.join(name), name).unwrap();
    }
    if variant != "ntfs" {
        fs::write(odd.join("line\nbreak\\"), "x").unwrap();
        // A name that is no Unicode.
        let raw = std::ffi::OsString::from("raw");
        fs::write(odd.join(raw_name(raw)), "x").unwrap();
    }
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("one block"), noise(4096)).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(&noise(4096), 0).unwrap();
    sparse.write_all_at(&noise(10_000), 5 * MIB + 1).unwrap();
    sparse.set_len(16 * MIB).unwrap();
    fs::hard_link(root.join("one block"), odd.join("hard link")).unwrap();
    symlink("../one block", odd.join("link")).unwrap();
    set_attribute(&root.join("one block"));
    fs::write(root.join("text"), "compressible text\n".repeat(60_000)).unwrap();
    // Small files, every second of which is removed, and a large one that has to live in the gaps.
    for number in 0..200 {
        fs::write(root.join(format!("small {number}")), noise(20 * KIB + number)).unwrap();
    }
    sync(root);
    for number in (0..200).step_by(2) {
        fs::remove_file(root.join(format!("small {number}"))).unwrap();
    }
    fs::write(root.join("large"), noise(6 * MIB)).unwrap();
    fs::write(root.join("removed"), noise(8 * MIB)).unwrap();
    sync(root);
    fs::remove_file(root.join("removed")).unwrap();
    if variant == "btrfs" {
        run(tool("btrfs").args(["subvolume", "create"]).arg(root.join("subvolume")));
        fs::write(root.join("subvolume/file"), noise(100 * KIB)).unwrap();
        let snapshot = ["subvolume", "snapshot"];
        run(tool("btrfs").args(snapshot).arg(root.join("subvolume")).arg(root.join("snapshot")));
    }
}

/// The name with a byte behind it that is no Unicode.
fn raw_name(mut name: std::ffi::OsString) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStrExt;
    name.push(std::ffi::OsStr::from_bytes(&[0xff]));
    name
}

fn set_attribute(path: &Path) {
    let script = "import os, sys; os.setxattr(sys.argv[1], 'user.colour', b'blue\\0\\xff')";
    run(tool("python3").args(["-c", script]).arg(path));
}

/// The same on FAT, by mtools.
fn populate_fat(image: &Path) {
    let folder = TempDir::new("fat");
    let mut random = fastrand::Rng::with_seed(32);
    let mut put = |name: &str, len: u64| {
        let mut bytes = vec![0; len as usize];
        random.fill(&mut bytes);
        fs::write(folder.join(name), bytes).unwrap();
        run(mtool("mcopy", image).arg("-m").arg(folder.join(name)).arg("::/"));
    };
    put("A long name with blanks.text", 5000);
    put("EMPTY", 0);
    for number in 0..12 {
        put(&format!("small{number}"), 3 * KIB + number);
    }
    for number in (0..12).step_by(2) {
        run(mtool("mdel", image).arg(format!("::/small{number}")));
    }
    put("large", MIB);
    put("removed", 2 * MIB);
    run(mtool("mdel", image).arg("::/removed"));
    run(mtool("mmd", image).arg("::/a folder"));
    run(mtool("mcopy", image).arg("-m").arg(folder.join("small1")).arg("::/a folder/"));
}

fn mtool(name: &str, image: &Path) -> std::process::Command {
    let mut command = tool(name);
    command.env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(image);
    command
}

fn sync(root: &Path) {
    run(tool("sync").arg("--file-system").arg(root));
}

fn nothing(_: &Path) {}

#[test]
fn ext4_comes_back() {
    there_and_back(&Kind::mounted("ext4", 100 * MIB, &["-q", "-F"]), nothing);
}

#[test]
fn ext4_with_blocks_of_1_kib_comes_back() {
    there_and_back(&Kind::special("ext4", 64 * MIB, &["-q", "-F", "-b1024"]), nothing);
}

/// Partclone refuses it: stock can copy it raw only, and ours falls back to that.
#[test]
fn ext4_with_clusters_comes_back() {
    let mkfs = &["-q", "-F", "-Obigalloc", "-C65536"];
    let kind = Kind { variant: "dd", ..Kind::special("ext4", 100 * MIB, mkfs) };
    there_and_back(&kind, nothing);
}

#[test]
fn ext4_without_a_journal_comes_back() {
    let mkfs = &["-q", "-F", "-O^has_journal"];
    there_and_back(&Kind::special("ext4", 64 * MIB, mkfs), nothing);
}

#[test]
fn xfs_comes_back() {
    there_and_back(&Kind::mounted("xfs", 300 * MIB, &["-q"]), nothing);
}

#[test]
fn xfs_with_blocks_of_1_kib_comes_back() {
    there_and_back(&Kind::special("xfs", 300 * MIB, &["-q", "-bsize=1024"]), nothing);
}

#[test]
fn xfs_without_reflinks_comes_back() {
    there_and_back(&Kind::special("xfs", 300 * MIB, &["-q", "-mreflink=0"]), nothing);
}

#[test]
fn btrfs_comes_back() {
    there_and_back(&Kind::mounted("btrfs", 128 * MIB, &["-q"]), nothing);
}

#[test]
fn btrfs_that_keeps_everything_once_comes_back() {
    let mkfs = &["-q", "-msingle", "-dsingle"];
    there_and_back(&Kind::special("btrfs", 128 * MIB, mkfs), nothing);
}

#[test]
fn btrfs_with_compressed_data_comes_back() {
    let kind = Kind::special("btrfs", 128 * MIB, &["-q"]);
    there_and_back(&Kind { mount: "compress-force=zstd", ..kind }, nothing);
}

#[test]
fn fat_comes_back() {
    let kind = Kind::mounted("vfat", 64 * MIB, &["-F32"]);
    there_and_back(&Kind { access: Access::Mtools, ..kind }, nothing);
}

#[test]
fn ntfs_comes_back() {
    there_and_back(&Kind::mounted("ntfs", 64 * MIB, &["-q", "-F", "-f"]), nothing);
}

#[test]
fn swap_comes_back() {
    let label = |image: &Path| drop(run(tool("mkswap").args(["-L", "swapped"]).arg(image)));
    there_and_back(&Kind::raw(16 * MIB), label);
}

#[test]
fn content_that_nobody_knows_comes_back() {
    let parts = [Part::Hole(3 * MIB), Part::Noise(9 * MIB), Part::Zeroes(8 * MIB)];
    there_and_back(&Kind::raw(20 * MIB), |image| make(image, 78, &parts));
}
