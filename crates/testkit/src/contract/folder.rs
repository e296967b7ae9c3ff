//! The contract of [`Folder`]: names that are taken, free, given and taken away.

use std::ffi::OsStr;

use ::image::{ErrorKind, Folder, Medium, Replace, Result};

use super::{Suite, must, try_rules};

/// Checks that what `make` makes, empty, is a [`Folder`].
///
/// # Panics
///
/// If a rule is broken; the message names each.
pub fn check_folder<F: Folder>(mut make: impl FnMut() -> F) {
    let mut suite = Suite::new("Folder");
    let mut bench = Bench { make: &mut make };
    try_rules!(suite, bench:
        what_is_created_is_empty_and_opens_under_its_name,
        creating_under_a_taken_name_is_refused,
        opening_under_a_free_name_finds_nothing,
        two_openings_see_the_same_bytes,
        a_rename_takes_the_bytes_along_and_frees_the_old_name,
        a_medium_stays_open_while_it_is_renamed,
        a_rename_onto_a_taken_name_is_refused_unless_allowed,
        an_allowed_rename_replaces_what_had_the_name,
        renaming_what_is_not_there_finds_nothing,
        a_removed_name_is_free_and_removing_it_again_is_no_error,
        a_sync_changes_nothing_that_is_read,
    );
    suite.finish();
}

struct Bench<'a, F> {
    make: &'a mut dyn FnMut() -> F,
}

impl<F: Folder> Bench<'_, F> {
    /// A folder with a medium under each of `names`, which holds that name.
    fn with(&mut self, names: &[&str]) -> F {
        let folder = (self.make)();
        for name in names {
            let medium = create(&folder, name);
            must(medium.write_at(name.as_bytes(), 0), || format!("cannot write {name}"));
        }
        folder
    }
}

fn create(folder: &dyn Folder, name: &str) -> Box<dyn Medium> {
    must(folder.create(OsStr::new(name)), || format!("cannot create {name}"))
}

fn open(folder: &dyn Folder, name: &str) -> Box<dyn Medium> {
    must(folder.open(OsStr::new(name)), || format!("cannot open {name}"))
}

fn rename(folder: &dyn Folder, from: &str, to: &str, replace: Replace) -> Result<()> {
    folder.rename(OsStr::new(from), OsStr::new(to), replace)
}

#[track_caller]
fn assert_holds(folder: &dyn Folder, name: &str, expected: &str) {
    let medium = open(folder, name);
    let len = must(medium.len(), || format!("cannot ask for the length of {name}"));
    let mut bytes = vec![0; len as usize];
    must(medium.read_at(&mut bytes, 0), || format!("cannot read {name}"));
    let found = String::from_utf8_lossy(&bytes);
    assert!(found == expected, "{name} holds {found:?} and should hold {expected:?}");
}

#[track_caller]
fn assert_refused<T>(result: Result<T>, expected: ErrorKind, what: &str) {
    let kind = result.err().map(|error| error.kind());
    assert!(kind == Some(expected), "{what} gave {kind:?} and should give {expected:?}");
}

fn what_is_created_is_empty_and_opens_under_its_name<F: Folder>(bench: &mut Bench<F>) {
    let folder = (bench.make)();
    create(&folder, "new");
    assert_holds(&folder, "new", "");
}

fn creating_under_a_taken_name_is_refused<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a"]);
    assert_refused(folder.create(OsStr::new("a")), ErrorKind::Exists, "creating a again");
    assert_holds(&folder, "a", "a");
}

fn opening_under_a_free_name_finds_nothing<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a"]);
    assert_refused(folder.open(OsStr::new("b")), ErrorKind::NotFound, "opening b");
}

fn two_openings_see_the_same_bytes<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a"]);
    let (one, other) = (open(&folder, "a"), open(&folder, "a"));
    must(one.write_at(b"both", 0), || "cannot write through one opening".into());
    let mut bytes = [0; 4];
    must(other.read_at(&mut bytes, 0), || "cannot read through the other opening".into());
    assert_eq!(&bytes, b"both", "the other opening reads other bytes (left)");
}

fn a_rename_takes_the_bytes_along_and_frees_the_old_name<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a"]);
    must(rename(&folder, "a", "b", Replace::Never), || "cannot rename a to b".into());
    assert_holds(&folder, "b", "a");
    assert_refused(folder.open(OsStr::new("a")), ErrorKind::NotFound, "opening a after its rename");
    create(&folder, "a");
}

fn a_medium_stays_open_while_it_is_renamed<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a"]);
    let medium = open(&folder, "a");
    must(rename(&folder, "a", "b", Replace::Never), || "cannot rename a to b".into());
    must(medium.write_at(b" and more", 1), || "cannot write after the rename".into());
    must(medium.sync(), || "cannot sync after the rename".into());
    assert_holds(&folder, "b", "a and more");
}

fn a_rename_onto_a_taken_name_is_refused_unless_allowed<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a", "b"]);
    let result = rename(&folder, "a", "b", Replace::Never);
    assert_refused(result, ErrorKind::Exists, "renaming a to b, which is taken,");
    assert_holds(&folder, "a", "a");
    assert_holds(&folder, "b", "b");
}

fn an_allowed_rename_replaces_what_had_the_name<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a", "b"]);
    must(rename(&folder, "a", "b", Replace::Allowed), || "cannot replace b by a".into());
    assert_holds(&folder, "b", "a");
    assert_refused(folder.open(OsStr::new("a")), ErrorKind::NotFound, "opening a after its rename");
    must(rename(&folder, "b", "c", Replace::Allowed), || "cannot rename b to a free name".into());
    assert_holds(&folder, "c", "a");
}

fn renaming_what_is_not_there_finds_nothing<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["b"]);
    for replace in [Replace::Never, Replace::Allowed] {
        let result = rename(&folder, "a", "c", replace);
        assert_refused(result, ErrorKind::NotFound, "renaming a, which is not there,");
    }
    assert_holds(&folder, "b", "b");
}

fn a_removed_name_is_free_and_removing_it_again_is_no_error<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a", "b"]);
    for _ in 0..2 {
        must(folder.remove(OsStr::new("a")), || "cannot remove a".into());
    }
    assert_refused(
        folder.open(OsStr::new("a")),
        ErrorKind::NotFound,
        "opening a after its removal",
    );
    create(&folder, "a");
    assert_holds(&folder, "a", "");
    assert_holds(&folder, "b", "b");
}

fn a_sync_changes_nothing_that_is_read<F: Folder>(bench: &mut Bench<F>) {
    let folder = bench.with(&["a", "b"]);
    must(folder.remove(OsStr::new("b")), || "cannot remove b".into());
    must(folder.sync(), || "cannot sync".into());
    assert_holds(&folder, "a", "a");
    assert_refused(
        folder.open(OsStr::new("b")),
        ErrorKind::NotFound,
        "opening b after its removal",
    );
}
