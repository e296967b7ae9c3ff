//! Linux for blockprint: files and devices as media, reflinks, physical extent maps, freezing, loop devices, mounts.
//!
//! Together with `digest` the only crate with `unsafe`: one function per system call in `ioctl` and
//! `freeze::watchdog`, borrowed descriptors in, results out. Nothing here decides anything: what is refused and
//! what is tried next is written in `engine`.

#![allow(unsafe_code)]

mod attach;
mod block;
mod child;
mod clock;
mod disk_state;
mod fiemap;
pub mod freeze;
pub mod holders;
mod ioctl;
mod loops;
pub mod media;
mod mounts;
pub mod pipe;
mod process;
mod reflink;

pub use attach::{AttachedPart, reread_partitions};
pub use block::{BlockDevice, DeviceNumber};
pub use child::ProcessGroup;
pub use clock::LocalTime;
pub use disk_state::{DiskState, boot_id};
pub use fiemap::{PhysicalExtent, PhysicalExtents, PhysicalMap, each_differing};
pub use loops::LoopDevice;
pub use media::{Access, Content, DeviceMedium, Directory, FileMedium, UnnamedFile};
pub use mounts::{MountEntry, MountTable, Namespace};
pub use process::{
    available_bytes, flush_filesystem, kill_self, lock_memory, online_cores, raise_stop, umask,
};
pub use reflink::{BlockSpace, clone_range, clone_range_to, clone_whole, match_copy_on_write};
