//! The command line as a whole: exit codes, help, pages, completions, colours, pipes, progress, quiet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use testkit::host::{Needs, Outcome, TempDir, has_tool, require, run, skip, tool};

use crate::support::{MIB, Part, blockprint, copy, make, make_mixed, make_noise};

const COMMANDS: [&str; 18] = [
    "info",
    "copy",
    "compare",
    "sync",
    "clone",
    "cat",
    "make",
    "extract",
    "backup",
    "restore",
    "backups",
    "devices",
    "verify",
    "index",
    "store",
    "daemon",
    "completions",
    "man",
];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn call(scratch: &TempDir, arguments: &[&str]) -> Outcome {
    blockprint(scratch).args(arguments).run()
}

#[test]
fn each_exit_code_of_the_source_is_in_the_help_and_in_the_manual_page() {
    let scratch = TempDir::new("cli");
    let source =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/exit.rs")).unwrap();
    let used: Vec<&str> = source
        .lines()
        .filter_map(|line| {
            let kind = line.trim().strip_prefix("ErrorKind::")?;
            kind.split("=> ").nth(1)?.strip_suffix(',')
        })
        .filter(|code| code.chars().all(|c| c.is_ascii_digit()))
        .collect();
    assert!(used.len() >= 10, "the table of codes was not understood: {used:?}");
    let help = call(&scratch, &["--help"]).expect_ok().stdout;
    call(&scratch, &["man", &scratch.path().display().to_string()]).expect_ok();
    let page = fs::read_to_string(scratch.join("blockprint-copy.1")).unwrap();
    let listed = |text: &str, code: &str| {
        text.lines()
            .any(|line| line.trim().strip_prefix(code).is_some_and(|rest| rest.starts_with("  ")))
    };
    for code in used.into_iter().chain(["0", "1", "2", "3", "20", "130"]) {
        assert!(listed(&help, code), "{code} is not in the help:\n{help}");
        assert!(listed(&page, code), "{code} is not in the manual page:\n{page}");
    }
}

#[test]
fn a_command_line_that_is_not_understood_ends_with_2() {
    let scratch = TempDir::new("cli");
    for arguments in [
        &["nosuch"][..],
        &["copy", "a"],
        &["copy", "--nosuch", "a", "b"],
        &["copy", "--limit", "fast", "a", "b"],
        &["copy", "--threads", "0", "a", "b"],
        &["compare", "--on-read-error", "zero", "a", "b"],
        &["sync", "a"],
        &["sync", "--format", "index", "a", "b"],
        &["sync", "--serve", "target", "a", "b"],
        &[],
    ] {
        let outcome = call(&scratch, arguments).expect_exit(2);
        assert!(!outcome.stderr.is_empty() && outcome.stdout.is_empty(), "{outcome}");
    }
}

#[test]
fn each_command_has_help_with_examples_and_the_version_is_told() {
    let scratch = TempDir::new("cli");
    let help = call(&scratch, &["--help"]).expect_ok().stdout;
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in the help:\n{help}");
        for arguments in [&["help", command][..], &[command, "--help"]] {
            let text = call(&scratch, arguments).expect_ok().stdout;
            assert!(text.contains(&format!("  blockprint {command}")), "no example:\n{text}");
        }
    }
    let version = call(&scratch, &["--version"]).expect_ok().stdout;
    assert_eq!(version, format!("blockprint {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn each_call_of_the_program_in_the_readme_exists() {
    let scratch = TempDir::new("cli");
    let mut count = 0;
    for page in ["README.md", "docs/copy.md", "docs/clone.md", "docs/compare.md"] {
        let Ok(text) = fs::read_to_string(project().join(page)) else { continue };
        let mut is_code = false;
        for line in text.lines() {
            if line.starts_with("```") {
                is_code = !is_code;
            }
            let Some(call) = line.trim().strip_prefix("blockprint ").filter(|_| is_code) else {
                continue;
            };
            let words: Vec<&str> = call.split('#').next().unwrap().split_whitespace().collect();
            let Some(command) = words.first().filter(|word| !word.starts_with('-')) else {
                continue;
            };
            assert!(COMMANDS.contains(command), "{page} calls {line}");
            let help = self::call(&scratch, &[command, "--help"]).expect_ok().stdout;
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap();
                assert!(
                    help.contains(option),
                    "{page} calls {line}, but {option} is not in its help"
                );
            }
            count += 1;
        }
    }
    assert!(count >= 5, "only {count} calls were found in the documentation");
}

