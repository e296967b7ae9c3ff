//! Which of the states of one cut are looked at, and how each is told in few bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;

use super::fate::Fate;
use super::picture::{Change, Pending, Picture};
use super::{FileId, Image};

/// The media that have names after so many of the namings, and the changes that their bytes depend on.
pub(super) struct Scene {
    pub(super) namings: usize,
    pub(super) image: Image,
    pub(super) undecided: Vec<Undecided>,
}

pub(super) struct Undecided {
    pub(super) pending: Pending,
    /// Whether it could lengthen its medium, however the other changes turn out.
    may_grow: bool,
}

/// How to find the fates of all changes of a scene, in less space than a list of them.
#[derive(Clone, Copy)]
pub(super) enum Recipe {
    /// The combination of fates that has this number.
    Numbered(u64),
    /// The changes whose bits are set are whole, the others lost.
    Set(u64),
    /// All are whole, or all are lost.
    All(bool),
    /// All but this one are whole, or all but this one are lost.
    AllBut(usize, bool),
    /// This one is torn; the others are whole, or lost.
    Torn(usize, bool, u64),
    /// Each is whole, lost or torn by chance.
    Random(u64),
}

/// Beside all sets of whole changes, or the extremes, so many torn and mixed states are enough.
const TORN_MAX: usize = 512;
const MIXED: usize = 256;

/// The states of one cut that are looked at.
pub(super) fn plan(
    picture: &Picture,
    states_max: usize,
    rng: &mut Rng,
) -> Vec<(Arc<Scene>, Recipe)> {
    let scenes: Vec<Arc<Scene>> =
        (0..=picture.namings.len()).map(|namings| Arc::new(scene(picture, namings))).collect();
    if let Some(plan) = plan_numbers(&scenes, states_max, all_fates, Recipe::Numbered) {
        return plan;
    }
    let half = (states_max / 2).max(1);
    let mut plan = plan_numbers(&scenes, half, all_sets, Recipe::Set)
        .unwrap_or_else(|| thinned(extremes(&scenes), half, rng));
    plan.extend(thinned(torn(&scenes, rng), half.min(TORN_MAX), rng));
    plan
}

/// Every number below `count` of each scene, if these are at most `states_max`.
fn plan_numbers(
    scenes: &[Arc<Scene>],
    states_max: usize,
    count: fn(&Scene) -> Option<u64>,
    recipe: fn(u64) -> Recipe,
) -> Option<Vec<(Arc<Scene>, Recipe)>> {
    let mut plan = Vec::new();
    for scene in scenes {
        let count = count(scene)?;
        if count > (states_max - plan.len()) as u64 {
            return None;
        }
        plan.extend((0..count).map(|number| (Arc::clone(scene), recipe(number))));
    }
    Some(plan)
}

fn all_fates(scene: &Scene) -> Option<u64> {
    scene.undecided.iter().try_fold(1u64, |count, each| count.checked_mul(each.fates()?))
}

fn all_sets(scene: &Scene) -> Option<u64> {
    1u64.checked_shl(u32::try_from(scene.undecided.len()).ok()?)
}

/// None and all of each scene first, then each change alone and all but each.
fn extremes(scenes: &[Arc<Scene>]) -> Vec<(Arc<Scene>, Recipe)> {
    let of_each = |recipes: fn(&Scene) -> Vec<Recipe>| {
        scenes.iter().flat_map(move |scene| {
            recipes(scene).into_iter().map(|recipe| (Arc::clone(scene), recipe))
        })
    };
    let singles = |scene: &Scene| {
        (0..scene.undecided.len())
            .flat_map(|one| [Recipe::AllBut(one, true), Recipe::AllBut(one, false)])
            .collect()
    };
    of_each(|_| vec![Recipe::All(false), Recipe::All(true)]).chain(of_each(singles)).collect()
}

