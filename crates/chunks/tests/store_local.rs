//! A store in a folder: its files and their permissions, what it leaves alone, a full disk, and what sweeps away.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use chunks::store::{
    Form, Length, LocalOptions, LocalStore, PruneStore, ReadStore, Removed, WriteStore,
};
use image::ErrorKind;
use testkit::host::{Filesystem, Needs, fill_disk, require, run, tool};

use crate::support::{
    all_verified, create, fetch, files, id_of, open, place, plain, put, temporaries,
};

const DAY: Duration = Duration::from_secs(86_400);

fn chunk_files(store: &Path) -> Vec<String> {
    files(store).into_iter().filter(|name| !name.starts_with(".blockprint/")).collect()
}

/// Makes a file look older.
fn age(path: &Path, by: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

#[test]
fn files_and_folders_are_named_and_permitted_as_by_casync() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let umask = sys::umask();
    for (form, end) in [(Form::Compressed, ".cacnk"), (Form::Plain, "")] {
        let path = scratch.join(form.name());
        let options = LocalOptions { form, ..LocalOptions::default() };
        let store = LocalStore::create(&path, &options).unwrap();
        let id = put(&store, &plain(1, 5000)).unwrap().hex();
        let waiting = chunk_files(&path);
        let begins = format!("{}/{id}.", &id[..4]);
        assert!(waiting.len() == 1 && waiting[0].starts_with(&begins), "{waiting:?}");
        assert_eq!(waiting[0].len(), begins.len() + 16 + 4, "{waiting:?}");
        store.flush().unwrap();
        assert_eq!(chunk_files(&path), [format!("{}/{id}{end}", &id[..4])]);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&path), 0o777 & !umask);
        assert_eq!(mode(&path.join(&id[..4])), 0o777 & !umask);
        assert_eq!(mode(&path.join(&id[..4]).join(format!("{id}{end}"))), 0o444 & !umask);
    }
}

#[test]
fn a_store_is_made_below_a_folder_that_is_there_and_opened_where_it_is() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let options = LocalOptions::default();
    let kind = |path: &Path| LocalStore::open(path, &options).unwrap_err().kind();
    assert_eq!(kind(&scratch.join("absent")), ErrorKind::NotFound);
    let below = scratch.join("absent/store");
    assert_eq!(LocalStore::create(&below, &options).unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(scratch.join("file"), "").unwrap();
    let error = LocalStore::create(&scratch.join("file"), &options).unwrap_err();
    assert!(error.full_sentence().contains("Not a directory"), "{error:?}");
    create(&scratch.join("store"));
    create(&scratch.join("store"));
}

#[test]
fn another_suffix_is_written_and_read() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let options = LocalOptions { suffix: Some(".xz".into()), ..LocalOptions::default() };
    let store = LocalStore::open(scratch.path(), &options).unwrap();
    let id = put(&store, &plain(1, 5000)).unwrap();
    store.flush().unwrap();
    assert!(place(scratch.path(), &id).with_extension("xz").exists());
    assert_eq!(all_verified(&store), [id]);
    assert!(!open(scratch.path()).has(&id).unwrap(), "it has the suffix that casync has now");
}

#[test]
fn who_reads_only_writes_nothing_and_needs_no_permission() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("image");
    testkit::host::make_image("ext4", &image, 16 << 20);
    let filesystem = Filesystem::mount(&image);
    let path = filesystem.path().join("store");
    let plain = plain(1, 5000);
    let id = put(&LocalStore::create(&path, &not_durable()).unwrap(), &plain).unwrap();
    run(tool("rm").arg("-r").arg(path.join(".blockprint")));
    drop(filesystem);
    let filesystem = Filesystem::mount_read_only(&image);
    let store = open(&filesystem.path().join("store"));
    assert!(fetch(&store, &id, Length::Exactly(5000)).unwrap().is_ok());
    assert_eq!(all_verified(&store), [id]);
    assert!(store.settled().is_ok(), "what could be removed may be asked");
    // Nobody could keep the chunk from being removed: that is said, not passed over.
    assert_eq!(store.reuse(&id).unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(put(&store, &plain).unwrap_err().kind(), ErrorKind::Denied);
}

