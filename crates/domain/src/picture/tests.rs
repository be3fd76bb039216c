//! Pictures in and out: lossless where promised, small where requested, refused if they are bad.
#![expect(
    clippy::cast_possible_truncation,
    reason = "patterns made of the lower bits of coordinates"
)]

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    pixels::{Pixels, decode},
    *,
};
use crate::inputs::png;

/// Writes a PNG without care for its size: no useful filter, fast compression.
fn png_of(pixels: &Pixels) -> Vec<u8> {
    png_with(pixels, &[])
}

fn png_with(pixels: &Pixels, extra: &[([u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, pixels.width, pixels.height);
    encoder.set_color(match pixels.channels {
        1 => ::png::ColorType::Grayscale,
        2 => ::png::ColorType::GrayscaleAlpha,
        3 => ::png::ColorType::Rgb,
        _ => ::png::ColorType::Rgba,
    });
    encoder.set_depth(if pixels.depth == 2 {
        ::png::BitDepth::Sixteen
    } else {
        ::png::BitDepth::Eight
    });
    encoder.set_filter(::png::Filter::NoFilter);
    encoder.set_deflate_compression(::png::DeflateCompression::Level(1));
    let mut writer = encoder.write_header().expect("a header");
    for (name, data) in extra {
        writer.write_chunk(::png::chunk::ChunkType(*name), data).expect("a chunk");
    }
    writer.write_image_data(&pixels.samples).expect("pixels");
    writer.finish().expect("an end");
    file
}

/// Creates a picture from a function of x and y.
fn picture<const N: usize>(width: u32, height: u32, at: impl Fn(u32, u32) -> [u8; N]) -> Pixels {
    let samples = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let samples = samples.flat_map(|(x, y)| at(x, y)).collect();
    Pixels { width, height, channels: N, depth: 1, samples }
}

/// Returns a number that looks random, but is the same in every run.
fn noise(x: u32, y: u32) -> u32 {
    let mut v = x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77);
    v = (v ^ (v >> 15)).wrapping_mul(0x2C1B_3C6D);
    v ^ (v >> 13)
}

/// A shaded body in front of a soft background, slightly noisy like the output of a path tracer.
fn render(side: u32) -> Pixels {
    picture(side, side, |x, y| {
        let (dx, dy) = (f64::from(x) - f64::from(side) / 2.0, f64::from(y) - f64::from(side) / 2.0);
        let body = (1.0 - (dx * dx + dy * dy).sqrt() / (f64::from(side) * 0.35)).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 160")]
        let light = (body.sqrt() * 160.0) as u8;
        let grain = (noise(x, y) & 7) as u8;
        #[expect(clippy::cast_possible_truncation, reason = "below 60")]
        let ground = (y * 60 / side) as u8;
        [ground + light + grain, ground + light / 2 + grain, ground + 20, 255]
    })
}

/// A picture that no form can make small without loss.
fn static_noise(side: u32) -> Pixels {
    picture(side, side, |x, y| {
        let [r, g, b, _] = noise(x, y).to_le_bytes();
        [r, g, b, 255]
    })
}

fn fit(pixels: &Pixels, max_base64_kb: u32) -> Encoded {
    let encoded = best_form(png_of(pixels).into(), max_base64_kb).expect("a form that fits");
    assert!(base64_len(encoded.bytes.len()) <= max_base64_kb as usize * 1024);
    let facts = check_image(&encoded.bytes).expect("a good picture");
    assert_eq!((facts.width, facts.height), (encoded.width, encoded.height));
    assert_eq!(facts.format.mime(), encoded.mime);
    encoded
}

/// Returns red, green, blue, alpha of every pixel, two bytes each.
fn rgba16(pixels: &Pixels) -> Vec<[u16; 4]> {
    let sample = |bytes: &[u8]| match *bytes {
        [high, low] => u16::from_be_bytes([high, low]),
        [value] => u16::from(value) * 257,
        _ => unreachable!("one or two bytes"),
    };
    let pixel = |bytes: &[u8]| {
        let samples: Vec<u16> = bytes.chunks(pixels.depth).map(sample).collect();
        match *samples {
            [v] => [v, v, v, u16::MAX],
            [v, a] => [v, v, v, a],
            [r, g, b] => [r, g, b, u16::MAX],
            [r, g, b, a] => [r, g, b, a],
            _ => unreachable!("one to four samples"),
        }
    };
    pixels.samples.chunks(pixels.pixel_len()).map(pixel).collect()
}

#[test]
fn one_colour_is_found_and_one_other_pixel_is_too() {
    let white = picture(40, 30, |_, _| [255, 255, 255]);
    assert_eq!(single_colour(&png_of(&white)), Ok(Some([255; 4])));
    for at in [0, 29 * 40 * 3, 40 * 30 * 3 - 1] {
        let mut spotted = white.clone();
        spotted.samples[at] = 254;
        assert_eq!(single_colour(&png_of(&spotted)), Ok(None), "sample {at}");
    }
    let clear = picture(3, 1, |_, _| [9, 8]);
    assert_eq!(single_colour(&png_of(&clear)), Ok(Some([9, 9, 9, 8])));
    let deep = Pixels { width: 1, height: 2, channels: 1, depth: 2, samples: vec![7, 1, 7, 2] };
    assert_eq!(single_colour(&png_of(&deep)), Ok(None), "the lower bytes differ");
    let rows = picture(2, 2, |_, y| if y == 0 { [1, 1, 1] } else { [2, 2, 2] });
    assert_eq!(single_colour(&png_of(&rows)), Ok(None));
}

#[test]
fn pixels_that_do_not_inflate_are_a_fault_though_every_checksum_is_right() {
    let mut file = Vec::new();
    let encoder = ::png::Encoder::new(&mut file, 8, 8);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_chunk(::png::chunk::IDAT, b"not a zlib stream").expect("a chunk");
    writer.write_chunk(::png::chunk::IEND, b"").expect("a chunk");
    drop(writer);
    let end = file.windows(4).position(|name| name == b"IEND").expect("an end") + 8;
    file.truncate(end);
    assert!(png::check(&file).is_ok());
    for fault in [
        single_colour(&file).expect_err("no pixels"),
        check_image(&file).expect_err("no pixels"),
        into_png(file.clone().into()).expect_err("no pixels"),
    ] {
        assert!(
            matches!(fault, PictureFault::Undecodable { format: Format::Png, .. }),
            "{fault:?}"
        );
    }
}

#[test]
fn a_wrong_checksum_inside_the_compressed_pixels_is_a_fault() {
    let whole = png_of(&picture(8, 8, |x, y| [x as u8, y as u8, 3]));
    let name = whole.windows(4).position(|name| name == b"IDAT").expect("pixels");
    let length = u32::from_be_bytes(whole[name - 4..name].try_into().expect("four")) as usize;
    let mut bytes = whole;
    bytes[name + 4 + length - 1] ^= 1;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[name..name + 4 + length]);
    bytes[name + 4 + length..name + 8 + length].copy_from_slice(&crc.finalize().to_be_bytes());
    assert!(png::check(&bytes).is_ok());
    assert!(matches!(check_image(&bytes), Err(PictureFault::Undecodable { .. })));
}

