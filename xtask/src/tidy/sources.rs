//! Rules for Rust sources.

use std::path::Path;

use super::Tree;

/// From here on a file is worth a look, and is listed.
const LINES_NORMAL: usize = 300;
/// No file may be longer.
const LINES_MAX: usize = 600;

/// The crates that may hold unsafe code.
const UNSAFE_CRATES: [&str; 2] = ["crates/sys", "crates/digest"];

/// The first line of each file is `//! ...`.
pub(super) fn begin_with_their_purpose(tree: &Tree) -> Vec<String> {
    let lacks = |text: &str| !text.starts_with("//! ");
    let found = tree.sources.iter().filter(|(_, text)| lacks(text));
    found.map(|(path, _)| format!("{} does not begin with `//! `", path.display())).collect()
}

/// No file is longer than [`LINES_MAX`].
pub(super) fn stay_short(tree: &Tree) -> Vec<String> {
    longer_than(LINES_MAX, tree)
}

/// The files on their way to the limit: no rule is broken yet.
pub(super) fn grow_long(tree: &Tree) -> Vec<String> {
    longer_than(LINES_NORMAL, tree)
}

fn longer_than(limit: usize, tree: &Tree) -> Vec<String> {
    let lines = tree.sources.iter().map(|(path, text)| (path, text.lines().count()));
    let long = lines.filter(|(_, count)| *count > limit);
    long.map(|(path, count)| format!("{} has {count} lines, over {limit}", path.display()))
        .collect()
}

/// Unsafe code, and leave to write it, stands in `sys` and `digest` only.
pub(super) fn unsafe_stays_where_it_is_allowed(tree: &Tree) -> Vec<String> {
    let is_allowed = |path: &Path| UNSAFE_CRATES.iter().any(|allowed| path.starts_with(allowed));
    let mut broken = Vec::new();
    for (path, text) in tree.sources.iter().filter(|(path, _)| !is_allowed(path)) {
        for (index, line) in text.lines().enumerate() {
            if is_unsafe(line) {
                broken.push(format!("{}:{} is unsafe", path.display(), index + 1));
            }
        }
    }
    broken
}

/// Whether a line begins unsafe code or allows it. Comments and prose do not count.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    if ["allow", "expect", "warn"]
        .iter()
        .any(|level| code.contains(&format!("{level}(unsafe_code")))
    {
        return true;
    }
    code.match_indices("unsafe").any(|(start, word)| {
        let before = code[..start].chars().next_back();
        let behind = &code[start + word.len()..];
        let is_word = !before.is_some_and(|c| c.is_alphanumeric() || "_\"`".contains(c));
        let openers = ["{", "fn ", "impl ", "impl<", "trait ", "extern ", "("];
        let opens = openers.iter().any(|opener| behind.trim_start().starts_with(opener));
        is_word && (opens || behind.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_is_told_from_talk_of_it() {
        let word = "unsafe";
        for line in [
            format!("    let x = {word} {{ read() }};"),
            format!("pub {word} fn read() {{"),
            format!("{word} impl Send for Image {{}}"),
            format!("#[{word}(no_mangle)]"),
            format!("#![allow({word}_code)]"),
            format!("    {word}"),
        ] {
            assert!(is_unsafe(&line), "{line}");
        }
        for line in [
            format!("// {word} {{ is what we avoid }}"),
            format!("let name = \"{word}\";"),
            format!("{word}_code = \"deny\""),
            format!("#![forbid({word}_code)]"),
        ] {
            assert!(!is_unsafe(&line), "{line}");
        }
    }

    #[test]
    fn a_file_over_the_limit_is_named() {
        let long = "//! Long.\n".repeat(LINES_MAX + 1);
        let tree = Tree::of(
            &[("crates/a/src/lib.rs", "//! Short.\n"), ("crates/b/src/lib.rs", &long)],
            &[],
        );
        assert_eq!(stay_short(&tree), ["crates/b/src/lib.rs has 601 lines, over 600"]);
    }

    #[test]
    fn a_file_without_a_purpose_is_named() {
        let tree = Tree::of(&[("crates/a/src/lib.rs", "use std::fs;\n")], &[]);
        assert_eq!(begin_with_their_purpose(&tree).len(), 1);
    }
}