#[test]
fn completions_are_accepted_by_the_shells() {
    let scratch = TempDir::new("cli");
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef blockprint"),
        ("fish", "complete -c blockprint"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let text = call(&scratch, &["completions", shell]).expect_ok().stdout;
        assert!(text.contains(mark), "{shell}: no {mark}");
        for command in COMMANDS {
            assert!(text.contains(command), "{shell}: no {command}");
        }
        let script = scratch.join(shell);
        fs::write(&script, text).unwrap();
        if ["bash", "zsh", "fish"].contains(&shell) && has_tool(shell) {
            run(tool(shell).arg("-n").arg(&script));
        }
    }
    // What it offers, as bash asks for it.
    const ASK: &str = "source ./bash; COMP_WORDS=(blockprint comp); COMP_CWORD=1; COMPREPLY=(); \
                       _blockprint blockprint comp blockprint; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let offered = run(tool("bash").args(["-c", ASK]).current_dir(scratch.path()));
    assert_eq!(offered, "compare\ncompletions\n");
}

#[test]
fn manual_pages_are_accepted_by_man() {
    let scratch = TempDir::new("cli");
    let folder = scratch.join("new/man1");
    call(&scratch, &["man", &folder.display().to_string()]).expect_ok();
    let pages = crate::support::names(&folder);
    let mut expected: Vec<String> =
        COMMANDS.iter().map(|command| format!("blockprint-{command}.1")).collect();
    expected.push("blockprint.1".to_string());
    expected.sort();
    assert_eq!(pages, expected);
    let renderers = ["groff", "mandoc", "man"].into_iter().find(|name| has_tool(name));
    for page in pages {
        let path = folder.join(&page);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(".TH "), "{page} is no manual page");
        let rendered = match renderers {
            Some("groff") => {
                tool("groff").args(["-man", "-Tascii", "-P-cbou", "-ww"]).arg(&path).output()
            }
            Some("mandoc") => tool("mandoc").args(["-W", "error"]).arg(&path).output(),
            Some(_) => tool("man").arg("--warnings").arg("-l").arg(&path).output(),
            None => return skip("no renderer of manual pages is installed"),
        };
        let rendered = rendered.unwrap();
        let said = String::from_utf8_lossy(&rendered.stderr).into_owned();
        assert!(rendered.status.success() && said.is_empty(), "{page}: {said}");
        let shown = String::from_utf8_lossy(&rendered.stdout).into_owned();
        for part in ["NAME", "SYNOPSIS", "OPTIONS", "Exit codes", "Examples"] {
            let wanted = part != "Examples" || page != "blockprint.1";
            assert!(shown.contains(part) || !wanted, "{page} has no {part}:\n{shown}");
        }
    }
}

const ESCAPE: char = '\u{1b}';

#[test]
fn there_are_no_escape_codes_in_pipes_and_files() {
    let scratch = TempDir::new("cli");
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    make_noise(&a, 160, 2 * MIB);
    crate::support::overwrite(&a, 0, b"QFI\xfb");
    let outcomes = [
        copy(&scratch, &a, &b).args(["--limit", "8M"]).run().expect_ok().expect_error("warning:"),
        copy(&scratch, &a, &b).run().expect_exit(11),
        copy(&scratch, &a, &b).arg("--nosuch").run().expect_exit(2),
        blockprint(&scratch).arg("compare").arg(&a).arg(&b).run().expect_ok(),
        blockprint(&scratch).args(["info", "--map"]).arg(&a).run().expect_ok(),
        call(&scratch, &["--help"]),
    ];
    for outcome in outcomes {
        assert!(!outcome.stdout.contains(ESCAPE) && !outcome.stderr.contains(ESCAPE), "{outcome}");
    }
}

