//! Complete files, and every way in which a file can be damaged.

use proptest::prelude::*;

use super::*;

/// Encodes a chunk as it is stored in a file.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "byte strings are references")]
fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = crc32fast::Hasher::new();
    crc.update(name);
    crc.update(data);
    let length = u32::try_from(data.len()).expect("small");
    [&length.to_be_bytes(), &name[..], data, &crc.finalize().to_be_bytes()].concat()
}

fn header(width: u32, height: u32, rest: [u8; 5]) -> Vec<u8> {
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &rest].concat())
}

fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
    [SIGNATURE.to_vec(), chunks.concat()].concat()
}

/// Returns a complete picture of 4 × 3 pixels; `extra` precedes the image data, which is split
/// at `cut`.
fn picture(colour: u8, extra: &[Vec<u8>], pixels: &[u8], cut: usize) -> Vec<u8> {
    let (first, second) = pixels.split_at(cut.min(pixels.len()));
    let mut chunks = vec![header(4, 3, [8, colour, 0, 0, 0])];
    chunks.extend_from_slice(extra);
    chunks.extend([chunk(b"IDAT", first), chunk(b"IDAT", second), chunk(b"IEND", &[])]);
    file(&chunks)
}

fn plain() -> Vec<u8> {
    picture(6, &[], b"deflated pixels", 4)
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    check(bytes).expect("a whole picture").fingerprint
}

fn reason(bytes: &[u8]) -> String {
    check(bytes).expect_err("a broken picture").to_string()
}

#[test]
fn a_whole_picture_tells_its_facts() {
    let facts = check(&plain()).expect("whole");
    assert_eq!((facts.width, facts.height, facts.bit_depth), (4, 3, 8));
    assert_eq!((facts.colour_type, facts.interlaced), (ColourType::Rgba, false));
}

#[test]
fn nothing_and_a_beginning_may_become_whole_but_another_format_may_not() {
    assert_eq!(check(b""), Err(PngFault::Empty));
    assert_eq!(check(b"\x89PN"), Err(PngFault::Incomplete { have: 3 }));
    assert_eq!(check(b"<html>nothing here</html>"), Err(PngFault::NotPng));
    assert!(PngFault::Empty.is_transient() && PngFault::Incomplete { have: 3 }.is_transient());
    assert!(!PngFault::NotPng.is_transient());
}

#[test]
fn every_cut_is_incomplete() {
    let whole = plain();
    for end in 1..whole.len() {
        assert_eq!(check(&whole[..end]), Err(PngFault::Incomplete { have: end }), "cut at {end}");
    }
}

#[test]
fn bytes_behind_the_end_are_a_fault() {
    let longer = [plain(), b"rest of a longer one".to_vec()].concat();
    assert_eq!(check(&longer), Err(PngFault::TrailingBytes { count: 20 }));
}

#[test]
fn only_the_combinations_of_the_specification_are_accepted() {
    let allowed: [(u8, &[u8]); 5] =
        [(0, &[1, 2, 4, 8, 16]), (2, &[8, 16]), (3, &[1, 2, 4, 8]), (4, &[8, 16]), (6, &[8, 16])];
    for colour in 0..=8_u8 {
        for depth in 0..=17_u8 {
            let mut chunks = vec![header(4, 3, [depth, colour, 0, 0, 1])];
            if colour == 3 {
                chunks.push(chunk(b"PLTE", &[1, 2, 3]));
            }
            chunks.extend([chunk(b"IDAT", b"x"), chunk(b"IEND", &[])]);
            let good = allowed.iter().any(|(c, depths)| *c == colour && depths.contains(&depth));
            assert_eq!(check(&file(&chunks)).is_ok(), good, "colour {colour}, depth {depth}");
        }
    }
}

#[test]
fn sides_that_are_zero_or_absurd_are_refused() {
    let rest = [chunk(b"IDAT", b"x"), chunk(b"IEND", &[])].concat();
    let with = |width, height| file(&[header(width, height, [8, 6, 0, 0, 0]), rest.clone()]);
    assert!(matches!(check(&with(0, 3)), Err(PngFault::Corrupt { .. })));
    assert!(matches!(check(&with(4, 0)), Err(PngFault::Corrupt { .. })));
    let too_large = |width, height| Err(PngFault::TooLarge { width, height });
    assert_eq!(check(&with(16_385, 1)), too_large(16_385, 1));
    assert_eq!(check(&with(8193, 8192)), too_large(8193, 8192));
    assert!(check(&with(16_384, 4096)).is_ok());
}

#[test]
fn unknown_methods_and_critical_chunks_are_unsupported_and_unknown_ancillary_ones_are_not() {
    let rest = [chunk(b"IDAT", b"x"), chunk(b"IEND", &[])].concat();
    for methods in [[8, 6, 1, 0, 0], [8, 6, 0, 1, 0], [8, 6, 0, 0, 2]] {
        let bytes = file(&[header(4, 3, methods), rest.clone()]);
        assert!(matches!(check(&bytes), Err(PngFault::Unsupported { .. })), "{methods:?}");
    }
    let critical = picture(6, &[chunk(b"WILD", b"?")], b"pixels", 1);
    assert!(matches!(check(&critical), Err(PngFault::Unsupported { .. })));
    assert!(check(&picture(6, &[chunk(b"wILD", b"?")], b"pixels", 1)).is_ok());
}