fn not_durable() -> LocalOptions {
    LocalOptions { durable: false, ..LocalOptions::default() }
}

#[test]
fn what_is_dropped_before_it_is_flushed_leaves_nothing() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let store = create(&scratch.join("store"));
    for seed in 0..5 {
        let id = put(&store, &plain(seed, 5000)).unwrap();
        assert!(store.fetch(&id).unwrap().is_none(), "it is not durable yet");
        assert!(store.reuse(&id).unwrap(), "it need not be put again");
    }
    assert_eq!(chunk_files(store.path()).len(), 5);
    drop(store);
    let left = files(&scratch.join("store"));
    assert_eq!(left, [".blockprint/lock", ".blockprint/turnstile"]);
}

#[test]
fn a_full_batch_gets_its_names_without_a_flush() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let store = create(&scratch.join("store"));
    for number in 0..4096_u32 {
        put(&store, &number.to_le_bytes().to_vec()).unwrap();
    }
    assert_eq!(all_verified(&store).len(), 4096);
    assert_eq!(temporaries(store.path()), [""; 0]);
}

#[test]
fn a_full_disk_is_told_with_chunk_and_store_and_leaves_no_file_under_way() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    for durable in [true, false] {
        let filesystem = Filesystem::ext4(16 << 20);
        let path = filesystem.path().join("store");
        let options = LocalOptions { durable, form: Form::Plain, suffix: None };
        let store = LocalStore::create(&path, &options).unwrap();
        put(&store, &plain(1, 5000)).unwrap();
        store.flush().unwrap();
        let filler = fill_disk(filesystem.path());
        let large = plain(2, 1 << 20);
        let error = put(&store, &large).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full, "{error:?}");
        for named in [id_of(&large).hex(), path.display().to_string()] {
            assert!(error.to_string().contains(&named), "{error}");
        }
        assert_eq!(temporaries(&path), [""; 0]);
        fs::remove_file(filler).unwrap();
        put(&store, &large).unwrap();
        store.flush().unwrap();
        assert_eq!(all_verified(&store).len(), 2);
    }
}

#[test]
fn files_of_others_are_neither_listed_nor_removed() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let path = scratch.join("store");
    let store = create(&path);
    let id = put(&store, &plain(1, 5000)).unwrap();
    store.flush().unwrap();
    drop(store);
    let hex = id.hex();
    let folder = &hex[..4];
    let foreign = [
        "README".to_string(),
        format!("abcd/{hex}.cacnk"),
        format!("{folder}/README"),
        format!("{folder}/{hex}.cacnk.aes-256-gcm-00112233"),
        format!("{folder}/{}", hex.to_uppercase()),
        format!("{folder}x/{hex}.cacnk"),
    ];
    for name in &foreign {
        fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
        fs::write(path.join(name), "foreign").unwrap();
    }
    let store = open(&path);
    assert_eq!(all_verified(&store), [id]);
    let tomorrow = SystemTime::now() + DAY;
    store.sweep(tomorrow).unwrap();
    assert_eq!(store.remove(&id, tomorrow).unwrap(), Removed::Yes);
    let mut expected = foreign.to_vec();
    expected.sort();
    assert_eq!(chunk_files(&path), expected);
}

#[test]
fn empty_folders_go_with_the_last_chunk() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let path = scratch.join("store");
    let id = put(&LocalStore::create(&path, &not_durable()).unwrap(), &plain(1, 5000)).unwrap();
    fs::create_dir(path.join("ffff")).unwrap();
    let store = open(&path);
    assert_eq!(store.remove(&id, SystemTime::now() + DAY).unwrap(), Removed::Yes);
    assert!(!path.join(&id.hex()[..4]).exists());
    store.sweep(SystemTime::now()).unwrap();
    assert!(!path.join("ffff").exists());
}