/// Each change torn by itself, and random mixtures.
fn torn(scenes: &[Arc<Scene>], rng: &mut Rng) -> Vec<(Arc<Scene>, Recipe)> {
    let mut plan = Vec::new();
    for scene in scenes {
        for one in 0..scene.undecided.len() {
            if scene.undecided[one].torn(rng).is_some() {
                plan.push((Arc::clone(scene), Recipe::Torn(one, true, rng.u64(..))));
                plan.push((Arc::clone(scene), Recipe::Torn(one, false, rng.u64(..))));
            }
        }
        for _ in 0..MIXED.div_ceil(scenes.len()) {
            plan.push((Arc::clone(scene), Recipe::Random(rng.u64(..))));
        }
    }
    plan
}

/// At most `states_max` of `plan`, chosen by chance, but for the first two.
fn thinned<T>(mut plan: Vec<T>, states_max: usize, rng: &mut Rng) -> Vec<T> {
    if plan.len() > states_max {
        rng.shuffle(&mut plan[2..]);
        plan.truncate(states_max);
    }
    plan
}

/// The scene in which the first so many undecided namings are there.
fn scene(picture: &Picture, namings: usize) -> Scene {
    let mut image = picture.durable.clone();
    for naming in &picture.namings[..namings] {
        naming.apply(&mut image);
    }
    let named: BTreeSet<FileId> = image.names.values().copied().collect();
    image.files.retain(|id, _| named.contains(id));
    let mut shortest: BTreeMap<FileId, u64> =
        image.files.iter().map(|(&id, file)| (id, file.content.len_bytes())).collect();
    let changes = picture.changes.iter().filter(|pending| named.contains(&pending.file));
    let undecided = changes
        .map(|pending| {
            let shortest = shortest.entry(pending.file).or_default();
            if let Change::SetLen(len_bytes) = pending.change {
                *shortest = len_bytes.min(*shortest);
            }
            let is_write = matches!(pending.change, Change::Write { .. });
            let may_grow = is_write && pending.change.range().end > *shortest;
            Undecided { pending: pending.clone(), may_grow }
        })
        .collect();
    Scene { namings, image, undecided }
}

impl Recipe {
    /// What becomes of each undecided change of `scene`.
    pub(super) fn fates(self, scene: &Scene) -> Vec<Fate> {
        let undecided = &scene.undecided;
        let simple = |there: bool| if there { Fate::Whole } else { Fate::Lost };
        let there = |is_there: &dyn Fn(usize) -> bool| -> Vec<Fate> {
            (0..undecided.len()).map(|i| simple(is_there(i))).collect()
        };
        match self {
            Recipe::Numbered(mut number) => {
                let digit = |each: &Undecided| {
                    let base = each.fates().unwrap_or(1);
                    let fate = each.numbered_fate(number % base);
                    number /= base;
                    fate
                };
                undecided.iter().map(digit).collect()
            }
            Recipe::Set(bits) => there(&|i| bits >> i & 1 == 1),
            Recipe::All(are_there) => there(&|_| are_there),
            Recipe::AllBut(one, are_there) => there(&|i| (i != one) == are_there),
            Recipe::Torn(one, are_there, seed) => {
                let mut fates = there(&|_| are_there);
                if let Some(torn) = undecided[one].torn(&mut Rng::with_seed(seed)) {
                    fates[one] = torn;
                }
                fates
            }
            Recipe::Random(seed) => {
                let mut rng = Rng::with_seed(seed);
                let fate = |each: &Undecided| match rng.u8(0..3) {
                    0 => Fate::Lost,
                    1 => Fate::Whole,
                    _ => each.torn(&mut rng).unwrap_or_else(|| simple(rng.bool())),
                };
                undecided.iter().map(fate).collect()
            }
        }
    }
}

impl Undecided {
    fn fates(&self) -> Option<u64> {
        Fate::count(&self.pending.change, self.may_grow)
    }

    fn numbered_fate(&self, number: u64) -> Fate {
        Fate::numbered(&self.pending.change, self.may_grow, number)
    }

    fn torn(&self, rng: &mut Rng) -> Option<Fate> {
        Fate::torn(&self.pending.change, self.may_grow, rng)
    }
}
