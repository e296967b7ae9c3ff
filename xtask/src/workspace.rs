//! What cargo knows of this workspace, and builds made from it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::host::try_run;

/// The workspace: where it is, and the packages in it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The top folder of the checkout.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// The members, by name.
    pub(crate) packages: Vec<Package>,
}

/// One member.
#[derive(Debug)]
pub(crate) struct Package {
    /// The name of its folder, which is how people call it.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// The members it depends on, by the names of their folders.
    pub(crate) dependencies: Vec<Dependency>,
}

/// An arrow in the crate graph.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The member it points to.
    pub(crate) name: String,
    /// Whether only tests follow it.
    pub(crate) is_dev: bool,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self, String> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        let output = try_run(&mut command)?;
        let facts =
            serde_json::from_str(&output).map_err(|cause| format!("cargo metadata: {cause}"))?;
        Ok(Workspace::read(&facts))
    }

    /// Builds the program for release as one file that needs no library of the system, and gives its path.
    ///
    /// Such a program also runs in a rescue system, and starts in half the time. Naming the target keeps the
    /// flag from build scripts and macros, which have to be libraries.
    pub(crate) fn build_program(&self) -> Result<PathBuf, String> {
        println!("building the program for release");
        let target = host_target()?;
        let mut command = cargo();
        command.args([
            "build",
            "--release",
            "--quiet",
            "--package",
            "blockprint",
            "--target",
            &target,
        ]);
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
        let status = command.status().map_err(|cause| format!("cannot start cargo: {cause}"))?;
        if !status.success() {
            return Err("the program does not build".to_string());
        }
        Ok(self.target.join(target).join("release/blockprint"))
    }

    /// Builds an example of a package for release, and says where it is.
    pub(crate) fn build_example(&self, package: &str, name: &str) -> Result<PathBuf, String> {
        let mut command = cargo();
        command.args(["build", "--release", "--quiet", "--package", package, "--example", name]);
        let status = command.status().map_err(|cause| format!("cannot start cargo: {cause}"))?;
        if !status.success() {
            return Err(format!("the example {name} does not build"));
        }
        Ok(self.target.join("release/examples").join(name))
    }

    fn read(facts: &Value) -> Self {
        let text = |value: &Value| PathBuf::from(value.as_str().unwrap_or_default());
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut packages = Vec::new();
        for package in list(&facts["packages"]) {
            let manifest = text(&package["manifest_path"]);
            let folder = manifest.parent().unwrap_or(&manifest).to_path_buf();
            let ours = list(&package["dependencies"]).into_iter().filter_map(|dependency| {
                let folder = PathBuf::from(dependency["path"].as_str()?);
                let is_dev = dependency["kind"] == "dev";
                Some(Dependency { name: last_part(&folder), is_dev })
            });
            let dependencies = ours.collect();
            packages.push(Package { name: last_part(&folder), folder, dependencies });
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Workspace {
            root: text(&facts["workspace_root"]),
            target: text(&facts["target_directory"]),
            packages,
        }
    }
}

/// The cargo that runs us, in the top folder of the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The top folder of the checkout.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the checkout")
}

/// The commit that is checked out, for reports; empty where git cannot tell.
pub(crate) fn commit() -> String {
    let mut command = Command::new("git");
    command.current_dir(root()).args(["describe", "--always", "--dirty"]);
    try_run(&mut command).unwrap_or_default().trim().to_string()
}

fn last_part(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The target that the compiler runs on, such as `x86_64-unknown-linux-gnu`.
fn host_target() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = try_run(std::process::Command::new(rustc).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(ToString::to_string).ok_or_else(|| "rustc -vV names no host".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_between_members_are_read_and_others_are_not() {
        let facts = serde_json::json!({
            "workspace_root": "/w", "target_directory": "/w/target",
            "packages": [{
                "name": "blockprint-engine", "manifest_path": "/w/crates/engine/Cargo.toml",
                "dependencies": [
                    {"name": "libc", "kind": null},
                    {"name": "blockprint-image", "kind": null, "path": "/w/crates/image"},
                    {"name": "blockprint-testkit", "kind": "dev", "path": "/w/crates/testkit"},
                ],
            }],
        });
        let workspace = Workspace::read(&facts);
        assert_eq!(workspace.packages[0].name, "engine");
        let arrow = |name: &str, is_dev| Dependency { name: name.to_string(), is_dev };
        let expected = [arrow("image", false), arrow("testkit", true)];
        assert_eq!(workspace.packages[0].dependencies, expected);
    }
}