#[test]
fn a_picture_that_fits_is_sent_byte_for_byte() {
    let file = Bytes::from(png_with(&render(64), &[(*b"tEXt", b"Date\0today")]));
    for limit in [0, 256] {
        let encoded = best_form(file.clone(), limit).expect("it fits");
        assert_eq!((encoded.form, &encoded.bytes), (ImageForm::Original, &file));
    }
    assert_eq!(base64_len(3), 4);
    assert_eq!(base64_len(4), 8);
}

#[test]
fn the_limit_is_kept_to_the_byte() {
    // 768 bytes make exactly 1024 characters of Base64.
    let plain = png_of(&picture(2, 2, |x, _| [x as u8]));
    let padding = |length: usize| {
        let text = vec![b'a'; length - plain.len() - 12];
        Bytes::from(png_with(&picture(2, 2, |x, _| [x as u8]), &[(*b"tEXt", &text)]))
    };
    assert_eq!(best_form(padding(768), 1).map(|e| e.form), Ok(ImageForm::Original));
    assert_eq!(best_form(padding(769), 1).map(|e| e.form), Ok(ImageForm::SamePixels));
}

#[test]
fn the_same_pixels_are_tried_before_fewer() {
    let flat = picture(300, 300, |x, y| [(x / 40) as u8 * 30, (y / 40) as u8 * 30, 77, 255]);
    let file = png_with(&flat, &[(*b"tEXt", &[b'x'; 4000])]);
    let encoded = best_form(file.into(), 4).expect("it fits");
    assert_eq!(encoded.form, ImageForm::SamePixels);
    assert_eq!(rgba16(&decode(&encoded.bytes).expect("good")), rgba16(&flat));
}

