//! Cylinders, heads and sectors: the addresses of the first disks, which an MBR still has beside its own.

/// The geometry that everybody assumes since disks no longer have one.
const HEADS: u64 = 255;
const SECTORS: u64 = 63;
/// What stands for all that lies beyond the reach of such addresses: cylinder 1023, head 254, sector 63.
const BEYOND: [u8; 3] = [0xfe, 0xff, 0xff];

/// The three bytes for a sector that is counted from 0.
pub(super) fn address(sector: u64) -> [u8; 3] {
    let cylinder = sector / (HEADS * SECTORS);
    if cylinder > 1023 {
        return BEYOND;
    }
    let head = sector / SECTORS % HEADS;
    let in_track = sector % SECTORS + 1;
    [head as u8, in_track as u8 | (cylinder >> 8 << 6) as u8, cylinder as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_sfdisk() {
        assert_eq!(address(0), [0, 1, 0]);
        assert_eq!(address(2048), [0x20, 0x21, 0x00]);
        assert_eq!(address(255 * 63 * 1024 - 1), [0xfe, 0xff, 0xff]);
        assert_eq!(address(255 * 63 * 1023), [0, 0xc1, 0xff]);
        assert_eq!(address(u64::from(u32::MAX)), BEYOND);
    }
}
