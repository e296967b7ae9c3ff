//! Whole disks: a set made of one becomes another disk, as judged by sfdisk, sgdisk and the checkers of the filesystems.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use testkit::host::{
    LoopDevice, LoopOptions, Mount, Needs, Outcome, Program, TempDir, has_tool, partition_image,
    require, run, tool, try_run,
};

use crate::support::{MIB, Part, assert_refused, blockprint, make, names};

/// Exit codes.
const IN_USE: i32 = 13;
const TOO_SMALL: i32 = 14;
const UNSUPPORTED: i32 = 16;
const INVALID: i32 = 17;
const DAMAGED: i32 = 18;

/// A disk of a test: its file, and the device that it is attached as, with its partitions.
struct Disk {
    file: PathBuf,
    device: LoopDevice,
}

impl Disk {
    /// Partitions a new disk as `script` says.
    #[track_caller]
    fn new(scratch: &TempDir, name: &str, size_bytes: u64, script: &str) -> Self {
        let file = scratch.join(name);
        partition_image(&file, size_bytes, script);
        Disk::attached(file)
    }

    /// The disk in `file`, with a node for each of its partitions, whatever their numbers.
    #[track_caller]
    fn attached(file: PathBuf) -> Self {
        let device = LoopDevice::attach(&file, &LoopOptions::default());
        run(tool("partx").arg("--add").arg(device.path()));
        Disk { device, file }
    }

    /// A disk full of what somebody has left, as far as that matters: at both ends.
    #[track_caller]
    fn used(scratch: &TempDir, name: &str, size_bytes: u64) -> Self {
        let file = scratch.join(name);
        let noise = Part::Noise(2 * MIB);
        make(&file, 90, &[noise, Part::Hole(size_bytes - 4 * MIB), noise]);
        Disk { device: LoopDevice::attach(&file, &LoopOptions::default()), file }
    }

    /// Makes a filesystem on a partition, and puts files on it unless it is one that this kernel cannot mount.
    #[track_caller]
    fn fill(&self, number: u32, mkfs: &[&str]) {
        let node = self.device.partition(number);
        run(tool(mkfs[0]).args(&mkfs[1..]).arg(&node));
        if matches!(mkfs[0], "mkfs.ext4" | "mkfs.xfs" | "mkfs.btrfs") {
            let mount = Mount::new(&node, "");
            fs::create_dir(mount.path().join("folder")).unwrap();
            for index in 0..20 {
                let file = mount.path().join(format!("folder/file {index}"));
                make(
                    &file,
                    u64::from(number) * 100 + index,
                    &[Part::Noise(1000 * (index + 1) * 7)],
                );
            }
            make(&mount.path().join("gone"), 5, &[Part::Noise(3 * MIB)]);
            run(&mut tool("sync"));
            fs::remove_file(mount.path().join("gone")).unwrap();
        }
    }

    /// A digest of all files on a partition, and how many bytes its filesystem has.
    #[track_caller]
    fn picture(&self, number: u32) -> (String, u64) {
        let mount = Mount::new(&self.device.partition(number), "ro");
        let script = "cd \"$1\" && tar --sort=name --exclude=./lost+found -c . | sha256sum";
        let digest = run(tool("sh").args(["-c", script, "sh"]).arg(mount.path()));
        let size = run(tool("df").args(["--block-size=1", "--output=size"]).arg(mount.path()));
        (digest, size.lines().last().unwrap().trim().parse().unwrap())
    }

    /// Panics with what the checker says unless the filesystem on a partition is clean.
    #[track_caller]
    fn check(&self, number: u32, checker: &[&str]) {
        run(tool(checker[0]).args(&checker[1..]).arg(self.device.partition(number)));
    }

    /// What sfdisk says of each partition, without the name of the device.
    #[track_caller]
    fn partitions(&self) -> Vec<String> {
        let dump = run(tool("sfdisk").arg("--dump").arg(&self.file));
        let name = self.file.display().to_string();
        let lines = dump.lines().filter(|line| line.starts_with(&name));
        lines.map(|line| line[name.len()..].to_string()).collect()
    }

    /// Detaches and attaches it again, so that the kernel sees the partitions that are there now.
    fn again(self) -> Self {
        let file = self.file;
        drop(self.device);
        Disk::attached(file)
    }
}

/// Panics unless sfdisk, and sgdisk for a GPT, find nothing to complain of.
#[track_caller]
fn assert_right_table(disk: &Disk) {
    let said = run(tool("sfdisk").arg("--verify").arg(&disk.file));
    assert!(said.contains("No errors detected"), "{said}");
    let is_gpt = run(tool("sfdisk").arg("--dump").arg(&disk.file)).contains("label: gpt");
    if is_gpt && has_tool("sgdisk") {
        let said = run(tool("sgdisk").arg("--verify").arg(&disk.file));
        assert!(said.contains("No problems found"), "{said}");
    }
}

