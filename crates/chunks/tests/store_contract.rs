//! The contract of stores, for those that there are, on the filesystems that there are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use chunks::ChunkId;
use chunks::store::{Form, LocalOptions, LocalStore, MemoryStore, WriteStore};
use testkit::contract::{StoreRules, check_store};
use testkit::host::{Filesystem, Needs, TempDir, mounts, require, skip};

const MIB: u64 = 1 << 20;

fn options(form: Form, durable: bool) -> LocalOptions {
    LocalOptions { form, durable, suffix: None }
}

/// Where a store keeps a chunk.
fn place(store: &LocalStore, id: &ChunkId) -> PathBuf {
    let hex = id.hex();
    let end = if store.form() == Form::Compressed { ".cacnk" } else { "" };
    store.path().join(&hex[..4]).join(format!("{hex}{end}"))
}

/// Stores in new folders below `folder`, in both forms, durable or not.
fn check_below(folder: &Path) {
    let count = AtomicU32::new(0);
    for form in [Form::Compressed, Form::Plain] {
        for durable in [true, false] {
            let make = || {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let path = folder.join(format!("{number}.castr"));
                LocalStore::create(&path, &options(form, durable)).unwrap()
            };
            let rules = StoreRules {
                another: &|store: &LocalStore, form| {
                    LocalStore::open(store.path(), &options(form, durable)).unwrap()
                },
                spoil: &|store, id, bytes| {
                    let path = place(store, id);
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, bytes).unwrap();
                },
            };
            check_store(make, &rules);
        }
    }
}

#[test]
fn a_store_in_memory_keeps_the_contract() {
    let count = AtomicU32::new(0);
    for form in [Form::Compressed, Form::Plain] {
        let make = || {
            let number = count.fetch_add(1, Ordering::Relaxed);
            MemoryStore::new(format!("store {number}"), form)
        };
        let rules = StoreRules {
            another: &|store: &MemoryStore, form| store.another(form),
            spoil: &|store, id, bytes| store.spoil(id, bytes.to_vec()),
        };
        check_store(make, &rules);
    }
}

#[test]
fn a_store_in_a_temporary_folder_keeps_the_contract() {
    let Some(scratch) = require(&Needs::none()) else { return };
    check_below(scratch.path());
}

#[test]
fn a_store_on_tmpfs_keeps_the_contract() {
    let shared_memory = Path::new("/dev/shm");
    if !mounts().iter().any(|entry| entry.kind == "tmpfs" && entry.point == shared_memory) {
        return skip("no tmpfs is mounted on /dev/shm");
    }
    check_below(TempDir::below(shared_memory, "blockprint-tests").path());
}

#[test]
fn a_store_on_xfs_keeps_the_contract() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    check_below(Filesystem::xfs(1024 * MIB).path());
}

#[test]
fn a_store_on_btrfs_keeps_the_contract() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["btrfs"])) else { return };
    check_below(Filesystem::btrfs(1024 * MIB).path());
}

#[test]
fn a_store_on_ext4_keeps_the_contract() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    check_below(Filesystem::ext4(1024 * MIB).path());
}
