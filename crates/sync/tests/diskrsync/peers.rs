//! Our ends against peers that work as diskrsync does, one node after the other, written from the protocol alone.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::thread;

use digest::blake2b;
use fastrand::Rng;
use image::Task;
use sync::Wire;
use sync::diskrsync::{Report, Shape};
use sync::wire::pair;

use super::support::{HeldTarget, content, held, how};

const CHUNK_BYTES: usize = 131_072;

/// An image and the tree over the first bytes of it.
pub(super) struct Peer {
    pub(super) bytes: Vec<u8>,
    common: usize,
    levels: u32,
    order: usize,
}

impl Peer {
    pub(super) fn new(bytes: &[u8], common: usize) -> Self {
        let shape = Shape::of(common as u64);
        Peer { bytes: bytes.to_vec(), common, levels: shape.levels, order: shape.order as usize }
    }

    fn children(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let len = range.end - range.start;
        let border = |number: usize| range.start + len * number / self.order;
        (0..self.order).map(|number| border(number)..border(number + 1)).collect()
    }

    fn is_leaf(&self, level: u32) -> bool {
        level + 1 == self.levels
    }

    /// Taken anew each time that it is asked for.
    fn digest(&self, range: Range<usize>, level: u32) -> [u8; 64] {
        if self.is_leaf(level) {
            return blake2b::hash(&self.bytes[range]);
        }
        let children = self.children(&range);
        let below: Vec<_> =
            children.into_iter().map(|child| self.digest(child, level + 1)).collect();
        blake2b::hash(&below.concat())
    }
}

fn meet(wire: &mut Wire<'_>, size: usize) -> io::Result<usize> {
    wire.output.write_all(b"BSNC0002")?;
    wire.output.write_all(&(size as u64).to_le_bytes())?;
    wire.output.flush()?;
    let mut header = [0; 16];
    wire.input.read_exact(&mut header)?;
    assert_eq!(header[..8], *b"BSNC0002");
    Ok(u64::from_le_bytes(header[8..].try_into().unwrap()) as usize)
}

/// A target that waits for each reply before it sends the next digest: what it holds in the end.
fn slow_target(mut wire: Wire<'_>, old: &[u8]) -> io::Result<Vec<u8>> {
    let size = meet(&mut wire, old.len())?;
    let mut peer = Peer::new(old, size.min(old.len()));
    if peer.common > 0 {
        target_walk(&mut wire, &mut peer, 0..size.min(old.len()), 0)?;
    }
    if size > old.len() {
        let mut record = [0];
        while wire.input.read(&mut record)? == 1 {
            if record[0] == 1 {
                let mut chunk = Vec::new();
                wire.input.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
                peer.bytes.extend_from_slice(&chunk);
            } else {
                let mut len = [0; 8];
                wire.input.read_exact(&mut len)?;
                peer.bytes.resize(peer.bytes.len() + u64::from_le_bytes(len) as usize, 0);
            }
        }
        assert_eq!(peer.bytes.len(), size);
    }
    peer.bytes.truncate(size);
    Ok(peer.bytes)
}

