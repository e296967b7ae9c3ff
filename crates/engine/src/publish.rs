//! Giving a finished file its name, so that a power cut leaves the old state or the new one.

use std::ffi::OsStr;

use image::{Folder, Medium, Replace, Result};

use crate::Steps;

/// Puts `medium`, which stands in `folder` under `partial`, under `name`.
///
/// Flush, rename, flush of the folder: after a power cut at any moment, `name` stands for what it stood for
/// before, or for all of the new content, never for a part of it.
pub(crate) fn publish(
    folder: &dyn Folder,
    medium: &dyn Medium,
    partial: &OsStr,
    name: &OsStr,
    replace: Replace,
    steps: &Steps,
) -> Result<()> {
    medium.sync()?;
    steps.reach("flushed");
    folder.rename(partial, name, replace)?;
    steps.reach("renamed");
    folder.sync()?;
    steps.reach("published");
    Ok(())
}

/// Writes a small file as a whole: under `temporary` first, then under `name`, replacing what stood there.
pub(crate) fn replace_small(
    folder: &dyn Folder,
    temporary: &OsStr,
    name: &OsStr,
    content: &[u8],
) -> Result<()> {
    folder.remove(temporary)?;
    let medium = folder.create(temporary)?;
    let published = medium.write_at(content, 0).and_then(|()| {
        publish(folder, &medium, temporary, name, Replace::Allowed, &Steps::default())
    });
    if published.is_err() {
        // What is said of is the error before.
        let _ = folder.remove(temporary);
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ErrorKind;
    use testkit::crash::CrashDisk;

    const NEW: [u8; 1800] = [7; 1800];

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    /// Writes a file and publishes it, over `old` if that is given, and looks at each power cut.
    fn check(old: Option<&[u8]>) {
        let disk = CrashDisk::new();
        if let Some(old) = old {
            disk.add("name", old);
        }
        let folder = disk.folder();
        let medium = folder.create(name("partial")).unwrap();
        medium.write_at(&NEW[..1000], 0).unwrap();
        medium.write_at(&NEW[1000..], 1000).unwrap();
        let (partial, name) = (name("partial"), name("name"));
        let replace = if old.is_some() { Replace::Allowed } else { Replace::Never };
        publish(&folder, &medium, partial, name, replace, &Steps::default()).unwrap();
        let promised = disk.operations();
        let (mut were_old, mut were_new) = (0, 0);
        disk.each_cut(|cut, disk| {
            let found = disk.bytes("name");
            let is_new = found.as_deref() == Some(&NEW[..]);
            assert!(
                is_new || found.as_deref() == old,
                "a mixture of {} bytes",
                found.unwrap().len()
            );
            assert!(is_new || cut.after() < promised, "it was promised");
            were_new += u32::from(is_new);
            were_old += u32::from(!is_new);
        });
        assert!(were_old > 5 && were_new > 1, "{were_old} cuts left the old, {were_new} the new");
    }

    #[test]
    fn after_each_power_cut_a_new_name_is_absent_or_complete() {
        check(None);
    }

    #[test]
    fn after_each_power_cut_a_replaced_name_is_old_or_complete() {
        check(Some(b"old"));
        check(Some(&[1; 5000]));
    }

    #[test]
    fn after_each_power_cut_a_small_file_is_one_of_those_that_were_written() {
        let disk = CrashDisk::new();
        let folder = disk.folder();
        // Longer and shorter ones, and one left by an earlier program.
        let versions = [vec![1; 700], vec![2; 10], vec![3; 1500]];
        disk.add("name.new", b"left over");
        let mut written = vec![disk.operations()];
        for version in &versions {
            replace_small(&folder, name("name.new"), name("name"), version).unwrap();
            written.push(disk.operations());
        }
        disk.each_cut(|cut, disk| {
            let done = written.iter().filter(|&&operations| operations <= cut.after()).count() - 1;
            let found = disk.bytes("name");
            let now = done.checked_sub(1).map(|last| &versions[last]);
            let next = versions.get(done);
            assert!(
                found.as_ref() == now || found.as_ref() == next,
                "after {done} versions it is another"
            );
        });
    }

    #[test]
    fn a_publishing_that_fails_leaves_the_old_and_nothing_else() {
        for operations in 1..9 {
            let disk = CrashDisk::new();
            disk.add("name", b"old");
            let folder = disk.folder();
            disk.pull_plug_after(operations);
            let result = replace_small(&folder, name("name.new"), name("name"), &NEW);
            let cuts = disk.cuts_now().check_each(|_, disk| {
                let found = disk.bytes("name").unwrap();
                assert!(found == NEW || found == b"old" && result.is_err());
            });
            assert!(cuts > 0);
        }
    }

    #[test]
    fn a_name_that_was_taken_meanwhile_is_not_replaced() {
        let disk = CrashDisk::new();
        let folder = disk.folder();
        let medium = folder.create(name("partial")).unwrap();
        disk.add("name", b"of somebody else");
        let (partial, name) = (name("partial"), name("name"));
        let error = publish(&folder, &medium, partial, name, Replace::Never, &Steps::default());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(disk.bytes("name").unwrap(), b"of somebody else");
        assert!(disk.bytes("partial").is_some());
    }
}
