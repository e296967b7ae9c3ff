//! Streams that diskrsync wrote, replayed byte for byte.

use digest::{Algorithm, Hasher};
use formats::spgz::{OnDamage, SpgzImage};
use image::{Image, ImageMut, MemoryMedium};
use serde_json::Value;
use sync::Target;

use super::support::{
    Cut, HeldTarget, content, image_of_rule, json, replay_source, replay_target, vector,
};

struct Case {
    name: String,
    value: Value,
    /// What the source sent, and what the target.
    from_source: Vec<u8>,
    from_target: Vec<u8>,
}

fn cases() -> Vec<Case> {
    let cases = json("cases.json");
    let cases: Vec<Case> = cases["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| {
            let name = value["name"].as_str().unwrap().to_string();
            let from_source = vector(&format!("{name}.s2t"));
            let from_target = vector(&format!("{name}.t2s"));
            Case { name, value: value.clone(), from_source, from_target }
        })
        .collect();
    assert_eq!(cases.len(), 20);
    cases
}

/// Each way for small images; once for a large one, which takes its time.
fn ways(case: &Case) -> &'static [(Cut, usize)] {
    let is_large = case.value["source"]["size"].as_u64().unwrap() > 100 << 20;
    if is_large {
        &[(Cut::Odd, 3)]
    } else {
        &[(Cut::Whole, 3), (Cut::Whole, 1), (Cut::Single, 1), (Cut::Odd, 3)]
    }
}

fn sha256(image: &dyn Image) -> String {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&content(image));
    hasher.finish().map(|byte| format!("{byte:02x}")).concat()
}

#[test]
fn the_images_of_the_rules_are_those_that_were_synced() {
    for case in cases() {
        for (rule, digest) in [("source", "source_sha256"), ("target", "target_sha256_before")] {
            let image = image_of_rule(&case.value[rule]);
            assert_eq!(sha256(&image), case.value[digest].as_str().unwrap(), "{}", case.name);
        }
    }
}

#[test]
fn our_source_sends_what_diskrsyncs_source_sent() {
    for case in cases() {
        let image = image_of_rule(&case.value["source"]);
        for &(cut, threads) in ways(&case) {
            let (result, sent) = replay_source(&image, &case.from_target, cut, threads);
            let report = result.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
            assert!(sent == case.from_source, "{} {cut:?}: another stream", case.name);
            let common = case.value["common_size"].as_u64().unwrap();
            assert_eq!(report.compared_bytes, common, "{}", case.name);
            assert_eq!(report.source_bytes, image.size(), "{}", case.name);
        }
    }
}

#[test]
fn our_target_sends_what_diskrsyncs_target_sent_and_holds_the_source() {
    for case in cases() {
        for &(cut, threads) in ways(&case) {
            let mut target = HeldTarget::new(image_of_rule(&case.value["target"]));
            check_target(&case, &mut target, cut, threads);
            assert!(target.is_finished, "{}", case.name);
            let after = case.value["target_sha256_after"].as_str().unwrap();
            assert_eq!(sha256(&target.image), after, "{} {cut:?}", case.name);
        }
    }
}

fn check_target(case: &Case, target: &mut dyn Target, cut: Cut, threads: usize) {
    let (result, sent) = replay_target(target, &case.from_source, cut, threads);
    let report = result.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
    assert!(sent == case.from_target, "{} {cut:?}: another stream", case.name);
    let common = case.value["common_size"].as_u64().unwrap();
    assert_eq!(report.compared_bytes, common, "{}", case.name);
}

/// What a rule says, in a container.
fn container(rule: &Value) -> SpgzImage<MemoryMedium> {
    let raw = image_of_rule(rule);
    let block_bytes = SpgzImage::<MemoryMedium>::BLOCK_BYTES_DEFAULT;
    let medium = MemoryMedium::new("container", 0);
    let image = SpgzImage::create(medium, block_bytes, raw.size()).unwrap();
    for (number, part) in content(&raw).chunks(4096).enumerate() {
        if part.iter().any(|&byte| byte != 0) {
            image.write_at(part, number as u64 * 4096).unwrap();
        }
    }
    image
}

#[test]
fn containers_at_both_ends_make_no_difference_on_the_wire() {
    for case in cases() {
        if case.value["spgz_both_ends_identical"] != true {
            continue;
        }
        let source = container(&case.value["source"]);
        let (result, sent) = replay_source(&source, &case.from_target, Cut::Whole, 3);
        result.unwrap_or_else(|error| panic!("{}: {error:?}", case.name));
        assert!(sent == case.from_source, "{}: another stream", case.name);

        let mut target = HeldTarget::new(container(&case.value["target"]));
        check_target(&case, &mut target, Cut::Odd, 3);
        let after = case.value["target_sha256_after"].as_str().unwrap();
        assert_eq!(sha256(&target.image), after, "{}", case.name);
        target.image.flush().unwrap();
        let written = SpgzImage::open(target.image.medium(), OnDamage::Report).unwrap();
        assert_eq!(sha256(&written), after, "{}: as it was written", case.name);
    }
}
