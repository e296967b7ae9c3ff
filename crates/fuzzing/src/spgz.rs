//! Any bytes as an spgz container.

use formats::spgz::{OnDamage, SpgzImage, looks_like_spgz};
use image::{ErrorKind, Image, ImageMut, Medium, MemoryMedium, Task};

use super::assert_is_about_damage;

/// Larger blocks are opened, not read: that would take all the time there is.
const BLOCK_MAX_BYTES: u64 = 1 << 20;

/// `bytes` are no container, which is said with their place; or what of them is damaged is found, named and left alone, and
/// becomes zeroes where that was asked for.
pub fn spgz(bytes: &[u8]) {
    let reported = SpgzImage::open(medium(bytes), OnDamage::Report);
    let image = match SpgzImage::open(medium(bytes), OnDamage::Repair) {
        Ok(image) => image,
        Err(error) => {
            assert_is_about_damage(&error, "hostile");
            return assert!(reported.is_err(), "what cannot be repaired cannot be read");
        }
    };
    if bytes[12..bytes.len().min(4096)].iter().all(|&byte| byte == 0) {
        assert!(looks_like_spgz(&bytes[..bytes.len().min(4096)]));
    }
    if image.block_bytes() > BLOCK_MAX_BYTES {
        return;
    }
    let damaged = image.check(&Task::silent()).expect("memory can be read");
    let mut content = Vec::new();
    let mut offset = 0;
    while offset < image.size() {
        let mut block = vec![0xa5; (image.size() - offset).min(image.block_bytes()) as usize];
        image.read_at(&mut block, offset).expect("what is damaged reads as zeroes");
        let is_damaged = damaged.iter().any(|range| range.contains(&offset));
        assert!(!is_damaged || digest::is_zero(&block), "damage was read");
        if let Ok(reported) = &reported {
            let run = reported.extent_at(offset).expect("memory has a map");
            assert!(run.offset == offset && run.len_bytes > 0 && run.end() <= image.size());
            let half = block.len().div_ceil(2);
            let mut again = vec![0; half];
            match reported.read_at(&mut again, offset) {
                Ok(()) => assert!(!is_damaged && again == block[..half], "it reads otherwise"),
                Err(error) => {
                    assert!(is_damaged && error.kind() == ErrorKind::Damaged);
                    assert_is_about_damage(&error, "hostile");
                }
            }
        }
        offset += block.len() as u64;
        content.extend(block);
    }
    if let Err(error) = &reported {
        assert_is_about_damage(error, "hostile");
        assert_eq!(damaged.last().map(|range| range.end > image.size()), Some(true));
    }
    assert_eq!(image.repaired(), damaged);
    assert!(held(image.medium()) == bytes, "reading changed it");
    image.flush().expect("memory takes it");
    let mended = SpgzImage::open(medium(&held(image.medium())), OnDamage::Report);
    let mended = mended.expect("what was repaired can be opened");
    let mut found = vec![0xa5; content.len()];
    assert_eq!(mended.size(), found.len() as u64);
    mended.read_at(&mut found, 0).expect("what was repaired can be read");
    assert!(found == content, "what was repaired reads otherwise");
}

fn medium(bytes: &[u8]) -> MemoryMedium {
    let medium = MemoryMedium::new("hostile", 0);
    medium.write_at(bytes, 0).expect("memory takes it");
    medium
}

fn held(medium: &MemoryMedium) -> Vec<u8> {
    let mut bytes = vec![0; medium.len().expect("memory has a length") as usize];
    medium.read_at(&mut bytes, 0).expect("memory can be read");
    bytes
}
