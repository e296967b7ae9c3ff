//! The 16 rounds of SHA-2 between two steps of the message schedule, unrolled.

/// Calls `$round!(index, a, b, c, d, e, f, g, h)` for the indices 0 to 15, where the letters are the places of the
/// working variables: instead of moving each to its neighbour as FIPS 180-4 does, the names move.
///
/// A macro, since a place must be a constant: only then are the variables held in registers.
macro_rules! sixteen_rounds {
    ($round:ident) => {
        $round!(0, 0, 1, 2, 3, 4, 5, 6, 7);
        $round!(1, 7, 0, 1, 2, 3, 4, 5, 6);
        $round!(2, 6, 7, 0, 1, 2, 3, 4, 5);
        $round!(3, 5, 6, 7, 0, 1, 2, 3, 4);
        $round!(4, 4, 5, 6, 7, 0, 1, 2, 3);
        $round!(5, 3, 4, 5, 6, 7, 0, 1, 2);
        $round!(6, 2, 3, 4, 5, 6, 7, 0, 1);
        $round!(7, 1, 2, 3, 4, 5, 6, 7, 0);
        $round!(8, 0, 1, 2, 3, 4, 5, 6, 7);
        $round!(9, 7, 0, 1, 2, 3, 4, 5, 6);
        $round!(10, 6, 7, 0, 1, 2, 3, 4, 5);
        $round!(11, 5, 6, 7, 0, 1, 2, 3, 4);
        $round!(12, 4, 5, 6, 7, 0, 1, 2, 3);
        $round!(13, 3, 4, 5, 6, 7, 0, 1, 2);
        $round!(14, 2, 3, 4, 5, 6, 7, 0, 1);
        $round!(15, 1, 2, 3, 4, 5, 6, 7, 0);
    };
}

pub(crate) use sixteen_rounds;
