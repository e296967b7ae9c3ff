//! What the daemon says: each message as the YAML text that goes out.

use std::time::SystemTime as Moment;

use engine::partitions::Compression;

use super::sources::Disk;
use super::yaml::{part_of_one, quoted, timestamp};

/// One message, a mapping, being put together in the order in which clients are used to see its fields.
pub(super) struct Message(String);

impl Message {
    /// A message of that type.
    pub(super) fn new(kind: &str) -> Self {
        Message(String::new()).text("type", kind)
    }

    /// A string.
    pub(super) fn text(self, key: &str, value: &str) -> Self {
        self.plain(key, &quoted(value))
    }

    /// A string, if there is one.
    pub(super) fn text_if(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(key, value),
            None => self,
        }
    }

    /// A string, or the mark for nothing yet.
    pub(super) fn text_or_nothing(self, key: &str, value: Option<&str>) -> Self {
        let value = value.map(quoted);
        self.plain(key, value.as_deref().unwrap_or("~"))
    }

    /// A moment. Never quoted: clients would take it for a string.
    pub(super) fn moment(self, key: &str, value: Moment) -> Self {
        self.plain(key, &timestamp(value))
    }

    /// A moment, or the mark for nothing yet.
    pub(super) fn moment_or_nothing(self, key: &str, value: Option<Moment>) -> Self {
        let value = value.map(timestamp);
        self.plain(key, value.as_deref().unwrap_or("~"))
    }

    /// A part of one, in ten thousandths.
    pub(super) fn part(self, key: &str, ten_thousandths: u32) -> Self {
        self.plain(key, &part_of_one(ten_thousandths))
    }

    /// Yes or no.
    pub(super) fn yes_or_no(self, key: &str, value: bool) -> Self {
        self.plain(key, if value { "true" } else { "false" })
    }

    /// A number.
    pub(super) fn number(self, key: &str, value: u64) -> Self {
        self.plain(key, &value.to_string())
    }

    /// What goes out.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn plain(mut self, key: &str, value: &str) -> Self {
        self.0.push_str(key);
        self.0.push_str(": ");
        self.0.push_str(value);
        self.0.push('\n');
        self
    }
}

/// `status: started` or `running`, with all disks.
pub(super) fn status(word: &str, disks: &[Disk]) -> String {
    let mut text = Message::new("status").text("status", word).finish();
    text.push_str(if disks.is_empty() { "sources: []\n" } else { "sources:\n" });
    for disk in disks {
        text.push_str(&format!("  - name: {}\n", quoted(&disk.name)));
        text.push_str(&format!("    size: {}\n", disk.size_bytes));
        text.push_str(if disk.parts.is_empty() { "    parts: []\n" } else { "    parts:\n" });
        for part in &disk.parts {
            text.push_str(&format!("      - name: {}\n", quoted(&part.name)));
            text.push_str(&format!("        size: {}\n", part.size_bytes));
            text.push_str(&format!("        mounted: {}\n", part.in_use.is_some()));
            let known = [("fstype", &part.kind), ("label", &part.label), ("uuid", &part.uuid)];
            for (key, value) in known {
                if let Some(value) = value {
                    text.push_str(&format!("        {key}: {}\n", quoted(value)));
                }
            }
        }
    }
    text + &compression_options()
}

/// The last message.
pub(super) fn dying() -> String {
    Message::new("status").text("status", "dying").finish() + &compression_options()
}

/// All of them, `gz` first: no other program is needed for any.
fn compression_options() -> String {
    let names = Compression::ALL.map(|compression| quoted(compression.name()));
    format!("compression_options: [{}]\n", names.join(", "))
}

/// The answer to what cannot be done and concerns no job. It has no `error`, which is kept for failures of jobs.
pub(super) fn request_rejected(request: Option<&str>, id: Option<&str>, reason: &str) -> String {
    let message = Message::new("request-rejected").text_if("request", request);
    message.text_if("id", id).text("reason", reason).finish()
}

/// A file has been deleted.
pub(super) fn deleted(file: &str) -> String {
    Message::new("deleted-clone").text("file", file).finish()
}

/// A file could not be deleted.
pub(super) fn not_deleted(file: &str, error: &str) -> String {
    Message::new("delete-clone-failed").text("file", file).text("error", error).finish()
}

/// This moment.
pub(super) fn now() -> Moment {
    Moment::now()
}
