//! The digests of all nodes of an image's tree, taken on all cores.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use digest::blake2b::{self, Hasher, Lanes};
use digest::{Message, is_zero};
use image::{Image, Phase, Result, Task};

use super::holes::Holes;
use super::{Node, Shape};

/// The first `N` bytes of the digest of each node: a source, which only compares, needs 32 of the 64.
pub(super) struct Tree<const N: usize> {
    shape: Shape,
    /// By number of the node.
    digests: Vec<[u8; N]>,
    zeroes: Zeroes,
}

type Digest = [u8; DIGEST_BYTES];

/// Length of a digest in bytes.
pub(super) const DIGEST_BYTES: usize = 64;

/// How much of leaves the threads may hold in memory together, in bytes: lanes hold whole leaves. Where more would be
/// needed, leaves are read in pieces.
const LEAVES_BYTES: u64 = 128 << 20;

/// The longest leaf that is held in memory as a whole, in bytes.
const LEAF_BYTES_MAX: u64 = 2 << 20;

/// Leaves that a thread holds: as many as there are lanes, one that is read, and some.
const LEAVES_HELD: u64 = 10;

/// How much of a longer leaf is read at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;

impl<const N: usize> Tree<N> {
    /// Reads `image`, as much of it as `shape` covers, and takes all digests, on `threads` threads.
    pub(super) fn of(
        image: &dyn Image,
        shape: Shape,
        threads: usize,
        task: &Task,
    ) -> Result<Tree<N>> {
        task.begin(Phase::Hash, shape.size_bytes);
        let threads = (threads.max(1) as u64).min(shape.leaves());
        let longest = shape.leaf_bytes() + 1;
        let is_long = longest > LEAF_BYTES_MAX || longest * LEAVES_HELD * threads > LEAVES_BYTES;
        Self::grow(image, shape, threads, is_long.then_some(PIECE_BYTES), task)
    }

    /// The same, with leaves read as a whole, or in pieces of that length.
    fn grow(
        image: &dyn Image,
        shape: Shape,
        threads: u64,
        piece_bytes: Option<usize>,
        task: &Task,
    ) -> Result<Tree<N>> {
        const { assert!(N <= DIGEST_BYTES) };
        let zeroes = Zeroes::of(&shape);
        let queue = Mutex::new(Queue { shape, next: 0, holes: Holes::of(image) });
        let fold = Mutex::new(Fold::new(shape));
        let is_over = AtomicBool::new(false);
        let worker = Worker {
            image,
            queue: &queue,
            fold: &fold,
            zeroes: &zeroes,
            is_over: &is_over,
            piece_bytes,
            task,
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| worker.run())).collect();
            let mut result = Ok(());
            for worker in workers {
                let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                result = result.and(done);
            }
            result
        })?;
        let digests = fold.into_inner().unwrap_or_else(PoisonError::into_inner).digests;
        Ok(Tree { shape, digests, zeroes })
    }

    /// The beginning of the digest of `node`.
    pub(super) fn digest(&self, node: Node) -> &[u8; N] {
        &self.digests[self.shape.number(node) as usize]
    }

    /// Whether all bytes of that leaf were zero.
    pub(super) fn is_zero(&self, leaf: Node) -> bool {
        let Range { start, end } = self.shape.range(leaf);
        // Where there was such a leaf, its digest was taken from there.
        self.zeroes.known(end - start).is_some_and(|zero| zero.starts_with(self.digest(leaf)))
    }
}

/// One of the threads, or rather what they share.
struct Worker<'a, const N: usize> {
    image: &'a dyn Image,
    queue: &'a Mutex<Queue<'a>>,
    fold: &'a Mutex<Fold<N>>,
    zeroes: &'a Zeroes,
    /// Somebody has failed.
    is_over: &'a AtomicBool,
    /// Leaves are too long to be held in memory: so much of one is.
    piece_bytes: Option<usize>,
    task: &'a Task,
}

/// A leaf in memory.
struct Leaf {
    node: Node,
    bytes: Vec<u8>,
}

impl Message for Leaf {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        (number == 0).then_some(&self.bytes)
    }
}