/// `blockprint backup DISK`, and the folder of the set.
#[track_caller]
fn back_up(scratch: &TempDir, disk: &Disk, more: &[&str]) -> PathBuf {
    let folder = scratch.join("sets");
    fs::create_dir_all(&folder).unwrap();
    let call = blockprint(scratch).args(["--json", "backup", "--name", "disk"]).args(more);
    let outcome = call.arg(disk.device.path()).arg(&folder).run().expect_ok();
    let set = PathBuf::from(outcome.result()["destination"].as_str().unwrap());
    assert_eq!(names(&folder), [set.file_name().unwrap().to_string_lossy()]);
    set
}

fn restore(scratch: &TempDir, set: &Path, target: &Path) -> Program {
    blockprint(scratch).args(["restore", "--yes"]).arg(set).arg(target)
}

fn needs() -> Needs {
    Needs::root().tools(&["sfdisk", "partx", "partclone.ext4", "blkid", "tar"])
}

fn blkid(node: &Path) -> String {
    run(tool("blkid").args(["-p", "-o", "export"]).arg(node))
        .lines()
        .filter(|line| ["UUID=", "LABEL=", "TYPE="].iter().any(|key| line.starts_with(key)))
        .collect::<Vec<_>>()
        .join(" ")
}

const GPT: &str = "label: gpt\nlabel-id: 12345678-1234-1234-1234-123456789abc\n\
    size=16M, type=uefi, name=EFI\nsize=24M, name=root\nsize=8M, type=swap\nsize=310M, name=data\n";

#[test]
fn a_gpt_disk_comes_back_on_a_larger_one_and_its_xfs_grows() {
    let needs = needs().filesystems(&["ext4", "xfs"]).tools(&[
        "mkfs.vfat",
        "fsck.vfat",
        "mkswap",
        "xfs_repair",
        "xfs_growfs",
        "mcopy",
    ]);
    let Some(scratch) = require(&needs) else { return };
    let disk = Disk::new(&scratch, "disk", 368 * MIB, GPT);
    disk.fill(1, &["mkfs.vfat", "-F", "16", "-n", "EFI"]);
    run(tool("mcopy").arg("-i").arg(disk.device.partition(1)).args(["/etc/passwd", "::/boot.txt"]));
    disk.fill(2, &["mkfs.ext4", "-q"]);
    disk.fill(3, &["mkswap", "--label", "swapped"]);
    disk.fill(4, &["mkfs.xfs", "-q"]);
    let swap = blkid(&disk.device.partition(3));
    let (root, data) = (disk.picture(2), disk.picture(4));
    let set = back_up(&scratch, &disk, &[]);
    blockprint(&scratch).arg("verify").arg(&set).run().expect_ok();
    let before = disk.partitions();
    drop(disk);

    let target = Disk::used(&scratch, "target", 500 * MIB);
    let call = restore(&scratch, &set, target.device.path()).args(["--grow", "last", "--verify"]);
    call.run().expect_ok();
    let target = target.again();
    assert_right_table(&target);
    let after = target.partitions();
    assert_eq!(after[..3], before[..3]);
    assert_ne!(after[3], before[3]);
    target.check(1, &["fsck.vfat", "-n"]);
    target.check(2, &["e2fsck", "-f", "-n"]);
    target.check(4, &["xfs_repair", "-n"]);
    assert_eq!(target.picture(2), root);
    let grown = target.picture(4);
    assert_eq!(grown.0, data.0);
    assert!(grown.1 > data.1 + 130 * MIB, "{} and then {}", data.1, grown.1);
    assert_eq!(blkid(&target.device.partition(3)), swap);
    let text = scratch.join("boot.txt");
    run(tool("mcopy").arg("-i").arg(target.device.partition(1)).arg("::/boot.txt").arg(&text));
    run(tool("cmp").arg(&text).arg("/etc/passwd"));
}

const MBR: &str = "label: dos\nlabel-id: 0xcafe1234\n1: size=20M, type=83, bootable\n2: size=150M, type=5\n\
    5: size=8M, type=82\n6: size=130M, type=83\n";

