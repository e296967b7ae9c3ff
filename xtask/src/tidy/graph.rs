//! Rules for the crates: who may know whom, and the lints that all share.

use std::fs;

use super::Tree;

/// The drawing, from the top: each crate, and those it may depend on. Arrows run downwards only.
const DRAWING: [(&str, &[&str]); 12] = [
    ("xtask", &["testkit"]),
    ("testkit", &["chunks", "image"]),
    ("fuzzing", &["chunks", "formats", "sync", "digest", "image"]),
    ("blockprint", &["engine", "image"]),
    ("engine", &["filesystems", "chunks", "formats", "sync", "sys", "digest", "image"]),
    ("filesystems", &["formats", "sys", "image"]),
    ("chunks", &["sys", "digest", "image"]),
    ("sync", &["digest", "image"]),
    ("formats", &["digest", "image"]),
    ("sys", &["image"]),
    ("digest", &[]),
    ("image", &[]),
];

/// Tests may stand on this one wherever they are, and on all crates below their own.
const FOR_TESTS: &str = "testkit";

/// Each member is drawn, each drawn crate is a member, and each arrow is drawn.
pub(super) fn arrows_are_drawn(tree: &Tree) -> Vec<String> {
    let packages = &tree.workspace.packages;
    let mut broken = Vec::new();
    for (name, _) in DRAWING {
        if !packages.iter().any(|package| package.name == name) {
            broken.push(format!("{name} is drawn but is no member of the workspace"));
        }
    }
    for package in packages {
        let name = &package.name;
        let Some(height) = DRAWING.iter().position(|(drawn, _)| drawn == name) else {
            broken.push(format!("{name} is not drawn (xtask/src/tidy/graph.rs, ARCHITECTURE.md)"));
            continue;
        };
        for dependency in &package.dependencies {
            let target = dependency.name.as_str();
            let is_below = DRAWING[height..].iter().any(|(drawn, _)| *drawn == target);
            let is_for_tests = dependency.is_dev && (target == FOR_TESTS || is_below);
            if !is_for_tests && !DRAWING[height].1.contains(&target) {
                broken
                    .push(format!("{name} depends on {target}, which is no arrow of the drawing"));
            }
        }
    }
    broken
}

/// `missing_docs` and `unsafe_code` are denied for all, and no crate leaves the common table.
pub(super) fn lints_are_kept(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    let top = fs::read_to_string(tree.workspace.root.join("Cargo.toml")).unwrap_or_default();
    for lint in ["missing_docs", "unsafe_code"] {
        if !top.contains(&format!("{lint} = \"deny\"")) {
            broken.push(format!("the workspace does not deny {lint}"));
        }
    }
    for package in &tree.workspace.packages {
        let manifest = fs::read_to_string(package.folder.join("Cargo.toml")).unwrap_or_default();
        if !manifest.contains("[lints]\nworkspace = true") {
            broken.push(format!("{} does not take the lints of the workspace", package.name));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Package};

    fn package(name: &str, dependencies: &[(&str, bool)]) -> Package {
        let arrow = |&(name, is_dev): &(&str, bool)| Dependency { name: name.to_string(), is_dev };
        Package {
            name: name.to_string(),
            folder: "/nowhere".into(),
            dependencies: dependencies.iter().map(arrow).collect(),
        }
    }

    #[test]
    fn the_drawing_has_no_arrow_upwards() {
        let height = |name: &str| DRAWING.iter().position(|(drawn, _)| *drawn == name).unwrap();
        for (name, targets) in DRAWING {
            assert!(targets.iter().all(|target| height(target) > height(name)), "{name}");
        }
    }

    #[test]
    fn an_arrow_upwards_is_found_and_one_to_the_testkit_is_free_in_tests() {
        let mut tree = Tree::of(&[], &[]);
        let mut packages: Vec<Package> =
            DRAWING.iter().map(|(name, _)| package(name, &[])).collect();
        *packages.last_mut().unwrap() = package("image", &[("testkit", true), ("sys", false)]);
        tree.workspace.packages = packages;
        assert_eq!(
            arrows_are_drawn(&tree),
            ["image depends on sys, which is no arrow of the drawing"]
        );
    }

    #[test]
    fn a_new_crate_must_be_drawn() {
        let mut tree = Tree::of(&[], &[]);
        tree.workspace.packages = DRAWING.iter().map(|(name, _)| package(name, &[])).collect();
        tree.workspace.packages.push(package("newcomer", &[]));
        assert_eq!(arrows_are_drawn(&tree).len(), 1);
    }
}