#[test]
fn a_picture_that_cannot_be_made_small_loses_little_and_fits() {
    let encoded = fit(&render(400), 30);
    assert!(
        matches!(encoded.form, ImageForm::Jpeg { .. } | ImageForm::SmallerPng),
        "{:?}",
        encoded.form
    );
    for limit in [1, 2, 8, 32] {
        fit(&static_noise(120), limit);
    }
}

#[test]
fn alpha_never_becomes_jpeg() {
    let holes = picture(300, 300, |x, y| {
        let [r, g, b, a] = noise(x, y).to_le_bytes();
        [r, g, b, a]
    });
    let encoded = fit(&holes, 40);
    assert_eq!(encoded.form, ImageForm::SmallerPng);
    assert_eq!(png::check(&encoded.bytes).expect("whole").colour_type, png::ColourType::Rgba);
}

#[test]
fn grey_and_small_palettes_take_few_bits() {
    let facts = |pixels: &Pixels| {
        let padded = png_with(pixels, &[(*b"tEXt", "x".repeat(200_000).as_bytes())]);
        let encoded = best_form(padded.into(), 128).expect("it fits");
        assert_eq!(encoded.form, ImageForm::SamePixels);
        assert_eq!(rgba16(&decode(&encoded.bytes).expect("good")), rgba16(pixels));
        let facts = png::check(&encoded.bytes).expect("whole");
        (facts.colour_type, facts.bit_depth)
    };
    let grey = picture(100, 99, |x, y| [(x + y) as u8; 3]);
    assert_eq!(facts(&grey), (png::ColourType::Grey, 8));
    let veiled = picture(100, 99, |x, y| {
        let v = (x + y) as u8;
        [v, v, v, (x * y) as u8]
    });
    assert_eq!(facts(&veiled), (png::ColourType::GreyAlpha, 8));
    let two = picture(101, 50, |x, y| if (x ^ y) & 4 == 0 { [1, 2, 3] } else { [9, 8, 7] });
    assert_eq!(facts(&two), (png::ColourType::Indexed, 1));
    let ten = picture(101, 50, |x, y| [noise(x, y) as u8 % 10, 5, 5, 128 + (x % 2) as u8 * 127]);
    assert_eq!(facts(&ten).0, png::ColourType::Indexed);
    let deep_samples: Vec<u8> = (0..100_u8).flat_map(|v| [v, v]).collect();
    let deep = Pixels { width: 10, height: 10, channels: 1, depth: 2, samples: deep_samples };
    assert_eq!(facts(&deep), (png::ColourType::Grey, 8));
    let truly_deep_samples: Vec<u8> = (0..200_u8).collect();
    let deep = Pixels { width: 10, height: 10, channels: 1, depth: 2, samples: truly_deep_samples };
    assert_eq!(facts(&deep), (png::ColourType::Grey, 16));
}