#[test]
fn a_disk_with_logical_partitions_comes_back_with_its_boot_code_and_its_btrfs_grows() {
    let needs = needs().filesystems(&["ext4", "btrfs"]).tools(&["mkswap", "btrfs"]);
    let Some(scratch) = require(&needs) else { return };
    let disk = Disk::new(&scratch, "disk", 180 * MIB, MBR);
    disk.fill(1, &["mkfs.ext4", "-q"]);
    disk.fill(5, &["mkswap"]);
    disk.fill(6, &["mkfs.btrfs", "-q"]);
    // What a boot loader keeps in the first sector, and behind it.
    let code: Vec<u8> = (0..=255).cycle().take(40_000).collect();
    let raw = fs::OpenOptions::new().write(true).open(disk.device.path()).unwrap();
    raw.write_all_at(&code[..440], 0).unwrap();
    raw.write_all_at(&code, 512).unwrap();
    raw.sync_all().unwrap();
    let (root, data) = (disk.picture(1), disk.picture(6));
    let set = back_up(&scratch, &disk, &["--compression", "gz", "--verify"]);
    let before = disk.partitions();
    drop((raw, disk));

    let target = Disk::used(&scratch, "target", 300 * MIB);
    restore(&scratch, &set, target.device.path()).args(["--grow", "last"]).run().expect_ok();
    let target = target.again();
    assert_right_table(&target);
    let after = target.partitions();
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    target.check(1, &["e2fsck", "-f", "-n"]);
    target.check(6, &["btrfs", "check", "--readonly"]);
    assert_eq!(target.picture(1), root);
    let grown = target.picture(6);
    assert_eq!(grown.0, data.0);
    assert!(grown.1 >= data.1 + 120 * MIB, "{} and then {}", data.1, grown.1);
    let mut found = vec![0; 40_512];
    File::open(&target.file).unwrap().read_exact_at(&mut found, 0).unwrap();
    assert!(found[..440] == code[..440] && found[512..] == code[..], "the boot code is another");
}

/// A small disk with an ext4 between two partitions that nobody knows, and its set.
fn small_set(scratch: &TempDir) -> (Disk, PathBuf) {
    let script = "label: gpt\nsize=1M, type=21686148-6449-6E6F-744E-656564454649\nsize=17M\n";
    let disk = Disk::new(scratch, "disk", 20 * MIB, script);
    let loader = scratch.join("loader");
    make(&loader, 3, &[Part::Noise(MIB)]);
    run(tool("cp").arg(&loader).arg(disk.device.partition(1)));
    disk.fill(2, &["mkfs.ext4", "-q"]);
    let set = back_up(scratch, &disk, &[]);
    (disk, set)
}

#[test]
fn on_a_disk_of_the_same_size_the_table_is_the_same_and_on_a_larger_one_the_ext4_grows() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"]).tools(&["resize2fs"])) else {
        return;
    };
    let (disk, set) = small_set(&scratch);
    let picture = disk.picture(2);
    let before = disk.file.clone();
    drop(disk);
    let equal = Disk::used(&scratch, "equal", 20 * MIB);
    restore(&scratch, &set, equal.device.path()).args(["--grow", "last"]).run().expect_ok();
    let equal = equal.again();
    // The table at both ends, and the boot loader's partition.
    let ends = [("0", 2 * MIB), ("20954624", 33 * 512)];
    for (skip, bytes) in ends {
        let mut command = tool("cmp");
        command.args(["--ignore-initial", skip, "--bytes", &bytes.to_string()]);
        run(command.arg(&before).arg(&equal.file));
    }
    equal.check(2, &["e2fsck", "-f", "-n"]);
    assert_eq!(equal.picture(2).0, picture.0);

    let larger = Disk::used(&scratch, "larger", 64 * MIB);
    restore(&scratch, &set, larger.device.path()).args(["--grow", "last"]).run().expect_ok();
    let larger = larger.again();
    assert_right_table(&larger);
    larger.check(2, &["e2fsck", "-f", "-n"]);
    let grown = larger.picture(2);
    assert_eq!(grown.0, picture.0);
    assert!(grown.1 > picture.1 + 35 * MIB, "{} and then {}", picture.1, grown.1);
}

/// Panics unless `outcome` is refused so, and `disk` is what it was.
#[track_caller]
fn assert_untouched(disk: &Disk, call: Program, code: i32, parts: &[&str]) {
    let digest = || run(tool("sha256sum").arg(disk.device.path()));
    let before = digest();
    assert_refused(call.run(), code, parts);
    assert_eq!(digest(), before, "something was written");
}

