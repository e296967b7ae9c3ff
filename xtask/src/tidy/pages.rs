//! Rules for what is written for people: pages, the README, and references in comments.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::Tree;

/// Top folders of any Linux machine, and words that stand for any path: examples may name these.
const COMMON_ROOTS: [&str; 23] = [
    "backup", "bin", "boot", "data", "dev", "etc", "home", "images", "lib", "media", "mnt",
    "mount", "opt", "path", "proc", "root", "run", "sbin", "srv", "sys", "tmp", "usr", "var",
];

/// Each folder of `formats` has a page of its name, and each page a folder.
pub(super) fn formats_have_pages(tree: &Tree) -> Vec<String> {
    let sources = tree.sources.iter().map(|(path, _)| path);
    let below = sources.filter_map(|path| path.strip_prefix("crates/formats/src").ok());
    let folders = below.filter(|path| path.components().count() > 1).filter_map(first_part);
    let formats: BTreeSet<String> = folders.collect();
    let pages = tree.pages.iter().filter_map(|(path, _)| path.strip_prefix("docs/formats").ok());
    let pages: BTreeSet<String> =
        pages.filter_map(|path| Some(path.file_stem()?.to_str()?.to_string())).collect();
    let mut broken = Vec::new();
    for name in formats.difference(&pages) {
        broken.push(format!("crates/formats/src/{name} has no docs/formats/{name}.md"));
    }
    for name in pages.difference(&formats) {
        broken.push(format!("docs/formats/{name}.md has no crates/formats/src/{name}"));
    }
    broken
}

/// ARCHITECTURE.md names the folder of each member.
pub(super) fn crates_are_mapped(tree: &Tree) -> Vec<String> {
    let page = tree.page("ARCHITECTURE.md");
    let folder = |package: &crate::workspace::Package| {
        let folder = package.folder.strip_prefix(&tree.workspace.root).unwrap_or(&package.folder);
        folder.display().to_string()
    };
    let unmapped = tree.workspace.packages.iter().map(folder).filter(|name| !page.contains(name));
    unmapped.map(|name| format!("ARCHITECTURE.md does not mention {name}")).collect()
}

/// The README shows `blockprint NAME` for each subcommand.
pub(super) fn subcommands_are_shown(tree: &Tree) -> Vec<String> {
    let program = tree.sources.iter().filter(|(path, _)| path.starts_with("crates/blockprint/src"));
    let names: Vec<String> = program.flat_map(|(_, text)| subcommands(text)).collect();
    if names.is_empty() {
        return vec!["no `enum Command` is found in crates/blockprint/src".to_string()];
    }
    let readme = tree.page("README.md");
    let hidden = names.into_iter().filter(|name| !readme.contains(&format!("blockprint {name}")));
    hidden.map(|name| format!("README.md does not show `blockprint {name}`")).collect()
}

/// The variants of `enum Command`, as clap spells them.
fn subcommands(source: &str) -> Vec<String> {
    let Some((_, rest)) = source.split_once("enum Command {\n") else {
        return Vec::new();
    };
    let body = rest.split("\n}").next().unwrap_or_default();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let name = |line: &str| {
        line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_string()
    };
    variants.map(|line| kebab_case(&name(line))).collect()
}

fn kebab_case(name: &str) -> String {
    let mut out = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Pages and comments name no file outside the project: no relative path that leads to nothing here, no absolute
/// one that only the author's machine has.
pub(super) fn references_stay_inside(tree: &Tree) -> Vec<String> {
    let mut broken = Vec::new();
    for (path, text) in &tree.pages {
        for (index, line) in text.lines().enumerate() {
            let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for reference in references(line).chain(links.filter(|link| is_file_link(link))) {
                if !leads_somewhere(tree, path, reference) {
                    broken.push(format!("{}:{} points to {reference}", path.display(), index + 1));
                }
            }
        }
    }
    for (path, text) in &tree.sources {
        let is_comment = |line: &str| line.trim_start().starts_with("//");
        for (index, line) in text.lines().enumerate().filter(|(_, line)| is_comment(line)) {
            for reference in references(line).filter(|found| !leads_somewhere(tree, path, found)) {
                broken.push(format!("{}:{} points to {reference}", path.display(), index + 1));
            }
        }
    }
    broken
}

/// The words of a line that are paths: absolute ones of at least two parts, and those that climb.
fn references(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| c.is_whitespace() || "`\"'()[]<>,;|".contains(c));
    let words = words.map(|word| word.trim_end_matches(['.', ':', '!', '?']));
    words.filter(|word| {
        let is_absolute =
            word.starts_with('/') && !word.starts_with("//") && word[1..].contains('/');
        is_absolute || word.starts_with("../")
    })
}

fn is_file_link(link: &str) -> bool {
    !link.is_empty()
        && !link.contains("://")
        && !link.starts_with('#')
        && !link.starts_with("mailto:")
}

fn leads_somewhere(tree: &Tree, page: &Path, reference: &str) -> bool {
    let reference = reference.split('#').next().unwrap_or_default();
    if reference.starts_with('/') {
        let first = first_part(Path::new(reference.trim_start_matches('/'))).unwrap_or_default();
        return COMMON_ROOTS.contains(&first.as_str())
            || first.starts_with(|c: char| c.is_uppercase());
    }
    let folder = page.parent().unwrap_or(Path::new(""));
    let mut path = PathBuf::new();
    for part in folder.join(reference).components() {
        match part {
            Component::ParentDir if !path.pop() => return false,
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    tree.workspace.root.join(&path).exists()
}

fn first_part(path: &Path) -> Option<String> {
    Some(path.components().next()?.as_os_str().to_str()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_are_read_from_their_enum() {
        let source = "enum Command {\n    /// Copies.\n    Copy(CopyArgs),\n    #[command(hide = true)]\n    \
                      WatchDog { pid: u32 },\n    Man,\n}\nenum Other {\n    Not,\n}\n";
        assert_eq!(subcommands(source), ["copy", "watch-dog", "man"]);
    }

    #[test]
    fn a_format_without_a_page_and_a_page_without_a_format_are_found() {
        let sources = [("crates/formats/src/raw/mod.rs", ""), ("crates/formats/src/probe.rs", "")];
        let tree = Tree::of(&sources, &[("docs/formats/spgz.md", "")]);
        let expected = [
            "crates/formats/src/raw has no docs/formats/raw.md",
            "docs/formats/spgz.md has no crates/formats/src/spgz",
        ];
        assert_eq!(formats_have_pages(&tree), expected);
    }

    #[test]
    fn a_path_outside_the_project_is_found() {
        let comment =
            format!("//! See {}elsewhere/file.md, /dev/loop0 and/or 1/2.", "../".repeat(5));
        let page = "[a](docs/missing.md) [b](https://example.org/x) `/somewhere/else` /etc/fstab";
        let tree = Tree::of(&[("crates/a/src/lib.rs", &comment)], &[("README.md", page)]);
        let expected = [
            "README.md:1 points to /somewhere/else".to_string(),
            "README.md:1 points to docs/missing.md".to_string(),
            format!("crates/a/src/lib.rs:1 points to {}elsewhere/file.md", "../".repeat(5)),
        ];
        assert_eq!(references_stay_inside(&tree), expected);
    }
}
