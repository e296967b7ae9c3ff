//! Manifests that are true, and such that cannot be.

use super::super::digest;
use super::*;
use proptest::prelude::*;
use serde_json::json;
use testkit::host::TempDir;

fn manifest() -> Manifest {
    let digest = digest::of_bytes(b"");
    let partition = |number: u32, range: Range<u64>, content| PartitionFacts {
        number,
        range,
        kind: "83".into(),
        name: Some("größe \"😀\"".into()),
        uuid: format!("cafe1234-0{number}"),
        filesystem: Filesystem { kind: Some("ext4".into()), ..Filesystem::default() },
        content,
    };
    let image = Content::Image {
        file: "disk-p1.apt.ext4.zst".into(),
        used_bytes: Some(77),
        file_bytes: 1234,
        blake3: None,
    };
    let swap = Content::SwapHeader {
        file: "disk-p5.swap.bin".into(),
        file_bytes: 65536,
        blake3: digest.clone(),
    };
    Manifest {
        made: "2026-03-04T0506".into(),
        disk: DiskFacts {
            path: "/dev/sdx".into(),
            model: Some("A disk".into()),
            serial: None,
            size_bytes: 1 << 30,
            sector_bytes: 512,
        },
        table: TableFacts {
            kind: "dos".into(),
            id: "cafe1234".into(),
            pieces: vec![2048 * 512..2049 * 512, 0..512],
            blake3: digest.clone(),
        },
        boot: Some(Boot { range: 512..1 << 20, blake3: digest }),
        partitions: vec![
            partition(1, 4 << 20..5 << 20, image),
            partition(2, 1 << 20..3 << 20, Content::Container),
            partition(5, 2 << 20..3 << 20, swap),
        ],
    }
}

#[test]
fn a_manifest_reads_as_it_was_written() {
    let set = TempDir::new("set");
    manifest().write(set.path()).unwrap();
    assert_eq!(Manifest::read(set.path()).unwrap(), manifest());
    assert_eq!(manifest().write(set.path()).unwrap_err().kind(), ErrorKind::Exists);
}

#[test]
fn a_manifest_that_cannot_be_true_is_refused() {
    let refused = |change: fn(&mut Manifest), part: &str| {
        let mut manifest = manifest();
        change(&mut manifest);
        let bytes = form::to_json(&manifest).to_string();
        let error = Manifest::parse(bytes.as_bytes(), "set/manifest.json").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(part), "{error} does not say {part}");
    };
    refused(|set| set.disk.sector_bytes = 1000, "sectors of 1000 bytes");
    refused(|set| set.disk.size_bytes = 4 << 20, "partition 1 is said to have");
    refused(|set| set.partitions[0].range.start += 1, "partition 1 is said to have");
    refused(|set| set.partitions[0].range = 1 << 20..3 << 20, "1 and 5 overlap");
    refused(|set| set.partitions[2].number = 1, "two partitions 1");
    refused(|set| set.table.pieces[0] = 5..100, "no sectors");
    refused(|set| set.table.pieces = vec![0..1 << 30; 3], "have");
    refused(|set| set.boot = Some(Boot { range: 0..0, ..set.boot.clone().unwrap() }), "no sectors");
    refused(|set| set.table.blake3.push('x'), "table.blake3 is no digest");
    for name in ["", ".", "..", "/etc/passwd", "../x", "a/b", "a\nb", FILE, TABLE_FILE] {
        let mut manifest = manifest();
        if let Content::Image { file, .. } = &mut manifest.partitions[0].content {
            *file = name.into();
        }
        let bytes = form::to_json(&manifest).to_string();
        let error = Manifest::parse(bytes.as_bytes(), "set/manifest.json").unwrap_err();
        assert!(error.to_string().contains("is no name for a file"), "{name}: {error}");
    }
}

#[test]
fn a_manifest_of_a_later_version_is_not_guessed_at() {
    let mut value = form::to_json(&manifest());
    value["blockprint_disk_set"] = json!(2);
    let error = Manifest::parse(value.to_string().as_bytes(), "m").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

proptest! {
    #[test]
    fn any_change_of_a_manifest_is_an_error_or_another_manifest(at in 0usize..4000, byte: u8) {
        let mut bytes = format!("{:#}", form::to_json(&manifest())).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(read) = Manifest::parse(&bytes, "m") {
            prop_assert!(read.check().is_ok());
        }
    }
}