#[test]
fn what_cannot_be_restored_is_refused_before_anything_is_written() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"])) else { return };
    let (disk, set) = small_set(&scratch);
    let small = Disk::used(&scratch, "small", 10 * MIB);
    let call = restore(&scratch, &set, small.device.path());
    assert_untouched(&small, call, TOO_SMALL, &["need a disk of"]);

    let file = scratch.join("sectors");
    make(&file, 4, &[Part::Noise(32 * MIB)]);
    let options = LoopOptions { sector_bytes: 4096, ..LoopOptions::default() };
    let sectors = Disk { device: LoopDevice::attach(&file, &options), file };
    let call = restore(&scratch, &set, sectors.device.path());
    assert_untouched(&sectors, call, UNSUPPORTED, &["sectors of 4096 bytes"]);

    let target = Disk::used(&scratch, "target", 32 * MIB);
    let path = target.device.path();
    let mut unfinished = set.clone().into_os_string();
    unfinished.push(".inprogress");
    fs::rename(&set, &unfinished).unwrap();
    let call = restore(&scratch, Path::new(&unfinished), path);
    assert_untouched(&target, call, INVALID, &["was not finished"]);
    fs::rename(&unfinished, &set).unwrap();

    let call = restore(&scratch, &set, &target.file);
    assert_untouched(&target, call, INVALID, &["no block device"]);
    let call = blockprint(&scratch).arg("restore").arg(&set).arg(path);
    assert_untouched(&target, call, INVALID, &["--yes"]);

    let mounted = Mount::new(&disk.device.partition(2), "ro");
    let call = restore(&scratch, &set, disk.device.path());
    assert_untouched(&disk, call, IN_USE, &["mounted at"]);
    let call = blockprint(&scratch).arg("backup").arg(disk.device.path()).arg(scratch.path());
    assert_untouched(&disk, call, IN_USE, &["mounted at"]);
    drop(mounted);

    // A set that is not what its manifest says.
    let manifest = set.join("manifest.json");
    let good = fs::read_to_string(&manifest).unwrap();
    for (from, to, said) in [
        (".apt.ext4.zst\"", ".apt.ext4.zst/../../x\"", "no name for a file"),
        ("\"size_bytes\": 17825792", "\"size_bytes\": 8388608", "different partitions"),
        ("\"file_bytes\": ", "\"file_bytes\": 1", "and the manifest beside it says"),
        ("\"kind\": \"gpt\"", "\"kind\": 7", "table.kind is no text"),
    ] {
        assert!(good.contains(from), "{from} is not in\n{good}");
        fs::write(&manifest, good.replace(from, to)).unwrap();
        assert_untouched(&target, restore(&scratch, &set, path), DAMAGED, &[said]);
    }
    fs::write(&manifest, &good).unwrap();
    let table = fs::read(set.join("table.bin")).unwrap();
    let mut other = table.clone();
    other[700] ^= 1;
    fs::write(set.join("table.bin"), other).unwrap();
    assert_untouched(&target, restore(&scratch, &set, path), DAMAGED, &["table.bin is damaged"]);
    fs::write(set.join("table.bin"), table).unwrap();
    restore(&scratch, &set, path).arg("--dry-run").run().expect_ok();
}

#[test]
fn a_filesystem_that_cannot_grow_is_refused_before_anything_is_written() {
    let Some(scratch) = require(&needs().tools(&["mkswap"])) else { return };
    let disk = Disk::new(&scratch, "disk", 20 * MIB, "label: dos\nsize=8M, type=82\n");
    disk.fill(1, &["mkswap"]);
    let set = back_up(&scratch, &disk, &[]);
    let target = Disk::used(&scratch, "target", 32 * MIB);
    let call = restore(&scratch, &set, target.device.path()).args(["--grow", "last"]);
    assert_untouched(&target, call, UNSUPPORTED, &["holds swap, which cannot be grown"]);
}

#[test]
fn killed_at_any_step_a_backup_leaves_no_set_and_a_restore_no_table() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"])) else { return };
    let (disk, set) = small_set(&scratch);
    for step in ["created", "partition", "flushed"] {
        let folder = scratch.join(step);
        fs::create_dir(&folder).unwrap();
        let call = blockprint(&scratch).env("BLOCKPRINT_DEBUG_KILL_AT", step);
        let outcome = call.arg("backup").arg(disk.device.path()).arg(&folder).run();
        assert!(!outcome.status.success(), "{outcome}");
        let left = names(&folder);
        assert!(left.len() == 1 && left[0].ends_with(".disk.inprogress"), "{left:?}");
    }
    let target = Disk::used(&scratch, "target", 32 * MIB);
    for step in ["erased", "partition"] {
        let call = restore(&scratch, &set, target.device.path());
        let outcome = call.env("BLOCKPRINT_DEBUG_KILL_AT", step).run();
        assert!(!outcome.status.success(), "{outcome}");
        let dump = try_run(tool("sfdisk").arg("--dump").arg(&target.file));
        assert!(dump.is_err(), "there is a table: {dump:?}");
    }
    restore(&scratch, &set, target.device.path()).run().expect_ok();
    assert_right_table(&target);
}

#[test]
fn a_damaged_image_in_a_set_is_found_by_verify() {
    let Some(scratch) = require(&needs().filesystems(&["ext4"])) else { return };
    let (_disk, set) = small_set(&scratch);
    let image = names(&set).into_iter().find(|name| name.contains(".apt.ext4.")).unwrap();
    let image = set.join(image);
    let mut bytes = fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&image, bytes).unwrap();
    let outcome: Outcome = blockprint(&scratch).arg("verify").arg(&set).run();
    assert_refused(outcome, DAMAGED, &[".apt.ext4."]);
}