#[test]
fn a_sweep_takes_files_under_way_that_are_old_and_nobodys() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let store = create(&scratch.join("store"));
    let id = put(&store, &plain(1, 5000)).unwrap();
    let (hex, path) = (id.hex(), store.path());
    let folder = path.join(&hex[..4]);
    let left_by_casync = folder.join(format!("{hex}.0123456789abcdef.tmp"));
    let left_by_desync = folder.join(".tmp-cacnk123456789");
    let young = folder.join(".tmp-cacnk1");
    for (file, hours) in [(&left_by_casync, 30), (&left_by_desync, 30), (&young, 1)] {
        fs::write(file, "half").unwrap();
        age(file, Duration::from_secs(3600) * hours);
    }
    let another = open(path);
    let swept = another.sweep(SystemTime::now() - DAY).unwrap();
    assert_eq!((swept.files, swept.len_bytes), (2, 8));
    assert!(young.exists() && !left_by_casync.exists() && !left_by_desync.exists());
    // The chunk under way is that of a writer who lives, however young a file may be swept.
    assert_eq!(another.sweep(SystemTime::now() + DAY).unwrap().files, 1);
    store.flush().unwrap();
    assert_eq!(all_verified(&store), [id]);
}

#[test]
fn a_chunk_that_is_reused_is_as_young_as_its_user_and_no_younger() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let path = scratch.join("store");
    let id = put(&LocalStore::create(&path, &not_durable()).unwrap(), &plain(1, 5000)).unwrap();
    let file = place(&path, &id);
    age(&file, DAY);
    let modified = || fs::metadata(&file).unwrap().modified().unwrap();
    let store = open(&path);
    assert!(store.reuse(&id).unwrap());
    let touched = modified();
    assert!(touched.elapsed().unwrap() < DAY / 2, "it was not refreshed");
    std::thread::sleep(Duration::from_millis(30));
    assert!(store.reuse(&id).unwrap());
    assert_eq!(modified(), touched, "once is enough, and costs less");
    // What was put though it is there is safe too.
    age(&file, DAY);
    let another = open(&path);
    put(&another, &plain(1, 5000)).unwrap();
    another.flush().unwrap();
    assert_eq!(open(&path).remove(&id, SystemTime::now() + DAY).unwrap(), Removed::Kept);
}

#[test]
fn a_chunk_that_replaces_a_bad_one_takes_the_other_form_away() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let path = scratch.join("store");
    let plain_bytes = plain(1, 5000);
    let id = id_of(&plain_bytes);
    fs::create_dir_all(place(&path, &id).parent().unwrap()).unwrap();
    fs::write(place(&path, &id), "bad").unwrap();
    let options = LocalOptions { form: Form::Plain, ..LocalOptions::default() };
    let store = LocalStore::open(&path, &options).unwrap();
    let mut packer = chunks::store::Packer::new(Form::Plain, 3).unwrap();
    store.put(&packer.seal(&id, &plain_bytes).unwrap(), true).unwrap();
    store.flush().unwrap();
    // Another program prefers the compressed one.
    assert!(fetch(&open(&path), &id, Length::Exactly(5000)).unwrap().is_ok());
}

#[test]
fn what_is_in_the_place_of_a_chunk_without_being_one_is_replaced_by_a_put() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let path = scratch.join("store");
    let store = create(&path);
    let id = id_of(&plain(1, 5000));
    let elsewhere = scratch.join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    fs::create_dir_all(place(&path, &id).parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, place(&path, &id)).unwrap();
    assert!(!store.reuse(&id).unwrap());
    put(&store, &plain(1, 5000)).unwrap();
    store.flush().unwrap();
    assert_eq!(all_verified(&store), [id]);
    assert_eq!(fs::read(&elsewhere).unwrap(), b"untouched");
}

#[test]
fn a_chunk_that_cannot_be_read_is_no_absent_one() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let path = scratch.join("store");
    let store = create(&path);
    let id = put(&store, &plain(1, 5000)).unwrap();
    store.flush().unwrap();
    let folder = path.join(&id.hex()[..4]);
    fs::rename(&folder, scratch.join("away")).unwrap();
    fs::write(&folder, "a file where a folder should be").unwrap();
    let error = store.fetch(&id).unwrap_err();
    assert!(error.to_string().contains(&id.hex()), "{error}");
    assert!(store.has(&id).is_err());
    fs::remove_file(&folder).unwrap();
    fs::set_permissions(scratch.join("away"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(scratch.join("away"), &folder).unwrap();
    assert!(store.has(&id).unwrap());
}
