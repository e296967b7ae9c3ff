//! `cargo xtask tidy`: the rules of the house, each a function. `cargo test` runs them too.

mod graph;
mod pages;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::Workspace;

/// A rule gives a sentence for each place where it is broken.
type Rule = fn(&Tree) -> Vec<String>;

/// To add a rule, write its function and name it here.
const RULES: [(&str, Rule); 9] = [
    ("the crate graph is the drawing", graph::arrows_are_drawn),
    ("every crate keeps the lints of the workspace", graph::lints_are_kept),
    ("every source says in its first line what it is for", sources::begin_with_their_purpose),
    ("no source outgrows its limit", sources::stay_short),
    ("unsafe has two addresses", sources::unsafe_stays_where_it_is_allowed),
    ("every format has its page", pages::formats_have_pages),
    ("every crate stands in ARCHITECTURE.md", pages::crates_are_mapped),
    ("every subcommand stands in the README", pages::subcommands_are_shown),
    ("nothing points outside the project", pages::references_stay_inside),
];

/// The project as the rules see it.
pub(crate) struct Tree {
    workspace: Workspace,
    /// Rust sources, by path below the top folder.
    sources: Vec<(PathBuf, String)>,
    /// Markdown pages, by path below the top folder.
    pages: Vec<(PathBuf, String)>,
}

/// Checks all rules and prints what they say.
pub(crate) fn run() -> Result<(), String> {
    let tree = Tree::load()?;
    for sentence in sources::grow_long(&tree) {
        println!("note: {sentence}");
    }
    let broken = tree.broken_rules();
    for sentence in &broken {
        println!("{sentence}");
    }
    match broken.len() {
        0 => Ok(()),
        count => Err(format!("the rules of the house are broken in {count} places")),
    }
}

impl Tree {
    fn load() -> Result<Self, String> {
        let workspace = Workspace::load()?;
        let mut tree = Tree { sources: Vec::new(), pages: Vec::new(), workspace };
        let root = tree.workspace.root.clone();
        tree.collect(&root, Path::new(""))?;
        tree.sources.sort();
        tree.pages.sort();
        Ok(tree)
    }

    fn collect(&mut self, root: &Path, folder: &Path) -> Result<(), String> {
        let unreadable = |path: &Path, cause| format!("cannot read {}: {cause}", path.display());
        let entries = fs::read_dir(root.join(folder)).map_err(|cause| unreadable(folder, cause))?;
        for entry in entries {
            let name = entry.map_err(|cause| unreadable(folder, cause))?.file_name();
            let path = folder.join(&name);
            let full = root.join(&path);
            if name.to_string_lossy().starts_with('.')
                || full == self.workspace.target
                || name == "target"
            {
                continue;
            }
            if full.is_dir() {
                self.collect(root, &path)?;
                continue;
            }
            let list = match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => &mut self.sources,
                Some("md") => &mut self.pages,
                _ => continue,
            };
            list.push((path, fs::read_to_string(&full).map_err(|cause| unreadable(&full, cause))?));
        }
        Ok(())
    }

    fn broken_rules(&self) -> Vec<String> {
        let broken = |(name, rule): &(&str, Rule)| {
            rule(self)
                .into_iter()
                .map(move |sentence| format!("{name}: {sentence}"))
                .collect::<Vec<_>>()
        };
        RULES.iter().flat_map(broken).collect()
    }

    /// The text of one page, empty if there is none.
    fn page(&self, path: &str) -> &str {
        let found = self.pages.iter().find(|(known, _)| known == Path::new(path));
        found.map_or("", |(_, text)| text)
    }

    /// A tree for the tests of a rule.
    #[cfg(test)]
    fn of(sources: &[(&str, &str)], pages: &[(&str, &str)]) -> Self {
        let list = |files: &[(&str, &str)]| {
            files.iter().map(|(path, text)| (PathBuf::from(path), text.to_string())).collect()
        };
        let workspace = Workspace {
            root: "/nowhere".into(),
            target: "/nowhere/target".into(),
            packages: Vec::new(),
        };
        Tree { workspace, sources: list(sources), pages: list(pages) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_house_are_kept() {
        let broken = Tree::load().unwrap().broken_rules();
        assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    }
}