#[test]
fn colours_are_used_when_asked_for_and_never_with_no_color() {
    let scratch = TempDir::new("cli");
    let missing = |more: &[&str]| blockprint(&scratch).args(["info", "/nosuch"]).args(more);
    let is_coloured = |outcome: Outcome| outcome.expect_exit(10).stderr.contains(ESCAPE);
    assert!(!is_coloured(missing(&[]).run()));
    assert!(is_coloured(missing(&["--color", "always"]).run()));
    assert!(!is_coloured(missing(&["--color", "never"]).run()));
    let Some(_scratch) = require(&Needs::none().tools(&["script"])) else { return };
    let program = env!("CARGO_BIN_EXE_blockprint");
    let terminal = |environment: &str, more: &str| {
        on_a_terminal(&format!("{environment} {program} info {more} /nosuch"))
    };
    assert!(terminal("env", "").contains(ESCAPE));
    assert!(!terminal("env NO_COLOR=1", "").contains(ESCAPE));
    assert!(terminal("env NO_COLOR=", "").contains(ESCAPE), "empty means unset");
    assert!(!terminal("env", "--color never").contains(ESCAPE));
    let help = on_a_terminal(&format!("env NO_COLOR=1 {program} --help"));
    assert!(!help.contains(ESCAPE), "{help}");
}

/// What a command writes to the terminal that it is given.
fn on_a_terminal(line: &str) -> String {
    let mut command = tool("script");
    command.args(["--quiet", "--return", "--command", line, "/dev/null"]).env("TERM", "xterm");
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

#[test]
fn a_reader_that_has_gone_is_no_trouble() {
    let scratch = TempDir::new("cli");
    let (image, other) = (scratch.join("image"), scratch.join("other"));
    let shape = [Part::Noise(4096), Part::Hole(4096)].repeat(3000);
    make(&image, 161, &shape);
    make(&other, 162, &shape);
    let program = env!("CARGO_BIN_EXE_blockprint");
    for (arguments, expected) in [
        (format!("info --map {}", image.display()), 0),
        (format!("info --map --json {}", image.display()), 0),
        (format!("compare --list 9999 {} {}", image.display(), other.display()), 1),
        ("completions bash".to_string(), 0),
        ("help copy".to_string(), 0),
    ] {
        let script = format!("set -o pipefail; {program} {arguments} | head -c 1 > /dev/null");
        let output = tool("bash").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said, "", "{arguments}");
        assert_eq!(output.status.code(), Some(expected), "{arguments}");
    }
    // A copy does not fail, and does not stop, because nobody listens.
    let target = scratch.join("target");
    let mut quiet = copy(&scratch, &image, &target).arg("--json");
    let mut child = quiet.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    crate::support::assert_same(&image, &target);
}

#[test]
fn json_is_one_object_a_line_and_nothing_else() {
    let scratch = TempDir::new("cli");
    let (image, target) = (scratch.join("image"), scratch.join("target"));
    make_mixed(&image, 163, 2);
    let slow = copy(&scratch, &image, &target).args(["--json", "--verify", "--limit", "6M"]).run();
    assert_eq!(slow.stderr, "", "with --json everything goes to standard output");
    let progress = slow.expect_ok().events("progress");
    assert!(!progress.is_empty(), "no progress was told");
    for event in &progress {
        let done = event["done_bytes"].as_u64().unwrap();
        assert!(done <= event["total_bytes"].as_u64().unwrap(), "{event}");
        assert!(["copy", "flush", "verify"].contains(&event["phase"].as_str().unwrap()), "{event}");
    }
    let copying = progress.iter().find(|event| event["phase"] == "copy").unwrap();
    assert!(copying["bytes_per_s"].as_u64().unwrap() > 0, "{copying}");
    assert!(copying["left_s"].is_u64(), "{copying}");
    let mut last = 0;
    for event in progress.iter().filter(|event| event["phase"] == "copy") {
        let done = event["done_bytes"].as_u64().unwrap();
        assert!(done >= last, "progress went back: {progress:?}");
        last = done;
    }
    let failed = copy(&scratch, &image, &target).arg("--json").run().expect_exit(11);
    assert_eq!(failed.stderr, "");
    let errors = failed.events("error");
    assert_eq!(errors.len(), 1, "{failed}");
    assert_eq!(errors[0]["kind"], "exists");
    assert_eq!(errors[0]["location"]["name"], target.display().to_string());
    let resumed = copy(&scratch, &image, &target).args(["--force", "--resume", "--json"]).run();
    assert_eq!(resumed.expect_ok().events("note").len(), 1);
}

