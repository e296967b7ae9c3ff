//! The part of the demonstration about chunks: two versions in one store, one of them put together again, and damage.

use std::path::Path;

use testkit::host::TempDir;

use super::{Demo, IMAGE_BYTES, change_byte};

impl Demo {
    /// `new` is `old` with one byte changed.
    pub(super) fn keep_versions(
        &mut self,
        old: &Path,
        new: &Path,
        scratch: &TempDir,
    ) -> Result<(), String> {
        let store = scratch.join("default.castr");
        let indexes = [scratch.join("old.caibx"), scratch.join("new.caibx")];

        self.say(
            "keep both as chunks in one store: of the second only the chunk with that byte is new",
        );
        for (index, image) in indexes.iter().zip([old, new]) {
            let outcome = self.call("make").arg(index).arg(image).arg("--store").arg(&store).run();
            self.show(&outcome)?;
        }
        self.show(&self.call("index").arg("diff").args(&indexes).run())?;

        self.say("put the first one together from its index, and compare");
        let target = scratch.join("extracted.img");
        let outcome = self.call("extract").arg(&indexes[0]).arg(&target).run();
        self.show(&outcome)?;
        self.tell_rate("extracted", &outcome, IMAGE_BYTES);
        self.show(&self.call("compare").arg(old).arg(&target).run())?;

        self.say(
            "change a byte of it; what its index says differently is written anew, nothing else",
        );
        change_byte(&target, IMAGE_BYTES / 3)?;
        let outcome = self.call("verify").arg("--repair").arg(&indexes[0]).arg(&target).run();
        self.show(&outcome)
    }
}
