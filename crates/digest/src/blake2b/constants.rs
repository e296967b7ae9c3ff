//! The constants of BLAKE2b, from RFC 7693 2.6 and 2.7, and its rounds, unrolled.

/// The initial values; those of SHA-512.
pub(super) const INITIAL: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// Which words of the block a round takes, in the order in which it takes them.
pub(super) const SIGMA: [[usize; 16]; 12] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
];

/// Calls `$mix!(x, y, a, b, c, d)` for all twelve rounds: the words `x` and `y` of the block are mixed into the
/// variables at the places `a` to `d`. A macro, since a place must be a constant: only then are the variables held in
/// registers.
macro_rules! twelve_rounds {
    ($mix:ident) => {
        twelve_rounds!($mix, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11);
    };
    ($mix:ident, $($round:literal),*) => {
        $(
            $mix!(SIGMA[$round][0], SIGMA[$round][1], 0, 4, 8, 12);
            $mix!(SIGMA[$round][2], SIGMA[$round][3], 1, 5, 9, 13);
            $mix!(SIGMA[$round][4], SIGMA[$round][5], 2, 6, 10, 14);
            $mix!(SIGMA[$round][6], SIGMA[$round][7], 3, 7, 11, 15);
            $mix!(SIGMA[$round][8], SIGMA[$round][9], 0, 5, 10, 15);
            $mix!(SIGMA[$round][10], SIGMA[$round][11], 1, 6, 11, 12);
            $mix!(SIGMA[$round][12], SIGMA[$round][13], 2, 7, 8, 13);
            $mix!(SIGMA[$round][14], SIGMA[$round][15], 3, 4, 9, 14);
        )*
    };
}

pub(super) use twelve_rounds;
