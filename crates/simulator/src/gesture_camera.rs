//! A stand-in for the Blender side: CONJURE's GestureCamera, and the agent that writes the prompt.
//!
//! Owns frames that look sculpted and are structured like Blender's (fresh `tEXt` chunks in each
//! render even when no pixel changed, the same `IDAT` while the scene is the same), and the two
//! ways in which CONJURE writes its files, with their flaws. It deliberately does nothing to make
//! them easier to read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::ZlibEncoder};
use jiff::civil::DateTime;
use tokio::time::sleep;

use super::produce::{chunk, scatter};

/// The side of CONJURE's renders.
pub const SIDE: u32 = 1024;
/// Blender's PNG writer makes chunks of this size.
const IDAT_SIZE: usize = 8192;
/// The size of the pieces in which the file arrives on disk.
const CHUNK_SIZE: usize = 4096;
/// How many pieces are written between two pauses: with a pause of 5 ms, 150 pieces take some 75 ms
/// (61 to 115 ms were measured with the real one).
const CHUNKS_PER_PAUSE: usize = 10;
const WRITE_PAUSE: Duration = Duration::from_millis(5);

/// The camera: renders scenes, and remembers the pixels of the last one.
#[derive(Debug)]
pub struct GestureCamera {
    side: u32,
    rendered: Option<(u32, Bytes)>,
    frames: u32,
    clock: DateTime,
}

impl Default for GestureCamera {
    fn default() -> Self {
        Self::new()
    }
}

impl GestureCamera {
    /// Creates a camera with CONJURE's picture size.
    pub fn new() -> Self {
        Self::with_side(SIDE)
    }

    /// Creates a camera whose frames are `side` pixels square (at least 8), for faster tests.
    pub fn with_side(side: u32) -> Self {
        let clock = jiff::civil::date(2026, 1, 15).at(10, 0, 0, 0);
        Self { side: side.max(8), rendered: None, frames: 0, clock }
    }

    /// Renders `scene` as a PNG. Another number gives another sculpture; the same number gives
    /// the same pixels and the same `IDAT`, but never the same file, because date and render
    /// time differ.
    pub fn frame(&mut self, scene: u32) -> Bytes {
        self.frames += 1;
        // Auto-refresh happens every three seconds; the date in a file has whole seconds.
        self.clock = self.clock.saturating_add(jiff::SignedDuration::from_secs(3));
        let pixels = match &self.rendered {
            Some((rendered, pixels)) if *rendered == scene => pixels.clone(),
            _ => Bytes::from(deflate(&render(scene, self.side))),
        };
        self.rendered = Some((scene, pixels.clone()));

        let mut header = Vec::from(self.side.to_be_bytes());
        header.extend(self.side.to_be_bytes());
        header.extend([8, 6, 0, 0, 0]); // 8 bits, RGBA, no interlace
        let mut file = Vec::with_capacity(pixels.len() + pixels.len() / 64 + 1024);
        file.extend(b"\x89PNG\r\n\x1a\n");
        chunk(&mut file, *b"IHDR", &header);
        chunk(&mut file, *b"pHYs", &[0, 0, 11, 18, 0, 0, 11, 18, 1]);
        let render_time = 6 + scatter(self.frames.into()) % 6;
        for (key, value) in [
            ("File", "<untitled>".to_owned()),
            ("Date", self.clock.strftime("%Y/%m/%d %H:%M:%S").to_string()),
            ("Time", format!("00:00:00:{:02}", self.frames % 24)),
            ("Frame", "001".to_owned()),
            ("Camera", "GestureCamera".to_owned()),
            ("Scene", "Scene".to_owned()),
            ("RenderTime", format!("00:00.{render_time:02}")),
        ] {
            chunk(&mut file, *b"tEXt", format!("{key}\0{value}").as_bytes());
        }
        for piece in pixels.chunks(IDAT_SIZE) {
            chunk(&mut file, *b"IDAT", piece);
        }
        chunk(&mut file, *b"IEND", &[]);
        file.into()
    }
}

/// Writes a file as Blender does: the old content is truncated first, then pieces of 4 KiB
/// arrive, with no rename and no sync. For some 75 ms a reader sees a broken file. A missing
/// folder is created.
pub async fn write_like_blender(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = truncated(path)?;
    for breath in bytes.chunks(CHUNK_SIZE * CHUNKS_PER_PAUSE) {
        for piece in breath.chunks(CHUNK_SIZE) {
            file.write_all(piece)?;
        }
        sleep(WRITE_PAUSE).await;
    }
    Ok(())
}

/// Writes a prompt as CONJURE's `BackendAgent` does: truncate, then one write; no newline, no
/// rename, no sync.
pub fn say(path: &Path, text: &str) -> io::Result<()> {
    truncated(path)?.write_all(text.as_bytes())
}

