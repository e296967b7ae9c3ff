//! Inputs of the vectors, built from the rules that stand beside them. See `vectors/README.md`.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of the vectors, or a file in it.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// The JSON in a file of the vectors.
pub(crate) fn json(name: &str) -> Value {
    let text = std::fs::read(path(name)).unwrap_or_else(|cause| panic!("{name}: {cause}"));
    serde_json::from_slice(&text).unwrap_or_else(|cause| panic!("{name}: {cause}"))
}

/// The input that `rule` describes: `segments`, one behind the other, then `patch` over them.
pub(crate) fn input(rule: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    for segment in list(&rule["segments"]) {
        match segment["kind"].as_str() {
            Some("splitmix64") => {
                random(number(&segment["seed"]), number(&segment["len"]), &mut bytes);
            }
            Some("byte") => {
                let len = bytes.len() + number(&segment["len"]) as usize;
                bytes.resize(len, number(&segment["value"]) as u8);
            }
            Some("lines") => {
                let first = number(&segment["first"]);
                for line in first..first + number(&segment["count"]) {
                    bytes.extend_from_slice(format!("{line:08}\n").as_bytes());
                }
            }
            Some("repeat") => {
                bytes.extend(hex(&segment["hex"]).repeat(number(&segment["count"]) as usize));
            }
            _ => panic!("no rule is known for {segment}"),
        }
    }
    for patch in list(&rule["patch"]) {
        let (at, new) = (number(&patch["at"]) as usize, hex(&patch["hex"]));
        bytes[at..at + new.len()].copy_from_slice(&new);
    }
    bytes
}

/// SplitMix64, each number with its lowest byte first.
fn random(seed: u64, len: u64, bytes: &mut Vec<u8>) {
    let end = bytes.len() + len as usize;
    let mut state = seed;
    while bytes.len() < end {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^= word >> 31;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(end);
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
    let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits");
    (0..text.len()).step_by(2).map(pair).collect()
}

#[test]
fn the_generator_is_that_of_the_vectors() {
    let rule = serde_json::json!({
        "segments": [{ "kind": "splitmix64", "seed": 1, "len": 1 << 20 }]
    });
    let bytes = input(&rule);
    assert_eq!(bytes[..4], [0xc1, 0x5c, 0x02, 0x89]);
    let digest = chunks::ChunkId::of(chunks::Algorithm::Sha256, &bytes).hex();
    assert_eq!(digest, "85b66b3a5816d686deb42f2d2473d9a7121ceb75c822b838f958c76ca86ed8ea");
}

#[test]
fn a_rule_makes_what_it_says() {
    let rule = serde_json::json!({
        "segments": [
            { "kind": "byte", "value": 255, "len": 2 },
            { "kind": "lines", "first": 9, "count": 2 },
            { "kind": "repeat", "hex": "0102", "count": 2 },
        ],
        "patch": [{ "at": 1, "hex": "7a" }],
    });
    assert_eq!(input(&rule), b"\xffz00000009\n00000010\n\x01\x02\x01\x02");
}
