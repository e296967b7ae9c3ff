//! diskrsync's side of the tests: its recorded streams, containers taken apart by `gzip`, and a little peer that waits for
//! each reply as diskrsync does and takes its digests from `b2sum`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::host::{Program, TempDir, run, tool};

use crate::peer::splitmix64;
use crate::support::MIB;

/// A sync that was recorded.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What the source has.
    pub(crate) source: Rule,
    /// What the target had.
    pub(crate) target: Rule,
    /// What went from the source to the target.
    pub(crate) s2t: PathBuf,
    /// What went from the target to the source.
    pub(crate) t2s: PathBuf,
}

/// All that were recorded; of each image up to `max_bytes`.
#[track_caller]
pub(crate) fn cases(max_bytes: u64) -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sync/tests/vectors/diskrsync");
    let text = fs::read_to_string(folder.join("cases.json")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let case = |value: &Value| {
        let stream = |name: &str| folder.join(value[name]["file"].as_str().unwrap());
        Case {
            name: value["name"].as_str().unwrap().to_string(),
            source: Rule::of(&value["source"]),
            target: Rule::of(&value["target"]),
            s2t: stream("s2t"),
            t2s: stream("t2s"),
        }
    };
    let cases = list["cases"].as_array().unwrap().iter().map(case);
    let cases: Vec<Case> = cases.filter(|case| case.source.size <= max_bytes).collect();
    assert!(cases.len() >= 19, "there are {} recorded syncs", cases.len());
    cases
}

/// How an image is made: zeroes, and parts over them.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) size: u64,
    parts: Vec<(u64, usize, String, u64)>,
}

impl Rule {
    fn of(value: &Value) -> Self {
        let number = |value: &Value| value.as_u64().unwrap();
        let part = |part: &Value| {
            let kind = part[2].as_str().unwrap().to_string();
            (number(&part[0]), number(&part[1]) as usize, kind, number(&part[3]))
        };
        let parts = value["parts"].as_array().unwrap().iter().map(part).collect();
        Rule { size: number(&value["size"]), parts }
    }

    /// Makes the file, with holes where no part lies.
    #[track_caller]
    pub(crate) fn make(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.size).unwrap();
        for (offset, len, kind, seed) in &self.parts {
            file.write_all_at(&generate(kind, *seed, *len), *offset).unwrap();
        }
    }

    /// The bytes of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut image = vec![0; self.size as usize];
        for (offset, len, kind, seed) in &self.parts {
            image[*offset as usize..][..*len].copy_from_slice(&generate(kind, *seed, *len));
        }
        image
    }
}

fn generate(kind: &str, seed: u64, len: usize) -> Vec<u8> {
    match kind {
        "const" => vec![seed as u8; len],
        "quad" => {
            let byte = |i: u64| (i.wrapping_mul(i).wrapping_mul(31).wrapping_add(seed) >> 3) as u8;
            (0..len as u64).map(byte).collect()
        }
        "split" => splitmix64(seed, len),
        "text" => {
            let lines = (seed..).flat_map(|line| format!("line {line} of {seed}\n").into_bytes());
            lines.take(len).collect()
        }
        other => panic!("there is no generator {other}"),
    }
}

const HEADER_BYTES: usize = 4096;
/// A slot of the containers that diskrsync makes, its marker included.
const SLOT_BYTES: usize = 128 << 10;
const BLOCK_BYTES: usize = SLOT_BYTES - 1;

/// A container of `image` in which nothing is compressed, and zero blocks are holes.
#[track_caller]
pub(crate) fn make_container(path: &Path, image: &[u8]) {
    let file = File::create(path).unwrap();
    file.write_all_at(b"SPGZ0001\x20\0\0\0", 0).unwrap();
    for (number, block) in image.chunks(BLOCK_BYTES).enumerate() {
        let slot = (HEADER_BYTES + number * SLOT_BYTES) as u64;
        file.set_len(slot + 1 + block.len() as u64).unwrap();
        if block.iter().any(|&byte| byte != 0) {
            file.write_all_at(block, slot + 1).unwrap();
        }
    }
}

/// Whether it begins as a container does whose blocks have the usual size.
#[track_caller]
pub(crate) fn is_container(path: &Path) -> bool {
    fs::read(path).unwrap().starts_with(b"SPGZ0001\x20\0\0\0")
}

/// The image in a container whose blocks have the usual size, as `gzip` unpacks it.
#[track_caller]
pub(crate) fn image_of(path: &Path) -> Vec<u8> {
    let container = fs::read(path).unwrap();
    assert!(container.starts_with(b"SPGZ0001\x20\0\0\0"), "{} is no container", path.display());
    let mut image = Vec::new();
    let slots = container.get(HEADER_BYTES..).unwrap_or_default();
    for (number, slot) in slots.chunks(SLOT_BYTES).enumerate() {
        let is_last = (number + 1) * SLOT_BYTES > slots.len();
        match slot[0] {
            0 => image.extend(&slot[1..]),
            1 => {
                image.extend(gunzip(&slot[1..]));
                if !is_last {
                    image.resize((number + 1) * BLOCK_BYTES, 0);
                }
            }
            marker => panic!("block {number} has the marker {marker}"),
        }
    }
    image
}

