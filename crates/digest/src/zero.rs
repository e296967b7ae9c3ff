//! Is this all zeroes, and how far.

/// Whether all of `bytes` are 0. Stops soon after the first that is not.
pub fn is_zero(bytes: &[u8]) -> bool {
    first_nonzero(bytes).is_none()
}

/// The position of the first byte that is not 0.
pub fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let (strides, _) = bytes.as_chunks::<STRIDE>();
    for stride in strides {
        // The whole stride is folded without a branch, so that the compiler makes wide loads of it.
        let mut any = 0u64;
        for word in stride.as_chunks::<8>().0 {
            any |= u64::from_ne_bytes(*word);
        }
        if any != 0 {
            break;
        }
        at += STRIDE;
    }
    bytes[at..].iter().position(|&byte| byte != 0).map(|found| at + found)
}

/// How many whole blocks of `block_len` at the beginning of `bytes` are all zero, in bytes. The last block may
/// be short.
pub fn zero_prefix_len(bytes: &[u8], block_len: usize) -> usize {
    match first_nonzero(bytes) {
        Some(at) => at - at % block_len,
        None => bytes.len(),
    }
}

/// Long enough to keep the loads in flight, short enough to stop early.
const STRIDE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_set_byte_is_found_at_every_position_of_every_length() {
        for len in (0..1100).step_by(7).chain([256, 512, 1024, 4096]) {
            let mut bytes = vec![0u8; len];
            assert!(is_zero(&bytes));
            for at in (0..len).step_by(if len > 600 { 13 } else { 1 }) {
                bytes[at] = 1;
                assert_eq!(first_nonzero(&bytes), Some(at));
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn the_zero_prefix_ends_at_a_block() {
        let mut bytes = vec![0u8; 10_000];
        assert_eq!(zero_prefix_len(&bytes, 4096), 10_000);
        bytes[8191] = 9;
        assert_eq!(zero_prefix_len(&bytes, 4096), 4096);
        bytes[3] = 9;
        assert_eq!(zero_prefix_len(&bytes, 4096), 0);
    }
}