#[test]
fn quiet_says_nothing_but_errors() {
    let scratch = TempDir::new("cli");
    let (image, target) = (scratch.join("image"), scratch.join("target"));
    make_mixed(&image, 164, 1);
    let done = copy(&scratch, &image, &target).args(["--quiet", "--resume"]).run().expect_ok();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    let failed = copy(&scratch, &image, &target).arg("--quiet").run().expect_exit(11);
    assert_eq!(failed.stdout, "");
    assert_eq!(failed.stderr.lines().count(), 1, "{failed}");
    let asked = blockprint(&scratch).args(["info", "--quiet"]).arg(&image).run().expect_ok();
    assert!(asked.stdout.contains("raw"), "what was asked for is shown: {asked}");
}

#[test]
fn progress_on_a_terminal_is_a_bar_with_rate_and_time_left() {
    let Some(scratch) = require(&Needs::none().tools(&["script"])) else { return };
    let image = scratch.join("image");
    make_noise(&image, 165, 8 * MIB);
    let program = env!("CARGO_BIN_EXE_blockprint");
    let line = |more: &str, name: &str| {
        let (image, target) = (image.display(), scratch.join(name));
        format!("{program} copy --limit 6M {more} {image} {}", target.display())
    };
    let shown = on_a_terminal(&line("", "a"));
    assert!(shown.contains("copy ") && shown.contains("/ 8 MiB"), "{shown:?}");
    assert!(shown.contains("MiB/s  0:0"), "no rate and time left: {shown:?}");
    assert!(shown.contains("=>"), "no bar: {shown:?}");
    let shown = on_a_terminal(&line("--progress none", "b"));
    assert!(!shown.contains("=>") && !shown.contains(ESCAPE), "{shown:?}");
    let shown = on_a_terminal(&line("--quiet", "c"));
    assert_eq!(shown, "");
}

#[test]
fn progress_in_lines_tells_share_rate_and_time_left() {
    let scratch = TempDir::new("cli");
    let (image, target) = (scratch.join("image"), scratch.join("target"));
    make_noise(&image, 166, 10 * MIB);
    let outcome =
        copy(&scratch, &image, &target).args(["--progress", "plain", "--limit", "3M"]).run();
    let outcome = outcome.expect_ok();
    let line = outcome.stderr.lines().find(|line| line.starts_with("copy "));
    let line = line.unwrap_or_else(|| panic!("no progress: {outcome}"));
    for part in ["%, ", " of 10 MiB, ", "MiB/s, 0:0", " left"] {
        assert!(line.contains(part), "no {part:?} in {line:?}");
    }
    assert!(!outcome.stderr.contains('\r'));
}

#[test]
fn a_limit_is_kept() {
    let scratch = TempDir::new("cli");
    let (image, target) = (scratch.join("image"), scratch.join("target"));
    make_noise(&image, 167, 4 * MIB);
    let outcome = copy(&scratch, &image, &target).args(["--limit", "4M"]).run().expect_ok();
    assert!(outcome.elapsed.as_millis() >= 900, "4 MiB at 4 MiB/s took {:?}", outcome.elapsed);
}
