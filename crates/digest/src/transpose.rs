//! Rows of words to columns: from one vector per message to one vector per word, and back.

use std::arch::x86_64::*;

/// 8 rows of 8 words of 64 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose_8(rows: &mut [__m512i; 8]) {
    // Each 128-bit part of these holds one word of two neighbouring rows: `even` the words 0, 2, 4, 6, `odd` the others.
    let even_01 = _mm512_unpacklo_epi64(rows[0], rows[1]);
    let odd_01 = _mm512_unpackhi_epi64(rows[0], rows[1]);
    let even_23 = _mm512_unpacklo_epi64(rows[2], rows[3]);
    let odd_23 = _mm512_unpackhi_epi64(rows[2], rows[3]);
    let even_45 = _mm512_unpacklo_epi64(rows[4], rows[5]);
    let odd_45 = _mm512_unpackhi_epi64(rows[4], rows[5]);
    let even_67 = _mm512_unpacklo_epi64(rows[6], rows[7]);
    let odd_67 = _mm512_unpackhi_epi64(rows[6], rows[7]);
    let [a, c, e, g] = transpose_parts(even_01, even_23, even_45, even_67);
    let [b, d, f, h] = transpose_parts(odd_01, odd_23, odd_45, odd_67);
    *rows = [a, b, c, d, e, f, g, h];
}

/// 16 rows of 16 words of 32 bits.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn transpose_16(rows: &mut [__m512i; 16]) {
    // Four rows each: part `p` of vector `i` then holds word `4 * p + i` of these rows.
    for rows in rows.as_chunks_mut::<4>().0 {
        let low_01 = _mm512_unpacklo_epi32(rows[0], rows[1]);
        let high_01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
        let low_23 = _mm512_unpacklo_epi32(rows[2], rows[3]);
        let high_23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
        *rows = [
            _mm512_unpacklo_epi64(low_01, low_23),
            _mm512_unpackhi_epi64(low_01, low_23),
            _mm512_unpacklo_epi64(high_01, high_23),
            _mm512_unpackhi_epi64(high_01, high_23),
        ];
    }
    let [a0, a1, a2, a3] = transpose_parts(rows[0], rows[4], rows[8], rows[12]);
    let [b0, b1, b2, b3] = transpose_parts(rows[1], rows[5], rows[9], rows[13]);
    let [c0, c1, c2, c3] = transpose_parts(rows[2], rows[6], rows[10], rows[14]);
    let [d0, d1, d2, d3] = transpose_parts(rows[3], rows[7], rows[11], rows[15]);
    *rows = [a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3];
}

/// 4 rows of 4 parts of 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_parts(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    let ab_even = _mm512_shuffle_i64x2::<0x88>(a, b);
    let ab_odd = _mm512_shuffle_i64x2::<0xdd>(a, b);
    let cd_even = _mm512_shuffle_i64x2::<0x88>(c, d);
    let cd_odd = _mm512_shuffle_i64x2::<0xdd>(c, d);
    [
        _mm512_shuffle_i64x2::<0x88>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<0x88>(ab_odd, cd_odd),
        _mm512_shuffle_i64x2::<0xdd>(ab_even, cd_even),
        _mm512_shuffle_i64x2::<0xdd>(ab_odd, cd_odd),
    ]
}

/// 4 rows of 4 words of 64 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn transpose_4(rows: &mut [__m256i; 4]) {
    let even_01 = _mm256_unpacklo_epi64(rows[0], rows[1]);
    let odd_01 = _mm256_unpackhi_epi64(rows[0], rows[1]);
    let even_23 = _mm256_unpacklo_epi64(rows[2], rows[3]);
    let odd_23 = _mm256_unpackhi_epi64(rows[2], rows[3]);
    *rows = [
        _mm256_permute2x128_si256::<0x20>(even_01, even_23),
        _mm256_permute2x128_si256::<0x20>(odd_01, odd_23),
        _mm256_permute2x128_si256::<0x31>(even_01, even_23),
        _mm256_permute2x128_si256::<0x31>(odd_01, odd_23),
    ];
}

/// Word `i` of all rows in vector `i`.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn load_rows_4(rows: &[[u64; 8]; 4]) -> [__m256i; 8] {
    let mut words = [_mm256_setzero_si256(); 8];
    let (halves, _) = words.as_chunks_mut::<4>();
    for (number, half) in halves.iter_mut().enumerate() {
        for (vector, row) in half.iter_mut().zip(rows) {
            // SAFETY: a row has the 2 times 32 bytes that are read.
            *vector = unsafe { _mm256_loadu_si256(row.as_ptr().add(number * 4).cast()) };
        }
        transpose_4(half);
    }
    words
}

/// The reverse of [`load_rows_4`].
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn store_rows_4(mut words: [__m256i; 8]) -> [[u64; 8]; 4] {
    let mut rows = [[0u64; 8]; 4];
    let (halves, _) = words.as_chunks_mut::<4>();
    for (number, half) in halves.iter_mut().enumerate() {
        transpose_4(half);
        for (row, vector) in rows.iter_mut().zip(half) {
            // SAFETY: a row has room for the 2 times 32 bytes that are written.
            unsafe { _mm256_storeu_si256(row.as_mut_ptr().add(number * 4).cast(), *vector) };
        }
    }
    rows
}