#[test]
fn chunks_in_the_wrong_place_are_refused() {
    let ihdr = header(4, 3, [8, 6, 0, 0, 0]);
    let (idat, iend) = (chunk(b"IDAT", b"x"), chunk(b"IEND", &[]));
    let text = chunk(b"tEXt", b"k\0v");
    let cases: [(&str, Vec<Vec<u8>>); 6] = [
        ("not IHDR", vec![text.clone(), ihdr.clone(), idat.clone(), iend.clone()]),
        ("second header", vec![ihdr.clone(), ihdr.clone(), idat.clone(), iend.clone()]),
        ("no image data", vec![ihdr.clone(), text.clone(), iend.clone()]),
        ("not continuous", vec![ihdr.clone(), idat.clone(), text, idat.clone(), iend.clone()]),
        ("not empty", vec![ihdr.clone(), idat.clone(), chunk(b"IEND", b"x")]),
        ("13 bytes", vec![chunk(b"IHDR", &[0; 12]), idat, iend]),
    ];
    for (expected, chunks) in cases {
        let reason = reason(&file(&chunks));
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn an_indexed_picture_needs_a_fitting_palette_before_its_pixels() {
    let (idat, iend) = (chunk(b"IDAT", b"x"), chunk(b"IEND", &[]));
    let with = |depth, palette: &[Vec<u8>]| {
        let mut chunks = vec![header(4, 3, [depth, 3, 0, 0, 0])];
        chunks.extend_from_slice(palette);
        chunks.extend([idat.clone(), iend.clone()]);
        check(&file(&chunks))
    };
    assert!(with(1, &[chunk(b"PLTE", &[0; 6])]).is_ok());
    assert!(with(1, &[]).is_err(), "none");
    assert!(with(1, &[chunk(b"PLTE", &[0; 9])]).is_err(), "three colours for one bit");
    assert!(with(8, &[chunk(b"PLTE", &[0; 7])]).is_err(), "a part of a colour");
    assert!(with(8, &[chunk(b"PLTE", &[])]).is_err(), "no colour");
    assert!(with(8, &[chunk(b"PLTE", &[0; 3]), chunk(b"PLTE", &[0; 3])]).is_err(), "two");
    assert!(check(&picture(0, &[chunk(b"PLTE", &[0; 3])], b"x", 1)).is_err(), "grey has none");
    assert!(check(&picture(2, &[chunk(b"PLTE", &[0; 3])], b"x", 1)).is_ok(), "a suggestion");
}

#[test]
fn each_chunk_that_changes_pixels_changes_the_fingerprint_and_no_other_does() {
    let plain = fingerprint(&plain());
    let with = |name: &[u8; 4], data: &[u8]| {
        fingerprint(&picture(6, &[chunk(name, data)], b"deflated pixels", 4))
    };
    for name in [
        b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI", b"eXIf", b"acTL",
        b"fcTL", b"fdAT",
    ] {
        assert_ne!(with(name, b"a"), plain, "{}", name.escape_ascii());
        assert_ne!(with(name, b"a"), with(name, b"b"), "{}", name.escape_ascii());
    }
    for name in [
        b"tEXt", b"zTXt", b"iTXt", b"tIME", b"pHYs", b"bKGD", b"hIST", b"sPLT", b"sBIT", b"oFFs",
        b"prIv",
    ] {
        assert_eq!(with(name, b"a"), plain, "{}", name.escape_ascii());
    }
    assert_ne!(with(b"PLTE", &[1, 2, 3]), plain);
}

#[test]
fn bytes_that_move_from_one_chunk_to_the_next_are_another_picture() {
    let with = |a: &[u8], b: &[u8]| {
        let extra = [chunk(b"gAMA", a), chunk(b"cHRM", b)];
        fingerprint(&picture(6, &extra, b"pixels", 1))
    };
    assert_ne!(with(b"ab", b"c"), with(b"a", b"bc"));
    let long = picture(6, &[chunk(b"gAMA", b"xpixels")], b"", 0);
    assert_ne!(fingerprint(&long), fingerprint(&picture(6, &[chunk(b"gAMA", b"x")], b"pixels", 2)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), signed in any::<bool>()) {
        let bytes = if signed { [&SIGNATURE[..], &bytes].concat() } else { bytes };
        let _ = check(&bytes);
    }

    #[test]
    fn any_changed_byte_is_noticed(at in 0_usize..1000, change in 1_u8..) {
        let mut bytes = picture(6, &[chunk(b"tEXt", b"Date\x00now")], &[7; 900], 300);
        let at = at * bytes.len() / 1000;
        bytes[at] ^= change;
        prop_assert!(check(&bytes).is_err(), "byte {at}");
    }

    #[test]
    fn texts_and_cuts_leave_no_trace_and_pixels_do(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..5),
        pixels in prop::collection::vec(any::<u8>(), 1..3000),
        cuts in (0_usize..3000, 0_usize..3000),
        changed in 0_usize..3000,
    ) {
        let texts: Vec<_> = texts.iter().map(|text| chunk(b"tEXt", text)).collect();
        let one = fingerprint(&picture(6, &texts, &pixels, cuts.0));
        let reversed: Vec<_> = texts.into_iter().rev().collect();
        prop_assert_eq!(one, fingerprint(&picture(6, &reversed, &pixels, cuts.1)));
        prop_assert_eq!(one, fingerprint(&picture(6, &[], &pixels, cuts.1)));
        let mut other = pixels;
        let at = changed % other.len();
        other[at] ^= 1;
        prop_assert_ne!(one, fingerprint(&picture(6, &[], &other, cuts.0)));
    }
}
