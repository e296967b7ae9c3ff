//! The part of the demonstration about making one image like another: here, over a pipe, and as a container.

use std::path::Path;

use testkit::host::{SshStandIn, TempDir};

use super::{Demo, IMAGE_BYTES, sizes};

impl Demo {
    /// `target` is `image` with one byte changed.
    pub(super) fn sync(
        &mut self,
        image: &Path,
        target: &Path,
        scratch: &TempDir,
    ) -> Result<(), String> {
        self.say(
            "what would have to be written to make the one with that byte like the other again?",
        );
        let outcome = self.call("sync").arg("--dry-run").arg(image).arg(target).run();
        self.show(&outcome)?;

        self.say("do it as if it were on another machine: one end is called through what stands in for ssh");
        let ssh = SshStandIn::direct();
        let outcome = self
            .call("sync")
            .arg("--remote-command")
            .arg(&self.program)
            .arg(image)
            .arg(format!("there:{}", target.display()))
            .env("PATH", ssh.search_path(&[]))
            .run();
        self.show(&outcome)?;
        self.tell_rate("synced", &outcome, IMAGE_BYTES);
        self.show(&self.call("compare").arg(image).arg(target).run())?;

        self.say("keep it as an spgz container: compressed, and an image like any other");
        let container = scratch.join("disk.spgz");
        let outcome = self.call("copy").arg("--verify").arg(image).arg(&container).run();
        self.show(&outcome)?;
        println!("   {}: {}", container.display(), sizes(&container)?);
        let outcome = self.call("sync").arg(target).arg(&container).run();
        self.show(&outcome)
    }
}
