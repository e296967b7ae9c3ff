//! Any bytes as an index.

use chunks::index::{Flags, Index, IndexWriter, Span, looks_like_index};

use super::assert_is_about_damage;

const LIMIT_BYTES: u64 = 1 << 20;
/// Chunks of which each is looked for.
const LOOKED_FOR: usize = 64;

/// `bytes` are no index, which is said with their place; or all that is read of them fits together.
pub fn index(bytes: &[u8]) {
    let open = |flags| Index::read(bytes, "hostile", LIMIT_BYTES, flags);
    let index = match (open(Flags::Known), open(Flags::Any)) {
        (Ok(index), other) => {
            assert!(other.is_ok(), "what is known may be unknown");
            index
        }
        (Err(error), other) => {
            assert_is_about_damage(&error, "hostile");
            assert!(error.location().is_some_and(|location| location.range.is_some()));
            match other {
                Ok(index) => index,
                Err(error) => return assert_is_about_damage(&error, "hostile"),
            }
        }
    };
    assert!(looks_like_index(bytes));
    assert_eq!(bytes.len() as u64, 104 + 40 * index.count());
    let spans: Vec<Span> = index.chunks(0..index.count()).map(Result::unwrap).collect();
    assert_eq!(spans.len() as u64, index.count());
    let mut writer = IndexWriter::new(Vec::new(), index.header()).expect("memory takes it");
    let mut end = 0;
    for (number, span) in spans.iter().enumerate() {
        assert_eq!((span.number, span.offset), (number as u64, end));
        assert!((1..=index.sizes().max()).contains(&span.len_bytes));
        end = span.end();
        writer.push(&span.id, span.len_bytes).expect("memory takes it");
    }
    assert_eq!(index.size_bytes(), end);
    assert!(writer.finish().expect("memory takes it") == bytes, "written again, it differs");
    for span in spans.iter().step_by(spans.len() / LOOKED_FOR + 1) {
        for offset in [span.offset, span.offset + span.len_bytes / 2, span.end() - 1] {
            assert_eq!(index.chunk_at(offset).expect("it was read before"), *span);
        }
        let rest = index.chunks(span.number..u64::MAX).count();
        assert_eq!(rest as u64, index.count() - span.number);
    }
}
