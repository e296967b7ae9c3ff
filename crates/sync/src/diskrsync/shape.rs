//! The shape of the tree that both ends compute from the common size alone.

/// How many levels, and children of each inner node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Size that the tree covers, in bytes.
    pub size_bytes: u64,
    /// Levels, the root's and the leaves' included; 0 for a size of 0.
    pub levels: u32,
    /// Children of each inner node.
    pub order: u64,
    /// The length that leaves were aimed at, in bytes.
    pub target_block_bytes: u64,
}

impl Shape {
    /// That of a tree over `size_bytes`.
    pub fn of(size_bytes: u64) -> Self {
        let _ = size_bytes;
        todo!()
    }
}
