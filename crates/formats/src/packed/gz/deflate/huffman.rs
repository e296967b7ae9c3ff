//! Huffman codes of limited length.

/// Sets in `lens` the length of each symbol's code, 0 for those that do not occur. At least two symbols get one, so that
/// every code is complete and no decoder refuses it. Frequencies are below 2²³.
pub(super) fn lengths(frequencies: &[u32], limit: usize, lens: &mut [u8]) {
    lens.fill(0);
    let mut leaves = [0u32; 288];
    let mut count = 0;
    for (symbol, &frequency) in frequencies.iter().enumerate() {
        if frequency > 0 {
            leaves[count] = frequency << 9 | symbol as u32;
            count += 1;
        }
    }
    if count < 2 {
        let only = if count == 1 { (leaves[0] & 511) as usize } else { 0 };
        lens[only] = 1;
        lens[usize::from(only == 0)] = 1;
        return;
    }
    let leaves = &mut leaves[..count];
    leaves.sort_unstable();
    let mut of_length = depths(leaves);
    shorten(&mut of_length, limit);
    let mut rest = leaves.iter();
    for length in (1..=limit).rev() {
        for leaf in rest.by_ref().take(of_length[length] as usize) {
            lens[(leaf & 511) as usize] = length as u8;
        }
    }
}

/// How many leaves lie at each depth of the tree over `leaves`, which are sorted by frequency. (Moffat and Katajainen's
/// way, which needs no tree.)
fn depths(leaves: &[u32]) -> [u32; 64] {
    let count = leaves.len();
    let mut nodes = [0u32; 288];
    for (node, leaf) in nodes.iter_mut().zip(leaves) {
        *node = leaf >> 9;
    }
    // Each pair of the two least becomes a node, whose weight stands where its leaves stood; a node that has become a
    // child holds the number of its parent.
    let (mut leaf, mut root) = (0, 0);
    for next in 0..count - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            if leaf >= count || (root < next && nodes[root] < nodes[leaf]) {
                weight += nodes[root];
                nodes[root] = next as u32;
                root += 1;
            } else {
                weight += nodes[leaf];
                leaf += 1;
            }
        }
        nodes[next] = weight;
    }
    // Parents become depths, from the root down; the leaves are what the inner nodes of a depth leave free.
    let mut of_length = [0; 64];
    nodes[count - 2] = 0;
    for node in (0..count - 2).rev() {
        nodes[node] = nodes[nodes[node] as usize] + 1;
    }
    let (mut free, mut inner, mut depth) = (1u32, count - 1, 0);
    while free > 0 {
        let mut used = 0;
        while inner > 0 && nodes[inner - 1] as usize == depth {
            used += 1;
            inner -= 1;
        }
        of_length[depth.min(63)] += free - used;
        free = 2 * used;
        depth += 1;
    }
    of_length
}

/// Moves leaves up to `limit`, and others down to make place for them.
fn shorten(of_length: &mut [u32; 64], limit: usize) {
    let too_deep: u32 = of_length[limit + 1..].iter().sum();
    if too_deep == 0 {
        return;
    }
    of_length[limit + 1..].fill(0);
    of_length[limit] += too_deep;
    let mut total: u64 = (1..=limit).map(|len| u64::from(of_length[len]) << (limit - len)).sum();
    while total > 1 << limit {
        of_length[limit] -= 1;
        let from = (1..limit).rev().find(|&len| of_length[len] > 0).unwrap_or(1);
        of_length[from] -= 1;
        of_length[from + 1] += 2;
        total -= 1;
    }
}

/// The code of each symbol, with its bits in the order in which they are written.
pub(super) fn codes(lens: &[u8], codes: &mut [u16]) {
    let mut next = [0u16; 17];
    let mut of_length = [0u16; 17];
    for &len in lens {
        of_length[len as usize] += 1;
    }
    of_length[0] = 0;
    for len in 1..16 {
        next[len + 1] = (next[len] + of_length[len]) << 1;
    }
    for (code, &len) in codes.iter_mut().zip(lens) {
        if len > 0 {
            *code = next[len as usize].reverse_bits() >> (16 - len);
            next[len as usize] += 1;
        }
    }
}
