//! The shape of the tree that both ends compute from the common size alone.

use std::fmt;
use std::ops::Range;

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

/// A node: its level, counted from the root's, which is 0; and its place on that level, from the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// 0 for the root.
    pub level: u32,
    /// 0 for the leftmost.
    pub index: u64,
}

const BLOCK_BYTES: u64 = 131_072;
/// Blocks grow until there are at most so many of them.
const BLOCKS_MAX: u64 = 1 << 20;
/// Levels of all but small trees.
const LEVELS: u32 = 8;

impl Shape {
    /// That of a tree over `size_bytes`: as diskrsync finds it with floating point, in integers.
    pub fn of(size_bytes: u64) -> Self {
        let mut block_bytes = BLOCK_BYTES;
        while size_bytes / block_bytes > BLOCKS_MAX {
            block_bytes *= 2;
        }
        let (levels, order) = match (size_bytes, size_bytes / block_bytes) {
            (0, _) => (0, 1),
            (_, 0) => (1, 1),
            (_, blocks) => match order(size_bytes, block_bytes) {
                Some(order) => (LEVELS, order),
                None => (blocks.ilog2() + 1, 2),
            },
        };
        Shape { size_bytes, levels, order, target_block_bytes: block_bytes }
    }

    /// How many leaves there are.
    pub fn leaves(&self) -> u64 {
        self.levels.checked_sub(1).map_or(0, |inner| self.order.pow(inner))
    }

    /// How many nodes there are, leaves included.
    pub fn nodes(&self) -> u64 {
        self.first_on(self.levels)
    }

    /// Length of the shortest leaf in bytes. No leaf is more than one byte longer.
    pub fn leaf_bytes(&self) -> u64 {
        self.size_bytes / self.leaves().max(1)
    }

    /// The leaf at that place.
    pub fn leaf(&self, index: u64) -> Node {
        Node { level: self.levels.saturating_sub(1), index }
    }

    /// Whether it is on the last level.
    pub fn is_leaf(&self, node: Node) -> bool {
        node.level + 1 >= self.levels
    }

    /// Its number in the order in which the levels, from the root's down, are read from left to right.
    pub fn number(&self, node: Node) -> u64 {
        self.first_on(node.level) + node.index
    }

    /// The bytes that it covers. Lengths are divided, and rounded, on each level anew.
    pub fn range(&self, node: Node) -> Range<u64> {
        let (mut start, mut len) = (0, self.size_bytes);
        for below in (0..node.level).rev() {
            let child = node.index / self.order.pow(below) % self.order;
            let (from, to) = (self.part(len, child), self.part(len, child + 1));
            start += from;
            len = to - from;
        }
        start..start + len
    }

    /// The first of its children.
    pub fn child(&self, node: Node) -> Node {
        Node { level: node.level + 1, index: node.index * self.order }
    }

    /// The node above it; none above the root.
    pub fn parent(&self, node: Node) -> Option<Node> {
        Some(Node { level: node.level.checked_sub(1)?, index: node.index / self.order })
    }

    /// What comes when all below `node` is done; nothing behind the last.
    pub fn next(&self, mut node: Node) -> Option<Node> {
        while node.level > 0 {
            if !(node.index + 1).is_multiple_of(self.order) {
                return Some(Node { index: node.index + 1, ..node });
            }
            node = self.parent(node)?;
        }
        None
    }

    /// What people are told of a node.
    pub(super) fn name(&self, node: Node) -> impl fmt::Display {
        let kind = if self.is_leaf(node) { "leaf" } else { "node" };
        let Range { start, end } = self.range(node);
        format!("the {kind} at {start}..{end}")
    }

    /// The number of the first node on that level.
    fn first_on(&self, level: u32) -> u64 {
        (0..level).map(|above| self.order.pow(above)).sum()
    }

    /// `count` of `order` parts of `len`. The product may be longer than 64 bits.
    fn part(&self, len: u64, count: u64) -> u64 {
        match len.checked_mul(count) {
            Some(product) => product / self.order,
            // At most `len`, since `count` is at most `order`.
            None => (u128::from(len) * u128::from(count) / u128::from(self.order)) as u64,
        }
    }
}

/// The number of children with which the leaves of eight levels come nearest to a block; none if even with two they
/// would be shorter than half of it.
fn order(size_bytes: u64, block_bytes: u64) -> Option<u64> {
    let mut best: Option<(u64, u64)> = None;
    for order in 2.. {
        let leaf_bytes = size_bytes / u64::pow(order, LEVELS - 1);
        let distance = block_bytes.abs_diff(leaf_bytes);
        if leaf_bytes < block_bytes / 2 || best.is_some_and(|(_, least)| distance > least) {
            break;
        }
        best = Some((order, distance));
    }
    best.map(|(order, _)| order)
}