impl<const N: usize> Worker<'_, N> {
    /// Takes digests until there are no more leaves, or somebody has failed.
    fn run(&self) -> Result<()> {
        let done = match self.piece_bytes {
            Some(piece_bytes) => self.run_in_pieces(piece_bytes),
            None => self.run_in_lanes(),
        };
        if done.is_err() {
            self.is_over.store(true, Ordering::Relaxed);
        }
        done
    }

    fn run_in_lanes(&self) -> Result<()> {
        let mut lanes = Lanes::<Leaf, DIGEST_BYTES>::new();
        let mut spare: Vec<Vec<u8>> = Vec::new();
        while let Some((node, range)) = self.next()? {
            let mut bytes = spare.pop().unwrap_or_default();
            bytes.resize((range.end - range.start) as usize, 0);
            self.image.read_at(&mut bytes, range.start)?;
            if is_zero(&bytes) {
                self.learn(node, bytes.len() as u64, &self.zeroes.digest(bytes.len() as u64));
                spare.push(bytes);
                continue;
            }
            lanes.push(Leaf { node, bytes }, &mut |Leaf { node, bytes }, digest| {
                self.learn(node, bytes.len() as u64, &digest);
                spare.push(bytes);
            });
        }
        lanes.finish(&mut |Leaf { node, bytes }, digest| {
            self.learn(node, bytes.len() as u64, &digest);
        });
        Ok(())
    }

    fn run_in_pieces(&self, piece_bytes: usize) -> Result<()> {
        let mut piece = vec![0; piece_bytes];
        while let Some((node, range)) = self.next()? {
            let mut hasher = Hasher::new();
            let mut zero_bytes = 0;
            let mut at = range.start;
            while at < range.end {
                self.task.checkpoint()?;
                let len = (range.end - at).min(piece_bytes as u64);
                let piece = &mut piece[..len as usize];
                self.image.read_at(piece, at)?;
                at += len;
                // As long as there is nothing else, zeroes are counted.
                if at - range.start == zero_bytes + len && is_zero(piece) {
                    zero_bytes += len;
                    continue;
                }
                update_with_zeroes(&mut hasher, std::mem::take(&mut zero_bytes));
                hasher.update(piece);
            }
            let len = range.end - range.start;
            let digest = if zero_bytes == len { self.zeroes.digest(len) } else { hasher.finish() };
            self.learn(node, len, &digest);
        }
        Ok(())
    }

    /// The next leaf that has to be read.
    fn next(&self) -> Result<Option<(Node, Range<u64>)>> {
        while !self.is_over.load(Ordering::Relaxed) {
            self.task.checkpoint()?;
            let Some((node, range, is_hole)) = lock(self.queue).take()? else { break };
            if !is_hole {
                return Ok(Some((node, range)));
            }
            let len = range.end - range.start;
            self.learn(node, len, &self.zeroes.digest(len));
        }
        Ok(None)
    }

    fn learn(&self, leaf: Node, len_bytes: u64, digest: &Digest) {
        lock(self.fold).learn(leaf, digest);
        self.task.advance(len_bytes);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The leaves that nobody has taken yet.
struct Queue<'a> {
    shape: Shape,
    next: u64,
    holes: Holes<'a>,
}

impl Queue<'_> {
    /// The next leaf, its bytes, and whether these are known to be zero.
    fn take(&mut self) -> Result<Option<(Node, Range<u64>, bool)>> {
        if self.next == self.shape.leaves() {
            return Ok(None);
        }
        let node = self.shape.leaf(self.next);
        self.next += 1;
        let range = self.shape.range(node);
        let is_hole = self.holes.zeroes_until(range.start, range.end)? == range.end;
        Ok(Some((node, range, is_hole)))
    }
}

/// Makes the digests of inner nodes of those below, which come in any order.
struct Fold<const N: usize> {
    shape: Shape,
    digests: Vec<[u8; N]>,
    /// Inner nodes, by number, of which some children are known.
    open: HashMap<u64, Open>,
}

/// An inner node whose digest cannot be taken yet.
struct Open {
    missing: u64,
    /// Those of all children, in order.
    digests: Vec<u8>,
}

impl<const N: usize> Fold<N> {
    fn new(shape: Shape) -> Self {
        let digests = vec![[0; N]; shape.nodes() as usize];
        Fold { shape, digests, open: HashMap::new() }
    }

