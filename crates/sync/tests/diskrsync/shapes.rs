//! The shape of the tree, beside what diskrsync computed.

use digest::{Algorithm, Hasher};
use proptest::prelude::*;
use sync::diskrsync::Shape;

use super::support::json;

#[test]
fn each_shape_that_diskrsync_computed_is_ours() {
    let rows = json("tree_shapes.json");
    let rows = rows.as_array().unwrap();
    assert!(rows.len() > 50, "too few rows");
    for row in rows {
        let number = |name: &str| row[name].as_u64().unwrap();
        let size = number("size");
        let shape = Shape::of(size);
        let found = (u64::from(shape.levels), shape.order, shape.target_block_bytes);
        let expected = (number("levels"), number("order"), number("target_block"));
        assert_eq!(found, expected, "{size}");
        assert_eq!(shape.leaves(), number("leaf_count"), "{size}");
        assert_eq!(shape.leaf_bytes(), number("leaf_min"), "{size}");
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut end = 0;
        for index in 0..shape.leaves() {
            let range = shape.range(shape.leaf(index));
            assert_eq!(range.start, end, "{size}: leaf {index}");
            end = range.end;
            hasher.update(&(range.end - range.start).to_le_bytes());
        }
        assert_eq!(end, size);
        let hex = hasher.finish().map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hex, row["leaf_lengths_u64le_sha256"].as_str().unwrap(), "{size}");
    }
}

#[test]
fn a_tree_over_nothing_has_no_nodes() {
    let shape = Shape::of(0);
    assert_eq!((shape.levels, shape.leaves(), shape.nodes()), (0, 0, 0));
}

/// The first size of each row of the table, and levels, order and leaves from there on.
const TABLE: [(u64, u32, u64, u64); 13] = [
    (1, 1, 1, 1),
    (131_072, 1, 2, 1),
    (262_144, 2, 2, 2),
    (524_288, 3, 2, 4),
    (1_048_576, 4, 2, 8),
    (2_097_152, 5, 2, 16),
    (4_194_304, 6, 2, 32),
    (8_388_608, 8, 2, 128),
    (143_327_232, 8, 3, 2187),
    (1_073_741_824, 8, 4, 16_384),
    (5_120_000_000, 8, 5, 78_125),
    (18_345_885_696, 8, 6, 279_936),
    (54_767_256_586, 8, 7, 823_543),
];

fn check_against_table(size: u64) {
    let row = TABLE.iter().rfind(|row| row.0 <= size).unwrap();
    let shape = Shape::of(size);
    assert_eq!((shape.levels, shape.order, shape.leaves()), (row.1, row.2, row.3), "{size}");
}

#[test]
fn the_shape_changes_exactly_where_the_table_says() {
    for (size, ..) in TABLE {
        for size in [size.saturating_sub(1).max(1), size, size + 1] {
            check_against_table(size);
        }
    }
    check_against_table(i64::MAX as u64);
}

proptest! {
    #[test]
    fn any_size_has_the_shape_of_the_table(bits in 1_u32..63, low in any::<u64>()) {
        check_against_table((1 << bits) | (low & ((1 << bits) - 1)));
    }

    /// Also where products are longer than 64 bits.
    #[test]
    fn the_children_of_a_node_cover_it(bits in 1_u32..63, low in any::<u64>(), path in any::<u64>()) {
        let shape = Shape::of((1 << bits) | (low & ((1 << bits) - 1)));
        let mut node = sync::diskrsync::Node { level: 0, index: 0 };
        prop_assert_eq!(shape.range(node), 0..shape.size_bytes);
        let mut path = path;
        while !shape.is_leaf(node) {
            let mut child = shape.child(node);
            let mut at = shape.range(node).start;
            for place in 0..shape.order {
                prop_assert_eq!(child.index % shape.order, place);
                prop_assert_eq!(shape.parent(child), Some(node));
                let range = shape.range(child);
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at);
                at = range.end;
                if place + 1 < shape.order {
                    child = shape.next(child).unwrap();
                }
            }
            prop_assert_eq!(at, shape.range(node).end);
            prop_assert_eq!(shape.next(child), shape.next(node));
            node = shape.child(node);
            node.index += path % shape.order;
            path /= shape.order;
        }
        let range = shape.range(node);
        prop_assert!((0..=1).contains(&(range.end - range.start - shape.leaf_bytes())));
    }
}
