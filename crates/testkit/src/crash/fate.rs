//! What a power cut may make of one change: all of it, nothing, or a torn part.

use std::fmt;
use std::ops::Range;

use fastrand::Rng;

use super::content::Content;
use super::picture::Change;

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Whole,
    /// The first so many sectors, and of a write past the end only the length up to there.
    First(usize),
    /// The sectors that are true, and of a write past the end the whole length.
    Sectors(Vec<bool>),
}

const SECTOR_BYTES: u64 = 512;
/// A change with more sectors than this has more fates than anybody will try.
const SECTORS_MAX: usize = 24;

impl Fate {
    /// How many fates `change` can have; `None` if they are too many to go through. `may_grow` says whether it
    /// could lengthen the medium: then its length has a fate of its own.
    pub(super) fn count(change: &Change, may_grow: bool) -> Option<u64> {
        let sectors = sectors(change).len();
        match change {
            Change::SetLen(_) => Some(2),
            _ if sectors > SECTORS_MAX => None,
            _ if may_grow => Some((1 << sectors) + sectors as u64),
            _ => Some(1 << sectors),
        }
    }

    /// The fate of `change` with this number, below [`Fate::count`].
    pub(super) fn numbered(change: &Change, may_grow: bool, number: u64) -> Self {
        let sectors = sectors(change).len();
        let subset = |bits: u64| Fate::Sectors((0..sectors).map(|i| bits >> i & 1 == 1).collect());
        match number {
            0 => Fate::Lost,
            1 if matches!(change, Change::SetLen(_)) => Fate::Whole,
            bits if !may_grow => subset(bits),
            bits if bits <= 1 << sectors => subset(bits - 1),
            first => Fate::First((first - (1 << sectors)) as usize),
        }
    }

    /// A random one in which the change is neither whole nor lost, if it can be torn at all.
    pub(super) fn torn(change: &Change, may_grow: bool, rng: &mut Rng) -> Option<Self> {
        let sectors = sectors(change).len();
        if matches!(change, Change::SetLen(_)) || sectors < 2 && !may_grow {
            return None;
        }
        if sectors >= 2 && rng.bool() {
            return Some(Fate::First(rng.usize(1..sectors)));
        }
        Some(Fate::Sectors((0..sectors).map(|_| sectors > 1 && rng.bool()).collect()))
    }

    /// Does to `content` what is left of `change`.
    pub(super) fn apply(&self, change: &Change, content: &mut Content) {
        match self {
            Fate::Lost => {}
            Fate::Whole => change.apply(content),
            Fate::First(count) => {
                for sector in sectors(change).take(*count) {
                    change.apply_part(sector, content);
                }
            }
            Fate::Sectors(there) => {
                if let Change::Write { .. } = change {
                    content.set_len(content.len_bytes().max(change.range().end));
                }
                for (sector, _) in sectors(change).zip(there).filter(|(_, there)| **there) {
                    change.apply_part(sector, content);
                }
            }
        }
    }
}

/// The parts of a change that are there or not, each within one sector.
fn sectors(change: &Change) -> impl ExactSizeIterator<Item = Range<u64>> + use<> {
    let range = change.range();
    let numbers = match range.is_empty() {
        true => 0..0,
        false => (range.start / SECTOR_BYTES) as usize..range.end.div_ceil(SECTOR_BYTES) as usize,
    };
    numbers.map(move |number| {
        let start = number as u64 * SECTOR_BYTES;
        start.max(range.start)..(start + SECTOR_BYTES).min(range.end)
    })
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Lost => f.write_str("lost"),
            Fate::Whole => f.write_str("whole"),
            Fate::First(count) => write!(f, "first {count} sectors"),
            Fate::Sectors(there) => {
                let there: Vec<usize> = (0..there.len()).filter(|&i| there[i]).collect();
                write!(f, "length and sectors {there:?}")
            }
        }
    }
}
