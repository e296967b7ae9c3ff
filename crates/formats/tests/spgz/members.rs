//! What other programs say of a single slot.

use formats::spgz::SpgzImage;
use image::{ImageMut, MemoryMedium};
use testkit::host::{Needs, require};

use super::peer;

#[test]
fn gzip_unpacks_what_is_cut_out_of_a_slot() {
    if require(&Needs::none().tools(&["gzip"])).is_none() {
        return;
    }
    for block_bytes in [12_287usize, 131_071, 1_048_575] {
        let medium = MemoryMedium::new("memory", 0);
        let size_bytes = 3 * block_bytes - 1000;
        let image = SpgzImage::create(medium, block_bytes as u64, size_bytes as u64).unwrap();
        let text: Vec<u8> =
            (0..).flat_map(|line| format!("line {line}\n").into_bytes()).take(size_bytes).collect();
        image.write_at(&text, 0).unwrap();
        image.flush().unwrap();
        let container = peer::bytes_of(image.medium());
        for (slot, block) in peer::slots(&container).iter().zip(text.chunks(block_bytes)) {
            assert_eq!(slot.marker, 1);
            let len = peer::member_len(&slot.payload, block_bytes);
            assert_eq!(peer::gunzip(&slot.payload[..len]), block);
        }
    }
}

#[test]
fn a_block_is_compressed_if_that_saves_two_pages() {
    // Noise, and behind it so many zeroes that the member lies about the border.
    let mut rng = fastrand::Rng::with_seed(9);
    let noise: Vec<u8> = (0..131_071).map(|_| rng.u8(..)).collect();
    let mut seen = [0; 2];
    for zeroes in (8100..8400).step_by(7) {
        let mut block = noise.clone();
        block[131_071 - zeroes..].fill(0);
        let image = SpgzImage::create(MemoryMedium::new("memory", 0), 0, 131_071).unwrap();
        image.write_at(&block, 0).unwrap();
        let container = peer::bytes_of(image.medium());
        peer::check_ours(&container, block.len());
        assert!(peer::image(&container) == block);
        let slot = &peer::slots(&container)[0];
        if slot.marker == 1 {
            assert!(peer::member_len(&slot.payload, block.len()) <= block.len() - 8195);
        }
        seen[usize::from(slot.marker)] += 1;
    }
    assert!(seen[0] > 5 && seen[1] > 5, "the border was not met: {seen:?}");
}

#[test]
fn a_short_last_block_is_stored_up_to_8195_bytes() {
    for (size_bytes, marker) in [(1, 0), (8195, 0), (8196, 0), (8300, 1)] {
        let image = SpgzImage::create(MemoryMedium::new("memory", 0), 0, size_bytes).unwrap();
        image.write_at(&vec![7; size_bytes as usize], 0).unwrap();
        image.flush().unwrap();
        let container = peer::bytes_of(image.medium());
        assert_eq!(peer::slots(&container)[0].marker, marker, "{size_bytes}");
        peer::check_ours(&container, size_bytes as usize);
    }
}
