//! Partition tables: GPT and MBR with logical partitions, read, checked, adapted to another size, written.

use std::ops::Range;

/// A partition of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as the kernel counts it: from 1; logical partitions of an MBR from 5.
    pub number: u32,
    /// Where it lies, in bytes.
    pub range: Range<u64>,
    /// Its type: a GUID in text, or the type byte of an MBR in two hexadecimal digits.
    pub kind: String,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// Whether it only holds others: the extended partition of an MBR.
    pub is_container: bool,
}
