//! Rules for what is written for people: pages, the README, and references in comments.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::Tree;

/// Top folders of any Linux machine. Below them, only the second part of a path tells one machine from another.
const COMMON_ROOTS: [&str; 10] =
    ["data", "home", "media", "mnt", "opt", "root", "srv", "tmp", "usr", "var"];

/// Each folder of `formats` has a page of its name, and each page a folder there or in `chunks`, whose folders are not
/// all formats.
pub(super) fn formats_have_pages(tree: &Tree) -> Vec<String> {
    let folders = |place: &str| -> BTreeSet<String> {
        let sources = tree.sources.iter().map(|(path, _)| path);
        let below = sources.filter_map(|path| path.strip_prefix(place).ok());
        below.filter(|path| path.components().count() > 1).filter_map(first_part).collect()
    };
    let (formats, chunks) = (folders("crates/formats/src"), folders("crates/chunks/src"));
    let pages = tree.pages.iter().filter_map(|(path, _)| path.strip_prefix("docs/formats").ok());
    let pages: BTreeSet<String> =
        pages.filter_map(|path| Some(path.file_stem()?.to_str()?.to_string())).collect();
    let mut broken = Vec::new();
    for name in formats.difference(&pages) {
        broken.push(format!("crates/formats/src/{name} has no docs/formats/{name}.md"));
    }
    for name in pages.difference(&formats).filter(|name| !chunks.contains(*name)) {
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

/// Pages and sources name no file outside the project: no relative path that leads to nothing here, and none of
/// the folders in which the author's checkout happens to lie.
pub(super) fn references_stay_inside(tree: &Tree) -> Vec<String> {
    let place = place_of_checkout(&tree.workspace.root);
    let mut broken = Vec::new();
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let page_lines = tree.pages.iter().map(|(path, text)| (path, text, true));
    let source_lines = tree.sources.iter().map(|(path, text)| (path, text, false));
    for (path, text, is_page) in page_lines.chain(source_lines) {
        for (index, line) in text.lines().enumerate() {
            let mut wrong = Vec::new();
            if is_page {
                wrong.extend(links(line));
            }
            if is_page || is_comment(line) {
                wrong.extend(words(line).filter(|word| word.starts_with("../")));
            }
            wrong.retain(|reference| !leads_somewhere(tree, path, reference));
            wrong.extend(words(line).filter(|word| Path::new(word).starts_with(&place)));
            let line = index + 1;
            broken.extend(
                wrong.iter().map(|what| format!("{}:{line} points to {what}", path.display())),
            );
        }
    }
    broken
}

/// So much of the checkout's path as belongs to this machine.
fn place_of_checkout(root: &Path) -> PathBuf {
    let parts: Vec<_> = root.components().collect();
    let is_common =
        |part: &Component<'_>| COMMON_ROOTS.iter().any(|name| part.as_os_str() == *name);
    let count = if parts.get(1).is_some_and(is_common) { 3 } else { 2 };
    parts.iter().take(count).collect()
}

/// The words of a line, without what stands around paths.
fn words(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|c: char| c.is_whitespace() || "`\"'()[]<>,;|".contains(c));
    words.map(|word| word.trim_end_matches(['.', ':', '!', '?']))
}

/// The files that a line of Markdown links to.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links.filter(|link| {
        let is_elsewhere = link.contains("://") || link.starts_with("mailto:");
        !link.is_empty() && !is_elsewhere && !link.starts_with('#')
    })
}

fn leads_somewhere(tree: &Tree, page: &Path, reference: &str) -> bool {
    let reference = reference.split('#').next().unwrap_or_default();
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
        let sources = [
            ("crates/formats/src/raw/mod.rs", ""),
            ("crates/formats/src/probe.rs", ""),
            ("crates/chunks/src/index/mod.rs", ""),
        ];
        let pages = [("docs/formats/spgz.md", ""), ("docs/formats/index.md", "")];
        let tree = Tree::of(&sources, &pages);
        let expected = [
            "crates/formats/src/raw has no docs/formats/raw.md",
            "docs/formats/spgz.md has no crates/formats/src/spgz",
        ];
        assert_eq!(formats_have_pages(&tree), expected);
    }

    #[test]
    fn a_path_outside_the_project_is_found() {
        let up = "../".repeat(5);
        let comment = format!("//! See {up}elsewhere/file.md, /dev/loop0 and/or 1/2.");
        let page = "[a](docs/missing.md) [b](https://example.org/x) `/nowhere/else` /etc/fstab";
        let tree = Tree::of(&[("crates/a/src/lib.rs", &comment)], &[("README.md", page)]);
        let expected = [
            "README.md:1 points to docs/missing.md".to_string(),
            "README.md:1 points to /nowhere/else".to_string(),
            format!("crates/a/src/lib.rs:1 points to {up}elsewhere/file.md"),
        ];
        assert_eq!(references_stay_inside(&tree), expected);
    }

    #[test]
    fn a_checkout_in_a_common_folder_is_told_by_the_next_part() {
        let place = |root: &str| place_of_checkout(Path::new(root)).display().to_string();
        assert_eq!(place("/home/someone/blockprint"), "/home/someone");
        assert_eq!(place("/builds/blockprint"), "/builds");
    }
}
