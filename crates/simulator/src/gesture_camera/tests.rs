//! Tests for the stand-in's frames and for its flawed way of writing files.

use super::*;

/// Splits a PNG into chunks, checking every checksum.
fn chunks(file: &[u8]) -> Vec<(String, Vec<u8>)> {
    assert_eq!(&file[..8], b"\x89PNG\r\n\x1a\n");
    let (mut at, mut found) = (8, Vec::new());
    while at < file.len() {
        let word = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().expect("four bytes"));
        let size = word(at) as usize;
        let end = at + 8 + size;
        assert_eq!(crc32fast::hash(&file[at + 4..end]), word(end));
        let name = String::from_utf8(file[at + 4..at + 8].to_vec()).expect("ASCII");
        found.push((name, file[at + 8..end].to_vec()));
        at = end + 4;
    }
    assert_eq!(found.last().map(|(name, _)| name.as_str()), Some("IEND"));
    found
}

fn of_kind(file: &[u8], kind: &str) -> Vec<Vec<u8>> {
    chunks(file).into_iter().filter(|(name, _)| name == kind).map(|(_, content)| content).collect()
}

#[test]
fn the_same_scene_has_the_same_pixels_and_never_the_same_file() {
    let mut camera = GestureCamera::with_side(96);
    let (first, second, other) = (camera.frame(1), camera.frame(1), camera.frame(2));
    assert_ne!(first, second);
    assert_eq!(of_kind(&first, "IDAT"), of_kind(&second, "IDAT"));
    assert_ne!(of_kind(&first, "tEXt"), of_kind(&second, "tEXt"));
    assert_ne!(of_kind(&first, "IDAT"), of_kind(&other, "IDAT"), "another scene");
    assert_eq!(of_kind(&camera.frame(1), "IDAT"), of_kind(&first, "IDAT"), "and back again");
    let keys = of_kind(&first, "tEXt");
    for key in ["File", "Date", "Time", "RenderTime"] {
        assert!(keys.iter().any(|text| text.starts_with(format!("{key}\0").as_bytes())), "{key}");
    }
}

#[test]
fn a_frame_looks_like_conjures_renders() {
    let frame = GestureCamera::new().frame(3);
    let picture = image::load_from_memory(&frame).expect("a PNG");
    let image::DynamicImage::ImageRgba8(pixels) = picture else { panic!("8-bit RGBA") };
    assert_eq!((pixels.width(), pixels.height()), (1024, 1024));
    assert!(pixels.pixels().all(|pixel| pixel.0[3] == 255));
    let corner = pixels.get_pixel(2, 2).0[0];
    assert!((50..=59).contains(&corner), "the grey of the start scene: {corner}");
    let bright = pixels.pixels().filter(|pixel| pixel.0[0] > 90).count();
    assert!(bright > 50_000, "something stands in the middle: {bright}");
    assert!((500_000..850_000).contains(&frame.len()), "{} bytes", frame.len());
    assert!(of_kind(&frame, "IDAT").iter().all(|piece| piece.len() <= IDAT_SIZE));
}

#[tokio::test(start_paused = true)]
async fn writing_takes_its_time_and_keeps_the_inode() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/render.png");
    let bytes = vec![7; 150 * CHUNK_SIZE];
    write_like_blender(&path, b"old").await.expect("written");
    let before = fs::metadata(&path).expect("there");
    let started = tokio::time::Instant::now();
    let mut sizes = Vec::new();
    let writing = write_like_blender(&path, &bytes);
    tokio::pin!(writing);
    loop {
        tokio::select! {
            biased;
            done = &mut writing => break done.expect("written"),
            () = sleep(Duration::from_millis(1)) => {
                sizes.push(fs::metadata(&path).expect("there").len());
            }
        }
    }
    let taken = started.elapsed();
    assert!((60..=110).contains(&taken.as_millis()), "{taken:?}");
    sizes.dedup();
    assert!(sizes.len() > 5 && sizes.is_sorted(), "it grows before everybody's eyes: {sizes:?}");
    assert_eq!(fs::read(&path).expect("there"), bytes);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(fs::metadata(&path).expect("there").ino(), before.ino());
    }
    let _ = before;
}

#[test]
fn a_prompt_has_an_em_dash_and_no_newline() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("userPrompt.txt");
    let text = prompt("carrot", "a plump body and a tuft of leaves");
    say(&path, "something longer that was said before, and that must be gone afterwards")
        .expect("written");
    say(&path, &text).expect("written");
    let read = fs::read_to_string(&path).expect("there");
    assert_eq!(read, text);
    assert!(read.starts_with("carrot with a plump") && read.contains('\u{2014}'));
    assert!(!read.contains('\n') && !read.starts_with(". Shown in"));
}