    fn learn(&mut self, mut node: Node, digest: &Digest) {
        let mut digest = *digest;
        loop {
            let kept = &mut self.digests[self.shape.number(node) as usize];
            kept.copy_from_slice(&digest[..N]);
            let Some(parent) = self.shape.parent(node) else { return };
            let number = self.shape.number(parent);
            let order = self.shape.order;
            let open = self.open.entry(number).or_insert_with(|| Open {
                missing: order,
                digests: vec![0; order as usize * DIGEST_BYTES],
            });
            let place = (node.index % order) as usize * DIGEST_BYTES;
            open.digests[place..place + DIGEST_BYTES].copy_from_slice(&digest);
            open.missing -= 1;
            if open.missing > 0 {
                return;
            }
            digest = blake2b::hash(&open.digests);
            self.open.remove(&number);
            node = parent;
        }
    }
}

/// The digests of leaves that are all zero. There are at most two lengths of leaves.
struct Zeroes {
    shortest_bytes: u64,
    digests: [OnceLock<Digest>; 2],
}

impl Zeroes {
    fn of(shape: &Shape) -> Self {
        Zeroes { shortest_bytes: shape.leaf_bytes(), digests: [OnceLock::new(), OnceLock::new()] }
    }

    fn digest(&self, len_bytes: u64) -> Digest {
        let take = || {
            let mut hasher = Hasher::new();
            update_with_zeroes(&mut hasher, len_bytes);
            hasher.finish()
        };
        self.place(len_bytes).map_or_else(take, |place| *place.get_or_init(take))
    }

    /// The same if it was ever asked for.
    fn known(&self, len_bytes: u64) -> Option<&Digest> {
        self.place(len_bytes)?.get()
    }

    fn place(&self, len_bytes: u64) -> Option<&OnceLock<Digest>> {
        self.digests.get(len_bytes.checked_sub(self.shortest_bytes)? as usize)
    }
}

fn update_with_zeroes(hasher: &mut Hasher<DIGEST_BYTES>, mut len_bytes: u64) {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    while len_bytes > 0 {
        let len = len_bytes.min(ZEROES.len() as u64);
        hasher.update(&ZEROES[..len as usize]);
        len_bytes -= len;
    }
}

#[cfg(test)]
mod tests {
    use image::{Extent, ExtentKind};

    use super::*;

    /// Bytes of which nothing is known without reading.
    struct Bytes(Vec<u8>);

    impl Image for Bytes {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
            Ok(())
        }

        fn extent_at(&self, offset: u64) -> Result<Extent> {
            Ok(Extent::new(offset..self.size(), ExtentKind::Data))
        }
    }

    /// One node after the other, each from its children.
    fn plain(bytes: &[u8], shape: &Shape, node: Node) -> Digest {
        if shape.is_leaf(node) {
            let Range { start, end } = shape.range(node);
            return blake2b::hash(&bytes[start as usize..end as usize]);
        }
        let first = shape.child(node);
        let children: Vec<_> = (0..shape.order)
            .map(|child| plain(bytes, shape, Node { index: first.index + child, ..first }))
            .collect();
        blake2b::hash(&children.concat())
    }

    #[test]
    fn digests_are_the_same_in_lanes_and_in_pieces_and_on_any_number_of_threads() {
        let mut bytes: Vec<u8> =
            (0..1_500_007_u32).map(|at| (at.wrapping_mul(at) >> 9) as u8).collect();
        // Leaves of 187,500 bytes or one more: zero, zero up to the last byte, zero from the second half on.
        bytes[187_500..375_001].fill(0);
        bytes[375_001..562_501].fill(0);
        bytes[656_000..750_003].fill(0);
        let shape = Shape::of(bytes.len() as u64);
        let last = shape.range(shape.leaf(2)).end as usize - 1;
        bytes[last] = 1;
        let image = Bytes(bytes.clone());
        for (threads, piece_bytes) in
            [(1, None), (3, None), (1, Some(1000)), (2, Some(187_500)), (1, Some(1 << 20))]
        {
            let tree =
                Tree::<DIGEST_BYTES>::grow(&image, shape, threads, piece_bytes, &Task::silent())
                    .unwrap();
            for level in 0..shape.levels {
                for index in 0..shape.order.pow(level) {
                    let node = Node { level, index };
                    let expected = plain(&bytes, &shape, node);
                    assert!(*tree.digest(node) == expected, "{node:?} {threads} {piece_bytes:?}");
                }
            }
            let zero: Vec<u64> =
                (0..shape.leaves()).filter(|&leaf| tree.is_zero(shape.leaf(leaf))).collect();
            assert_eq!(zero, [1], "{threads} {piece_bytes:?}");
        }
    }
}