/// Opens a file empty, keeping its inode. This is the only code of the simulator that touches
/// files: it stands for two other programs whose way of writing the disk layer must handle, so it
/// cannot use that layer.
fn truncated(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

/// Composes a prompt in the form of CONJURE's agent: a name, its description, and a fixed paragraph
/// on photography, which always contains an em dash.
pub fn prompt(name: &str, descriptors: &str) -> String {
    format!(
        "{name} with {descriptors}. Shown in a three-quarter view so that front and side can both be read, the whole \
         {name} inside the frame and resting on nothing. Plain studio backdrop, broad soft light from above \u{2014} \
         no cast shadow, no text, no second object. Crisp edges, true proportions, fine surface detail from the \
         nearest to the farthest part, as a catalogue would print it."
    )
}

/// Renders a scene: RGBA rows, each after its filter byte.
fn render(scene: u32, side: u32) -> Vec<u8> {
    let sculpture = Sculpture::of(scene);
    let mut rows = Vec::with_capacity((side as usize * 4 + 1) * side as usize);
    for y in 0..side {
        rows.push(0); // no filter: the noise would not compress better under another
        for x in 0..side {
            let (across, down) = (centred(x, side), centred(y, side));
            // Blender dithers: about every third pixel is one step brighter, the same ones in
            // each render.
            let grain = u8::from(scatter(u64::from(y) << 32 | u64::from(x)).is_multiple_of(3));
            let (light, colour) = sculpture.at(across, down);
            let pixel = match light {
                Some(light) => colour.map(|channel| shade(channel * light).saturating_add(grain)),
                // The world's grey, darker towards the floor: 50 to 59 in the start scene.
                None => [57 - u8::try_from(y * 6 / side).unwrap_or(0) + grain; 3],
            };
            rows.extend(pixel);
            rows.push(255);
        }
    }
    rows
}

/// A lump of clay: a ball whose radius varies with the angle, so that each scene has its own bumps.
struct Sculpture {
    centre: [f32; 2],
    radius: f32,
    bumps: [(f32, f32, f32); 4],
}

impl Sculpture {
    fn of(scene: u32) -> Self {
        let draw = |what: u64| {
            let bits = scatter(u64::from(scene) << 8 | what) >> 48;
            f32::from(u16::try_from(bits).unwrap_or(0)) / 65_536.0
        };
        let bump = |index: u8| {
            let drawn = u64::from(index) * 4 + 16;
            let turns = f32::from(index) + 2.0;
            (turns, draw(drawn) * std::f32::consts::TAU, 0.03 + 0.07 * draw(drawn + 1))
        };
        Self {
            centre: [0.2 * (draw(1) - 0.5), 0.2 * (draw(2) - 0.5)],
            radius: 0.45 + 0.15 * draw(3),
            bumps: [bump(0), bump(1), bump(2), bump(3)],
        }
    }

    /// Returns the light at a point from −1 to 1 (`None` outside the sculpture) and the colour of
    /// the clay.
    fn at(&self, across: f32, down: f32) -> (Option<f32>, [f32; 3]) {
        const CLAY: [f32; 3] = [205.0, 188.0, 172.0];
        let (x, y) = (across - self.centre[0], down - self.centre[1]);
        let angle = y.atan2(x);
        let swing =
            self.bumps.iter().map(|(turns, phase, size)| size * (turns * angle + phase).sin());
        let edge = self.radius + swing.sum::<f32>();
        let distance = x.hypot(y) / edge;
        if distance >= 1.0 {
            return (None, CLAY);
        }
        let towards_us = (1.0 - distance * distance).sqrt();
        let (nx, ny) = (x / edge, y / edge);
        let facing = (-0.5 * nx - 0.6 * ny + 0.62 * towards_us).max(0.0);
        let fold = 1.0 - 0.12 * (9.0 * distance + 3.0 * angle).sin().abs() * (1.0 - towards_us);
        (Some((0.28 + 0.72 * facing) * fold), CLAY)
    }
}

/// Maps 0..side to −1..1.
fn centred(at: u32, side: u32) -> f32 {
    let small = |value: u32| f32::from(u16::try_from(value).unwrap_or(u16::MAX));
    small(at) / small(side) * 2.0 - 1.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn shade(value: f32) -> u8 {
    value.clamp(0.0, 250.0) as u8
}

fn deflate(rows: &[u8]) -> Vec<u8> {
    // Blender's 15 %: fast, and some 600 KB per frame, like CONJURE's.
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(2));
    // Writing to a vector cannot fail.
    let _ = encoder.write_all(rows);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests;
