//! Any bytes as what a store gives.

use std::cell::RefCell;

use chunks::ChunkId;
use chunks::store::{DEFAULT_LEVEL, Form, Length, Packed, Packer, Unpacker};
use digest::{Algorithm, Message};

use super::assert_is_about_damage;

const LIMIT_BYTES: u64 = 1 << 20;

thread_local! {
    // Made once: making them takes longer than most chunks do.
    static UNPACKER: RefCell<Unpacker> = RefCell::default();
    static PACKER: RefCell<Packer> =
        RefCell::new(Packer::new(Form::Compressed, DEFAULT_LEVEL).expect("a level that there is"));
}

/// `raw` is no chunk, which is said; or it is one of exactly one length, whatever was expected of it.
pub fn chunk(raw: &[u8]) {
    UNPACKER.with_borrow_mut(|unpacker| check(raw, unpacker));
}

fn check(raw: &[u8], unpacker: &mut Unpacker) {
    for form in [Form::Compressed, Form::Plain] {
        let mut unpack = |length| {
            let packed = Packed { bytes: raw.to_vec(), form, origin: "hostile".into() };
            let plain = unpacker.unpack(packed, length);
            if let Err(error) = &plain {
                assert_is_about_damage(error, "hostile");
            }
            plain
        };
        let Ok(plain) = unpack(Length::AtMost(LIMIT_BYTES)) else {
            for len in [raw.len() as u64, LIMIT_BYTES] {
                assert!(
                    unpack(Length::Exactly(len)).is_err(),
                    "{len} bytes, but at most {LIMIT_BYTES}"
                );
            }
            continue;
        };
        let len = plain.len() as u64;
        assert!((1..=LIMIT_BYTES).contains(&len));
        let bytes = plain.piece(0).expect("there are some").to_vec();
        for length in [Length::Exactly(len), Length::AtMost(len), Length::AtMost(len + 1)] {
            let again = unpack(length).expect("it has this length");
            assert!(again.piece(0) == Some(&bytes), "another time, other bytes");
        }
        for length in [Length::Exactly(len - 1), Length::Exactly(len + 1), Length::AtMost(len - 1)]
        {
            assert!(unpack(length).is_err(), "{length:?} of {len} bytes");
        }
        let id = ChunkId::of(Algorithm::Sha512_256, &bytes);
        let other = ChunkId::of(Algorithm::Sha512_256, &bytes[1..]);
        let wrong =
            unpack(Length::UNKNOWN).expect("it was one").verify(&other, Algorithm::Sha512_256);
        assert_is_about_damage(&wrong.expect_err("another digest"), "hostile");
        let chunk = plain.verify(&id, Algorithm::Sha512_256).expect("its digest");
        let back = PACKER.with_borrow_mut(|packer| {
            let sealed = packer.seal(&id, &chunk).expect("a chunk can be packed");
            let (bytes, form) = (sealed.bytes().to_vec(), sealed.form());
            let packed = Packed { bytes, form, origin: "ours".into() };
            unpacker.unpack(packed, Length::Exactly(len)).expect("ours")
        });
        assert!(back.piece(0) == Some(chunk.bytes()), "packed and unpacked, it differs");
    }
}