#[track_caller]
fn gunzip(member: &[u8]) -> Vec<u8> {
    let scratch = TempDir::new("member");
    let path = scratch.join("member");
    fs::write(&path, member).unwrap();
    let output = tool("gzip").arg("-dc").stdin(File::open(&path).unwrap()).output().unwrap();
    // Behind the member may stand anything, up to the end of its slot.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("decompression OK"), "{said}");
    output.stdout
}

/// The two streams of an end that this program plays, and how it ended.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

/// Plays an end that is given `input` at once.
#[track_caller]
pub(crate) fn play(mut end: Program, input: &[u8]) -> Played {
    let scratch = TempDir::new("stream");
    let path = scratch.join("input");
    fs::write(&path, input).unwrap();
    let output = end.command().stdin(File::open(&path).unwrap()).output().unwrap();
    Played {
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code(),
    }
}

impl Played {
    /// Panics unless it succeeded without a word.
    #[track_caller]
    pub(crate) fn expect_silent(self) -> Self {
        assert_eq!((self.code, &*self.stderr), (Some(0), ""));
        self
    }
}

/// Joins an end to the little peer, which `speaks` on its output and input; gives what came of both.
#[track_caller]
pub(crate) fn join<R>(
    mut end: Program,
    speaks: impl FnOnce(&mut dyn Read, &mut dyn Write) -> io::Result<R>,
) -> (R, Played) {
    let scratch = TempDir::new("joined");
    let stderr = scratch.join("stderr");
    let command: &mut Command = end.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&stderr).unwrap());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let spoken = speaks(&mut from, &mut to);
    drop(to);
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).unwrap();
    let status = child.wait().unwrap();
    let said = fs::read_to_string(&stderr).unwrap();
    let result = spoken.unwrap_or_else(|cause| panic!("{cause}; the other end said:\n{said}"));
    (result, Played { stdout: rest, stderr: said, code: status.code() })
}

const MAGIC: &[u8; 8] = b"BSNC0002";
const EQUAL: u8 = 2;
const DIFFERENT: u8 = 3;
const HOLE: u8 = 0;
const BLOCK: u8 = 1;
const TAIL_BYTES: usize = 128 << 10;

/// A header.
pub(crate) fn header(size: i64) -> Vec<u8> {
    [&MAGIC[..], &size.to_le_bytes()].concat()
}

/// A source as diskrsync is one: answers a digest once it has come, and nothing before.
pub(crate) fn source(image: &[u8], from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&header(image.len() as i64))?;
    let common = image.len().min(read_header(from)?);
    if common > 0 {
        let tree = Tree::of(&image[..common]);
        tree.answer(0, 0, image, from, to)?;
    }
    let mut zeroes = 0;
    for chunk in image[common..].chunks(TAIL_BYTES) {
        if chunk.iter().all(|&byte| byte == 0) {
            zeroes += chunk.len() as u64;
            continue;
        }
        send_zeroes(&mut zeroes, to)?;
        to.write_all(&[BLOCK])?;
        to.write_all(chunk)?;
    }
    send_zeroes(&mut zeroes, to)
}

fn send_zeroes(len: &mut u64, to: &mut dyn Write) -> io::Result<()> {
    if *len > 0 {
        to.write_all(&[HOLE])?;
        to.write_all(&std::mem::take(len).to_le_bytes())?;
    }
    Ok(())
}

/// A target as diskrsync is one: goes on when it has the answer. Gives what it holds at the end.
pub(crate) fn target(
    mut image: Vec<u8>,
    from: &mut dyn Read,
    to: &mut dyn Write,
) -> io::Result<Vec<u8>> {
    to.write_all(&header(image.len() as i64))?;
    let size = read_header(from)?;
    let common = image.len().min(size);
    if common > 0 {
        let tree = Tree::of(&image[..common]);
        tree.ask(0, 0, &mut image, from, to)?;
    }
    if size > image.len() {
        let mut tail = Vec::new();
        from.read_to_end(&mut tail)?;
        let mut rest = &tail[..];
        while let Some((&record, behind)) = rest.split_first() {
            if record == BLOCK {
                let (chunk, behind) = behind.split_at(behind.len().min(TAIL_BYTES));
                image.extend(chunk);
                rest = behind;
            } else {
                assert_eq!(record, HOLE);
                let (len, behind) = behind.split_at(8);
                image.resize(image.len() + u64::from_le_bytes(len.try_into().unwrap()) as usize, 0);
                rest = behind;
            }
        }
    }
    image.truncate(size);
    assert_eq!(image.len(), size, "the tail is as long as was announced");
    Ok(image)
}

