//! The variants of partclone: a fixed list, so that no text of others ever becomes a part of a program's path.

/// One of partclone's programs, `partclone.<name>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant(&'static str);

impl Variant {
    /// The one that copies all bytes.
    pub const DD: Variant = Variant("dd");

    /// The variant of that name, as it stands in file names and as lsblk names filesystems.
    pub fn by_name(_name: &str) -> Option<Self> {
        todo!()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Whether it copies all bytes, without a header.
    pub fn is_raw(self) -> bool {
        self == Variant::DD
    }
}