fn target_walk(
    wire: &mut Wire<'_>,
    peer: &mut Peer,
    range: Range<usize>,
    level: u32,
) -> io::Result<()> {
    wire.output.write_all(&peer.digest(range.clone(), level))?;
    wire.output.flush()?;
    let mut reply = [0];
    wire.input.read_exact(&mut reply)?;
    match (reply[0], peer.is_leaf(level)) {
        (2, _) => {}
        (0, true) => peer.bytes[range].fill(0),
        (3, true) => wire.input.read_exact(&mut peer.bytes[range])?,
        (3, false) => {
            for child in peer.children(&range) {
                target_walk(wire, peer, child, level + 1)?;
            }
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// How a source of the tests answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Each digest as soon as it is there.
    OneByOne,
    /// Only when digests up to that of the next inner node, or the last, are there. A target that waits for the reply to
    /// a leaf would wait for ever.
    InGroups,
    /// Everything differs, before a digest was read.
    Blind,
}

/// A source: how often the target had to wait for it, and how many digests it sent.
struct Answering<'a, 'w> {
    wire: &'a mut Wire<'w>,
    peer: &'a Peer,
    style: Style,
    /// Answers to leaves that are held back.
    held: Vec<u8>,
    waits: u64,
    digests: u64,
}

impl Answering<'_, '_> {
    fn walk(&mut self, range: Range<usize>, level: u32) -> io::Result<()> {
        let is_leaf = self.peer.is_leaf(level);
        let mut is_equal = false;
        if self.style != Style::Blind {
            let mut digest = [0; 64];
            self.wire.input.read_exact(&mut digest)?;
            is_equal = digest == self.peer.digest(range.clone(), level);
        }
        self.digests += 1;
        let bytes = &self.peer.bytes[range.clone()];
        match (is_equal, is_leaf) {
            (true, _) => self.held.push(2),
            (false, false) => self.held.push(3),
            (false, true) if bytes.iter().all(|&byte| byte == 0) => self.held.push(0),
            (false, true) => {
                self.held.push(3);
                self.held.extend_from_slice(bytes);
            }
        }
        if !is_leaf {
            self.waits += 1;
        }
        if !is_leaf || self.style == Style::OneByOne {
            self.send()?;
        }
        if !is_leaf && !is_equal {
            for child in self.peer.children(&range) {
                self.walk(child, level + 1)?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        self.wire.output.write_all(&self.held)?;
        self.held.clear();
        self.wire.output.flush()
    }
}

/// Serves `bytes`; gives the waits and the digests.
fn source_of_tests(mut wire: Wire<'_>, bytes: &[u8], style: Style) -> io::Result<(u64, u64)> {
    let old = meet(&mut wire, bytes.len())?;
    let common = old.min(bytes.len());
    let peer = Peer::new(bytes, common);
    let mut end =
        Answering { wire: &mut wire, peer: &peer, style, held: Vec::new(), waits: 0, digests: 0 };
    if common > 0 {
        end.walk(0..common, 0)?;
        end.send()?;
    }
    let counts = (end.waits, end.digests);
    for chunk in bytes[common..].chunks(CHUNK_BYTES) {
        if chunk.iter().all(|&byte| byte == 0) {
            wire.output.write_all(&[0])?;
            wire.output.write_all(&(chunk.len() as u64).to_le_bytes())?;
        } else {
            wire.output.write_all(&[1])?;
            wire.output.write_all(chunk)?;
        }
    }
    if style == Style::Blind && common > 0 {
        let mut digests = vec![0; counts.1 as usize * 64];
        wire.input.read_exact(&mut digests)?;
    }
    Ok(counts)
}

/// Our target against a source of the tests: what it did, and the source's waits and digests.
fn our_target(source: &[u8], old: &[u8], style: Style) -> (Report, (u64, u64)) {
    let (here, there) = pair(1 << 20);
    let mut target = HeldTarget::new(held(old));
    let (report, counts) = thread::scope(|scope| {
        let peer = scope.spawn(move || source_of_tests(here, source, style).unwrap());
        let report = sync::diskrsync::target(&mut target, there, &how(2), &Task::silent()).unwrap();
        (report, peer.join().unwrap())
    });
    assert!(target.is_finished && content(&target.image) == source, "{style:?}");
    (report, counts)
}

/// Random bytes, and the same with some bytes changed.
fn changed(rng: &mut Rng, len: usize, places: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = vec![0; len];
    rng.fill(&mut bytes);
    let mut other = bytes.clone();
    places.iter().for_each(|&place| other[place] ^= 1);
    (bytes, other)
}

#[test]
fn a_target_that_waits_for_each_reply_is_served() {
    let mut rng = Rng::with_seed(1);
    for (len, old_len) in [(600_000, 600_000), (900_001, 524_289), (300_000, 700_000), (5, 0)] {
        let (mut source, mut old) = changed(&mut rng, 900_001, &[3, 262_144, 299_999]);
        source[70_000..460_000].fill(0);
        source.truncate(len);
        old.truncate(old_len);
        for capacity_bytes in [50, 65_536] {
            let (here, there) = pair(capacity_bytes);
            let got = thread::scope(|scope| {
                let old = &old;
                let peer = scope.spawn(move || slow_target(there, old).unwrap());
                let image = held(&source);
                sync::diskrsync::source(&image, here, &how(2), &Task::silent()).unwrap();
                peer.join().unwrap()
            });
            assert!(got == source, "{len} onto {old_len}");
        }
    }
}

#[test]
fn a_source_that_waits_for_each_digest_is_followed() {
    let mut rng = Rng::with_seed(2);
    for (len, old_len) in [(600_000, 600_000), (900_001, 524_289), (300_000, 700_000), (5, 0)] {
        let (mut source, mut old) = changed(&mut rng, 900_001, &[3, 262_144, 299_999]);
        source[70_000..460_000].fill(0);
        source.truncate(len);
        old.truncate(old_len);
        for style in [Style::OneByOne, Style::InGroups, Style::Blind] {
            our_target(&source, &old, style);
        }
    }
}

/// Inner nodes with a difference below them, and those of them whose children are leaves.
fn differing(source: &Peer, old: &Peer, range: Range<usize>, level: u32) -> (u64, u64) {
    if source.is_leaf(level) || source.bytes[range.clone()] == old.bytes[range.clone()] {
        return (0, 0);
    }
    let mut counts = (1, u64::from(source.is_leaf(level + 1)));
    for child in source.children(&range) {
        let below = differing(source, old, child, level + 1);
        counts = (counts.0 + below.0, counts.1 + below.1);
    }
    counts
}

/// The source of this test sends nothing until it has all digests up to that of the next inner node: a target that
/// waited more often than for inner nodes would never end.
#[test]
fn a_target_waits_for_inner_nodes_only() {
    let mut rng = Rng::with_seed(3);
    let len = 9_000_000;
    for places in [vec![], vec![0], vec![len - 1], vec![7, 100_000, 4_000_000, 4_100_000]] {
        let (source, old) = changed(&mut rng, len, &places);
        let peers = (Peer::new(&source, len), Peer::new(&old, len));
        let (inner, lowest) = differing(&peers.0, &peers.1, 0..len, 0);
        let order = peers.0.order as u64;
        let (_, (waits, digests)) = our_target(&source, &old, Style::InGroups);
        assert_eq!(digests, 1 + order * inner, "{places:?}");
        assert_eq!(waits, 1 + order * (inner - lowest), "{places:?}");
    }
}
