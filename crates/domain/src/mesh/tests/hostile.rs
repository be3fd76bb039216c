//! Descriptions made to exhaust a reader, and arbitrary bytes.

use proptest::prelude::*;

use super::*;

#[test]
fn a_description_without_measure_is_refused() {
    let nested = format!("{{\"asset\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_fault!(check_bytes(&container(&nested, &[])), GlbFault::Json(_));
    let many =
        format!("{{\"asset\":{{\"version\":\"2.0\"}},\"nodes\":[{}{{}}]}}", "{},".repeat(200_001));
    assert_fault!(check_bytes(&container(&many, &[])), GlbFault::TooLarge(_));
    let mut huge = container("{}", &[]);
    huge.resize(MAX_JSON as usize + 64, b' ');
    let length = u32::try_from(huge.len()).expect("small");
    huge[8..12].copy_from_slice(&length.to_le_bytes());
    huge[12..16].copy_from_slice(&(length - 20).to_le_bytes());
    assert_fault!(check_bytes(&huge), GlbFault::TooLarge(_));
}

#[test]
fn accessors_that_share_the_same_bytes_cannot_keep_the_check_busy_for_ever() {
    let result = check_with(|json| {
        let position = json["accessors"][0].clone();
        let accessors = json["accessors"].as_array_mut().expect("a list");
        accessors.extend(std::iter::repeat_n(position, 1000));
        let primitives: Vec<_> = (3..1003)
            .map(|index| json!({"attributes": {"POSITION": index}, "indices": 2}))
            .collect();
        json["meshes"][0]["primitives"] = json!(primitives);
    });
    assert_fault!(result, GlbFault::TooLarge(_));
}

/// JSON of any structure, with glTF names among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        (0_u8..10).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!("2.0")),
        Just(json!("VEC3")),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let key = prop::sample::select(vec![
            "asset",
            "version",
            "scene",
            "scenes",
            "nodes",
            "mesh",
            "meshes",
            "primitives",
            "attributes",
            "POSITION",
            "indices",
            "accessors",
            "bufferView",
            "bufferViews",
            "buffer",
            "buffers",
            "byteLength",
            "byteOffset",
            "count",
            "componentType",
            "type",
            "min",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), length in any::<u64>()) {
        let _ = check(&mut Cursor::new(&bytes), length);
        let _ = check_bytes(&bytes);
    }

    #[test]
    fn arbitrary_json_never_panics(json in any_json(), bin in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = check_bytes(&container(&json.to_string(), &bin));
    }

    #[test]
    fn a_good_description_with_one_wrong_value_never_panics(
        place in 0_usize..60,
        value in prop_oneof![any_json(), any::<u64>().prop_map(Value::from), (0_u64..200).prop_map(Value::from)],
    ) {
        let mut left = place;
        let _ = check_with(|json| replace_leaf(json, &mut left, &value));
    }

    #[test]
    fn arbitrary_geometry_never_panics(bin in prop::collection::vec(any::<u8>(), 144)) {
        let _ = check_with_bin(|old| old.copy_from_slice(&bin));
    }
}

/// Replaces leaf number `left` of a JSON.
fn replace_leaf(json: &mut Value, left: &mut usize, value: &Value) {
    match json {
        Value::Array(list) => list.iter_mut().for_each(|inner| replace_leaf(inner, left, value)),
        Value::Object(members) => {
            members.values_mut().for_each(|inner| replace_leaf(inner, left, value));
        }
        leaf => {
            if *left == 0 {
                *leaf = value.clone();
            }
            *left = left.wrapping_sub(1);
        }
    }
}
