//! The program as people start it, judged by what it says, how it ends, and what is on the disks then.
//!
//! One binary, a module for each concern. A test that needs root, a tool or a filesystem asks for it through
//! `testkit::host::require` and is skipped aloud where it is missing.

mod casync;
mod cat;
mod cli;
mod clone;
mod clone_catchup;
mod clone_faults;
mod clone_mounts;
mod clone_policies;
mod clone_power_cut;
mod compare;
mod copy;
mod copy_faults;
mod copy_refused;
mod copy_sharing;
mod desync;
mod diskrsync;
mod diskrsync_hostile;
mod diskrsync_peer;
mod diskrsync_roles;
mod extract;
mod extract_faults;
mod far;
mod fuse;
mod index_image;
mod info;
mod judges;
mod live;
mod loclone;
mod make;
mod make_faults;
mod make_kill;
mod peer;
mod power_cut;
mod prune_race;
mod resume;
mod spgz;
mod spgz_copy;
mod store;
mod store_prune;
mod support;
mod sync;
mod sync_digests;
mod sync_faults;
mod sync_hostile;
mod sync_latency;
mod sync_peers;
mod sync_resume;
mod sync_since;
mod sync_ssh;
mod sync_targets;
mod verify;