fn read_header(from: &mut dyn Read) -> io::Result<usize> {
    let mut bytes = [0; 16];
    from.read_exact(&mut bytes)?;
    assert_eq!(&bytes[..8], MAGIC);
    Ok(i64::from_le_bytes(bytes[8..].try_into().unwrap()) as usize)
}

/// The digests of all nodes, level by level, and what they cover.
struct Tree {
    order: usize,
    levels: Vec<Vec<Range<usize>>>,
    digests: Vec<Vec<Vec<u8>>>,
}

impl Tree {
    fn of(image: &[u8]) -> Self {
        let (count, order) = shape(image.len());
        let mut levels = vec![vec![0..image.len()]];
        for level in 1..count {
            let children = levels[level - 1].iter().flat_map(|node| {
                let (begin, len) = (node.start, node.len());
                (0..order).map(move |i| begin + len * i / order..begin + len * (i + 1) / order)
            });
            levels.push(children.collect());
        }
        let leaves: Vec<&[u8]> =
            levels[count - 1].iter().map(|leaf| &image[leaf.clone()]).collect();
        let mut digests = vec![b2sums(&leaves)];
        for _ in 1..count {
            let below = &digests[digests.len() - 1];
            let joined: Vec<Vec<u8>> = below.chunks(order).map(<[Vec<u8>]>::concat).collect();
            let joined: Vec<&[u8]> = joined.iter().map(Vec::as_slice).collect();
            digests.push(b2sums(&joined));
        }
        digests.reverse();
        Tree { order, levels, digests }
    }

    fn is_leaf(&self, level: usize) -> bool {
        level + 1 == self.levels.len()
    }

    fn answer(
        &self,
        level: usize,
        node: usize,
        image: &[u8],
        from: &mut dyn Read,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        let mut digest = [0; 64];
        from.read_exact(&mut digest)?;
        let bytes = &image[self.levels[level][node].clone()];
        if self.digests[level][node] == digest {
            return to.write_all(&[EQUAL]);
        }
        if !self.is_leaf(level) {
            to.write_all(&[DIFFERENT])?;
            let children = node * self.order..(node + 1) * self.order;
            return children
                .into_iter()
                .try_for_each(|child| self.answer(level + 1, child, image, from, to));
        }
        if bytes.iter().all(|&byte| byte == 0) {
            return to.write_all(&[HOLE]);
        }
        to.write_all(&[DIFFERENT])?;
        to.write_all(bytes)
    }

    fn ask(
        &self,
        level: usize,
        node: usize,
        image: &mut [u8],
        from: &mut dyn Read,
        to: &mut dyn Write,
    ) -> io::Result<()> {
        to.write_all(&self.digests[level][node])?;
        let mut reply = [0];
        from.read_exact(&mut reply)?;
        let bytes = &mut image[self.levels[level][node].clone()];
        match reply[0] {
            EQUAL => Ok(()),
            DIFFERENT if !self.is_leaf(level) => {
                let mut children = node * self.order..(node + 1) * self.order;
                children.try_for_each(|child| self.ask(level + 1, child, image, from, to))
            }
            DIFFERENT => from.read_exact(bytes),
            HOLE if self.is_leaf(level) => {
                bytes.fill(0);
                Ok(())
            }
            other => panic!("the source replies {other}"),
        }
    }
}

/// Levels and order by size.
fn shape(len: usize) -> (usize, usize) {
    const TABLE: [(u64, usize, usize); 8] = [
        (128 << 10, 1, 1),
        (256 << 10, 1, 2),
        (512 << 10, 2, 2),
        (MIB, 3, 2),
        (2 * MIB, 4, 2),
        (4 * MIB, 5, 2),
        (8 * MIB, 6, 2),
        (143_327_232, 8, 2),
    ];
    let row = TABLE.iter().find(|(below, ..)| (len as u64) < *below);
    let (_, levels, order) = row.expect("the little peer is for little images");
    (*levels, *order)
}

/// BLAKE2b of each, by coreutils.
fn b2sums(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let scratch = TempDir::new("b2sum");
    let mut command = tool("b2sum");
    command.current_dir(scratch.path());
    for (number, part) in parts.iter().enumerate() {
        let name = number.to_string();
        fs::write(scratch.join(&name), part).unwrap();
        command.arg(name);
    }
    let digest = |line: &str| {
        let hex = line.split(' ').next().unwrap();
        assert_eq!(hex.len(), 128, "{line}");
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..128).step_by(2).map(byte).collect()
    };
    let digests: Vec<Vec<u8>> = run(&mut command).lines().map(digest).collect();
    assert_eq!(digests.len(), parts.len());
    digests
}
