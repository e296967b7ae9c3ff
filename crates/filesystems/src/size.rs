//! How large a filesystem is by its own superblock.
