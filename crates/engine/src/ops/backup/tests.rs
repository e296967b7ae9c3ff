//! Backups and restores by programs that stand in for partclone: all is left to them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use filesystems::partclone::{Partclone, Report};
use formats::packed::Compression;
use image::{ErrorKind, Task};
use testkit::host::TempDir;

use super::*;
use crate::ops::restore::{self, RestoreRequest};
use crate::partclone::PartcloneFailure;

/// A folder with stand-ins that run `script`, for the variants `dd` and `ext2`.
struct Stubs {
    folder: TempDir,
    reports: Arc<Mutex<Vec<Report>>>,
}

const PROGRESS: &str = "printf 'File system:  EXTFS\\n' >&2
printf '\\r  \\rElapsed: 00:00:01, Remaining: 00:00:09, Completed:  41.50%%,   1.49GB/min,\\n' >&2
";
const SUCCESS: &str = "printf 'Syncing... OK!\\n' >&2
";

impl Stubs {
    fn new(script: &str) -> Self {
        let folder = TempDir::new("stubs");
        for variant in ["dd", "ext2"] {
            let path = folder.join(format!("stub.{variant}"));
            let text =
                format!("#!/bin/sh\ncd {}\necho $* > arguments\n{script}", folder.path().display());
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        Stubs { folder, reports: Arc::default() }
    }

    fn on_report(&self) -> Option<OnReport> {
        let reports = Arc::clone(&self.reports);
        Some(Arc::new(move |report| reports.lock().unwrap().push(report)))
    }

    fn partclone(&self) -> Option<Partclone> {
        Some(Partclone::stub(self.folder.join("stub")))
    }

    fn backup(&self, filesystem: &str, compression: Compression) -> Result<BackupReport> {
        let request = BackupRequest {
            source: "/dev/no such".into(),
            folder: self.folder.path().to_owned(),
            name: Some("x".into()),
            compression,
            level: None,
            verify: false,
            filesystem: Some(filesystem.into()),
            partclone: self.partclone(),
            mode: 0o600,
            limit_bytes_per_s: None,
            threads: Threads::Automatic,
            on_report: self.on_report(),
            steps: Steps::default(),
        };
        perform(plan(request, &Task::silent())?, &Task::silent())
    }

    fn restore(&self, image: PathBuf) -> Result<()> {
        let request = RestoreRequest {
            image,
            target: "/dev/no such".into(),
            verify: true,
            discard: false,
            by_partclone: false,
            partclone: self.partclone(),
            limit_bytes_per_s: None,
            threads: Threads::Automatic,
            on_report: self.on_report(),
            steps: Steps::default(),
        };
        restore::perform(restore::plan(request, &Task::silent())?, &Task::silent()).map(|_| ())
    }

    fn arguments(&self) -> String {
        fs::read_to_string(self.folder.join("arguments")).unwrap().trim().to_string()
    }

    fn reports(&self) -> usize {
        self.reports.lock().unwrap().len()
    }

    /// What stands there of images.
    fn images(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains(".apt.")).collect()
    }
}

#[test]
fn what_a_stand_in_writes_is_what_another_one_is_given() {
    let writes = format!("{PROGRESS}seq 300000\nsleep 0.05\necho late\n{SUCCESS}");
    // It reads only after it has said everything.
    let reads = format!("{PROGRESS}{SUCCESS}cat > given\n");
    for compression in [Compression::Zst, Compression::Lz4, Compression::Uncompressed] {
        for (filesystem, variant) in [("ext2", "ext2"), ("ntfs", "dd"), ("dd", "dd")] {
            let stubs = Stubs::new(&writes);
            let report = stubs.backup(filesystem, compression).unwrap();
            let wanted = if variant == "dd" { "-s /dev/no such" } else { "-c -s /dev/no such" };
            assert_eq!(stubs.arguments(), wanted);
            assert_eq!(report.variant.name(), variant);
            assert_eq!(report.image_bytes, fs::metadata(&report.destination).unwrap().len());
            assert_eq!(stubs.reports(), 2);
            let others = Stubs::new(&reads);
            others.restore(report.destination).unwrap();
            let wanted = if variant == "dd" { "-o /dev/no such" } else { "-r -o /dev/no such" };
            assert_eq!(others.arguments(), wanted);
            let given = fs::read_to_string(others.folder.join("given")).unwrap();
            assert!(given.ends_with("299999\n300000\nlate\n") && given.len() == 1_988_900);
            assert_eq!(others.reports(), 2);
        }
    }
}

#[test]
fn a_stand_in_that_fails_is_told_of_and_nothing_is_left() {
    for (script, kind) in
        [("echo data; echo words >&2; exit 1", ErrorKind::Io), ("exit 0", ErrorKind::Io)]
    {
        let stubs = Stubs::new(script);
        let error = stubs.backup("ext2", Compression::Uncompressed).unwrap_err();
        assert_eq!(error.kind(), kind);
        let failure = std::error::Error::source(&error)
            .and_then(|cause| cause.downcast_ref::<PartcloneFailure>())
            .expect("what partclone said lies below");
        assert_eq!(failure.reason, None);
        assert_eq!(failure.last_lines.contains("words"), script.contains("words"));
        assert!(stubs.images().is_empty(), "{:?}", stubs.images());
    }
}

#[test]
fn names_that_say_nothing_are_refused_before_a_stand_in_is_started() {
    let stubs = Stubs::new(SUCCESS);
    for (name, kind) in [
        ("x.gz", ErrorKind::Invalid),
        ("x-2026-03-04T0506.apt.ntfs.81GiB.gz", ErrorKind::Invalid),
        ("x-2026-03-04T0506.apt.ext2.rar", ErrorKind::Invalid),
        ("x-2026-03-04T0506.apt.xfs.gz", ErrorKind::Unsupported),
        ("x-2026-03-04T0506.apt.dd.gz.inprogress", ErrorKind::Invalid),
    ] {
        let path = stubs.folder.join(name);
        fs::write(&path, "content").unwrap();
        assert_eq!(stubs.restore(path).unwrap_err().kind(), kind, "{name}");
    }
    let missing = stubs.folder.join("y-2026-03-04T0506.apt.dd.gz");
    assert_eq!(stubs.restore(missing).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!stubs.folder.join("arguments").exists());
}

#[test]
fn a_wish_to_stop_ends_a_stand_in_at_once() {
    let stubs = Stubs::new("echo $$ > pid\necho data\nsleep 60");
    let (folder, task) = (stubs.folder.path().to_owned(), Task::silent());
    let cancelling = task.clone();
    let waiter = std::thread::spawn(move || {
        while !fs::read_to_string(folder.join("pid")).is_ok_and(|text| text.ends_with('\n')) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        cancelling.cancel();
    });
    let request = BackupRequest {
        source: "/dev/no such".into(),
        folder: stubs.folder.path().to_owned(),
        name: Some("x".into()),
        compression: Compression::Zst,
        level: None,
        verify: false,
        filesystem: None,
        partclone: stubs.partclone(),
        mode: 0o600,
        limit_bytes_per_s: None,
        threads: Threads::Automatic,
        on_report: None,
        steps: Steps::default(),
    };
    let error = perform(plan(request, &task).unwrap(), &task).unwrap_err();
    waiter.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(stubs.images().is_empty(), "{:?}", stubs.images());
    let pid = fs::read_to_string(stubs.folder.join("pid")).unwrap();
    assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists(), "it lives on");
}
