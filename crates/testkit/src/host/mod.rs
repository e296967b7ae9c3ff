//! Guards and judges for tests on the real machine: loop devices, mounts, filesystems, writers, fsck, the program.
//!
//! Everything here drives the system's own tools, so that a test never trusts our code about our code. What is
//! attached, mounted or started is undone by a guard's `Drop`, in whatever order guards are dropped and also when
//! the test panics; a filesystem that was left frozen is thawed first.
//!
//! ```no_run
//! use testkit::host::{self, Filesystem, Needs, Writer, fsck};
//!
//! let needs = Needs::root().filesystems(&["xfs", "ext4"]).tools(&["e2fsck"]);
//! let Some(_scratch) = host::require(&needs) else { return };
//! let outer = Filesystem::xfs(1 << 30);
//! let image = outer.path().join("disk.img");
//! host::make_image("ext4", &image, 256 << 20);
//! let inner = Filesystem::mount(&image);
//! let writer = Writer::start(inner.path(), &host::Load::default());
//! // ... clone `image` while it is in use ...
//! let acknowledged = writer.stop().unwrap();
//! drop(inner);
//! fsck::ext4(&image);
//! # let _ = acknowledged;
//! ```

mod filesystem;
pub mod fsck;
mod loop_device;
mod memory;
mod mount;
mod namespace;
mod needs;
mod program;
mod records;
mod release;
mod ssh_stand_in;
mod sshd;
mod temp_dir;
mod tool;
mod writer;

pub use filesystem::{Filesystem, make_image, partition_image};
pub use loop_device::{Attached, LoopDevice, LoopOptions, loop_devices};
pub use memory::{drop_caches, fill_disk, warm_memory};
pub use mount::{Mount, MountEntry, mounts, thaw};
pub use namespace::Namespace;
pub use needs::{Needs, require, skip};
pub use program::{Outcome, Program, Running};
pub use records::read_records;
pub use release::sweep;
pub use ssh_stand_in::SshStandIn;
pub use sshd::{SSHD_TOOLS, Sshd};
pub use temp_dir::{TempDir, test_root};
pub use tool::{has_tool, run, tool, try_run};
pub use writer::{Load, Pause, Writer};