#[test]
fn a_camera_that_was_held_upright_is_seen() {
    let exif = |orientation: u8| {
        let mut exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
        exif[19] = orientation;
        exif
    };
    let corners = |orientation: u8| {
        let pixels = picture(3, 2, |x, y| [(y * 3 + x) as u8]);
        let turned = decode(&png_with(&pixels, &[(*b"eXIf", &exif(orientation))])).expect("good");
        (turned.width, turned.height, turned.samples)
    };
    assert_eq!(corners(1), (3, 2, vec![0, 1, 2, 3, 4, 5]));
    assert_eq!(corners(2), (3, 2, vec![2, 1, 0, 5, 4, 3]));
    assert_eq!(corners(3), (3, 2, vec![5, 4, 3, 2, 1, 0]));
    assert_eq!(corners(4), (3, 2, vec![3, 4, 5, 0, 1, 2]));
    assert_eq!(corners(5), (2, 3, vec![0, 3, 1, 4, 2, 5]));
    assert_eq!(corners(6), (2, 3, vec![3, 0, 4, 1, 5, 2]));
    assert_eq!(corners(7), (2, 3, vec![5, 2, 4, 1, 3, 0]));
    assert_eq!(corners(8), (2, 3, vec![2, 5, 1, 4, 0, 3]));
}

#[test]
fn a_jpeg_result_is_turned_the_right_way_up() {
    let picture = image::RgbImage::new(16, 8);
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Jpeg).expect("an encoder");
    let mut file = file.into_inner();
    let exif =
        b"\xFF\xE1\0\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    file.splice(2..2, exif.iter().copied());
    let png = png::check(&into_png(file.into()).expect("a good picture")).expect("whole");
    assert_eq!((png.width, png.height), (8, 16));
}

#[test]
fn results_are_known_by_their_bytes_and_become_png() {
    let pixels = picture(20, 10, |x, y| [x as u8 * 12, y as u8 * 20, 90]);
    let picture = image::RgbImage::from_raw(20, 10, pixels.samples.clone()).expect("a picture");
    for (format, encoder) in
        [(Format::WebP, image::ImageFormat::WebP), (Format::Jpeg, image::ImageFormat::Jpeg)]
    {
        let mut file = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut file, encoder).expect("an encoder");
        let file = Bytes::from(file.into_inner());
        assert_eq!(check_image(&file), Ok(ImageFacts { format, width: 20, height: 10 }));
        let png = into_png(file.clone()).expect("a good picture");
        let decoded = decode(&png).expect("a good PNG");
        assert_eq!((decoded.width, decoded.height), (20, 10));
        if format == Format::WebP {
            assert_eq!(decoded.samples, pixels.samples, "this encoder is lossless");
        }
        for end in 0..file.len() - 1 {
            assert!(check_image(&file[..end]).is_err(), "{format} cut at {end}");
        }
    }
    let file = Bytes::from(png_with(&pixels, &[(*b"tEXt", b"workflow\0{}")]));
    assert_eq!(into_png(file.clone()), Ok(file.clone()));
    assert!(matches!(check_image(&file[..file.len() - 1]), Err(PictureFault::Png(_))));
    assert_eq!(check_image(b"<html></html>"), Err(PictureFault::NotAPicture));
}

