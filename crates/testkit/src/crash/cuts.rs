//! The states that power cuts could leave, one after another.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use fastrand::Rng;

use super::CrashDisk;
use super::fate::Fate;
use super::picture::{Op, Pending, Picture};
use super::plan::{Recipe, Scene, Undecided, plan};

/// Iterator over the states that power cuts could leave, cut after cut in the order of the log.
///
/// A cut yields all its states if they are at most [`states_max`](Cuts::states_max). Otherwise it yields all
/// sets of whole changes, if those are at most half as many, or else none, all, each one alone, and all but each
/// one; and beside these a sample of torn ones: each change torn while the others are there, and while they are
/// not, and random mixtures. What is still too many is thinned out by chance, with the same seed each time.
///
/// The work grows with the square of the changes that go without a sync: for hundreds of them, ask for fewer
/// states or for some of the cuts.
pub struct Cuts {
    picture: Arc<Picture>,
    begun: bool,
    log: std::vec::IntoIter<Op>,
    /// What is left of the present cut.
    plan: std::vec::IntoIter<(Arc<Scene>, Recipe)>,
    within: RangeInclusive<usize>,
    states_max: usize,
    seed: u64,
}

/// One state that a power cut could leave. `Display` tells what it lacks.
pub struct Cut {
    picture: Arc<Picture>,
    scene: Arc<Scene>,
    recipe: Recipe,
}

const STATES_MAX: usize = 1 << 12;
/// A description names no more changes than this.
const TOLD_MAX: usize = 16;

impl Cuts {
    pub(super) fn new(start: Picture, log: Vec<Op>) -> Self {
        Cuts {
            picture: Arc::new(start),
            begun: false,
            within: 0..=log.len(),
            log: log.into_iter(),
            plan: Vec::new().into_iter(),
            states_max: STATES_MAX,
            seed: 0,
        }
    }

    /// Only the cuts after so many operations.
    #[must_use]
    pub fn within(mut self, operations: RangeInclusive<usize>) -> Self {
        self.within = operations;
        self
    }

    /// At most so many states per cut; 4096 if nothing is said.
    #[must_use]
    pub fn states_max(mut self, states: usize) -> Self {
        self.states_max = states.max(2);
        self
    }

    /// Other samples, where samples are taken.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Calls `check` for each state, and says how many there were.
    ///
    /// # Panics
    ///
    /// If `check` does: the message then tells the cut.
    pub fn check_each(self, mut check: impl FnMut(&Cut, CrashDisk)) -> usize {
        let mut count = 0;
        for cut in self {
            count += 1;
            if let Err(message) = crate::caught(|| check(&cut, cut.reboot())) {
                panic!("{message}\nin state {count}: {cut}");
            }
        }
        count
    }
}

impl Iterator for Cuts {
    type Item = Cut;

    fn next(&mut self) -> Option<Cut> {
        loop {
            if let Some((scene, recipe)) = self.plan.next() {
                return Some(Cut { picture: Arc::clone(&self.picture), scene, recipe });
            }
            if self.begun {
                Arc::make_mut(&mut self.picture).advance(&self.log.next()?);
            }
            self.begun = true;
            if self.within.contains(&self.picture.after) {
                let mut rng = Rng::with_seed(self.seed ^ self.picture.after as u64);
                self.plan = plan(&self.picture, self.states_max, &mut rng).into_iter();
            }
        }
    }
}

impl Cut {
    /// After how many operations the power was cut.
    pub fn after(&self) -> usize {
        self.picture.after
    }

    /// The disk as it is found when power is back: what it holds is durable, its log is empty.
    pub fn reboot(&self) -> CrashDisk {
        let mut image = self.scene.image.clone();
        for (undecided, fate) in self.scene.undecided.iter().zip(self.recipe.fates(&self.scene)) {
            let pending = &undecided.pending;
            if let Some(file) = image.files.get_mut(&pending.file) {
                fate.apply(&pending.change, &mut file.content);
            }
        }
        CrashDisk::of(image)
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "power cut after {} operations", self.after())?;
        let namings = self.picture.namings.len();
        if namings > 0 {
            write!(f, "; {} of {namings} namings are there", self.scene.namings)?;
        }
        let fates = self.recipe.fates(&self.scene);
        let lacking: Vec<_> = self
            .scene
            .undecided
            .iter()
            .zip(&fates)
            .filter(|(_, fate)| **fate != Fate::Whole)
            .collect();
        for (Undecided { pending: Pending { number, file, change }, .. }, fate) in
            lacking.iter().take(TOLD_MAX)
        {
            let label = &self.scene.image.files[file].label;
            write!(f, "; {change} of {label} (operation {number}): {fate}")?;
        }
        if lacking.len() > TOLD_MAX {
            write!(f, "; and {} more", lacking.len() - TOLD_MAX)?;
        }
        Ok(())
    }
}