#[test]
fn a_small_file_that_promises_a_huge_picture_is_refused_by_its_header() {
    fn too_large<T>(result: &Result<T, PictureFault>) -> bool {
        matches!(result, Err(PictureFault::TooLarge { .. }))
    }
    // JPEG: SOI, SOF0 of 65535 × 65535, EOI.
    let jpeg = b"\xFF\xD8\xFF\xC0\0\x0B\x08\xFF\xFF\xFF\xFF\x01\x01\x11\0\xFF\xDA\0\x08\x01\x01\0\0\x3F\0\xFF\xD9";
    assert!(too_large(&check_image(jpeg)), "{:?}", check_image(jpeg));
    let webp = |chunk: &[u8]| {
        let size = u32::try_from(4 + chunk.len()).expect("small").to_le_bytes();
        check_image(&[b"RIFF", &size[..], b"WEBP", chunk].concat())
    };
    // A canvas of one pixel that contains a frame of 16383 × 16383.
    let canvas = b"VP8X\x0A\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let frame = b"VP8 \x0A\0\0\0\x10\0\0\x9D\x01\x2A\xFF\x3F\xFF\x3F";
    assert!(too_large(&webp(&[&canvas[..], frame].concat())));
    assert!(too_large(&webp(b"VP8L\x06\0\0\0\x2F\xFF\xFF\xFF\x0F\0")));
    assert!(too_large(&webp(b"VP8X\x0A\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF")));
    assert_eq!(webp(b"ANIM\0\0\0\0"), Err(PictureFault::Animated));
    // A PNG of 8192 × 8192 pixels of eight bytes is within the sides, but needs too much memory to
    // be decoded whole.
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut file, 8192, 8192);
    encoder.set_color(::png::ColorType::Rgba);
    encoder.set_depth(::png::BitDepth::Sixteen);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_chunk(::png::chunk::IDAT, b"x").expect("a chunk");
    writer.write_chunk(::png::chunk::tEXt, &[b'x'; 2000]).expect("a chunk");
    writer.write_chunk(::png::chunk::IEND, b"").expect("a chunk");
    drop(writer);
    let end = file.windows(4).position(|name| name == b"IEND").expect("an end") + 8;
    file.truncate(end);
    assert!(too_large(&best_form(file.into(), 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_bytes_never_panic(
        start in prop::sample::select(vec![&b""[..], &png::SIGNATURE, b"\xFF\xD8\xFF\xE0", b"RIFF\x40\0\0\0WEBPVP8 ", b"RIFF\x40\0\0\0WEBPVP8L", b"RIFF\x40\0\0\0WEBPVP8X"]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        end in prop::sample::select(vec![&b""[..], b"\xFF\xD9"]),
    ) {
        let bytes = Bytes::from([start, &bytes, end].concat());
        let _ = check_image(&bytes);
        let _ = single_colour(&bytes);
        let _ = best_form(bytes.clone(), 1);
        let _ = into_png(bytes);
    }

    #[test]
    fn damaged_results_never_panic(at in 0_usize..10_000, change in 1_u8.., jpeg in any::<bool>()) {
        let picture = image::RgbImage::from_fn(24, 18, |x, y| image::Rgb(noise(x, y).to_le_bytes()[..3].try_into().expect("three")));
        let mut file = std::io::Cursor::new(Vec::new());
        let format = if jpeg { image::ImageFormat::Jpeg } else { image::ImageFormat::WebP };
        picture.write_to(&mut file, format).expect("an encoder");
        let mut file = file.into_inner();
        let at = at * file.len() / 10_000;
        file[at] ^= change;
        let _ = check_image(&file);
        let _ = into_png(file.into());
    }

    #[test]
    fn the_same_pixels_stay_the_same(
        width in 1_u32..40,
        height in 1_u32..40,
        channels in 1_usize..=4,
        depth in 1_usize..=2,
        // Few values make palettes, greys and opaque alpha likely.
        values in prop::collection::vec(prop_oneof![Just(255_u8), Just(0), any::<u8>()], 1..6),
        seed in any::<u32>(),
    ) {
        let len = width as usize * height as usize * channels * depth;
        let samples = (0..len).map(|i| values[noise(i as u32, seed) as usize % values.len()]).collect();
        let pixels = Pixels { width, height, channels, depth, samples };
        let padded = png_with(&pixels, &[(*b"tEXt", "x".repeat(40_000).as_bytes())]);
        let encoded = best_form(padded.into(), 48).expect("a small picture");
        prop_assert_eq!(encoded.form, ImageForm::SamePixels);
        prop_assert_eq!(rgba16(&decode(&encoded.bytes).expect("good")), rgba16(&pixels));
    }
}
