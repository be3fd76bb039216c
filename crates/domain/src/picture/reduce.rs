//! Stores the same pixels with fewer bits each, without changing any colour.
//!
//! Owns the lossless reductions: two-byte samples that fit into one byte, alpha that is opaque
//! everywhere, colour that is grey everywhere, and few colours as a palette. Colours of transparent
//! pixels are kept: ComfyUI's LoadImage drops alpha and shows them.

use super::pixels::Pixels;

/// Removes redundant bits. Every pixel keeps its exact colour.
pub(super) fn lossless(mut pixels: Pixels) -> Pixels {
    if pixels.depth == 2 && pixels.samples.chunks_exact(2).all(|sample| sample[0] == sample[1]) {
        pixels = one_byte_samples(&pixels);
    }
    if pixels.has_alpha() && is_opaque(&pixels) {
        pixels = with_channels(&pixels, if pixels.channels == 4 { &[0, 1, 2] } else { &[0] });
    }
    if pixels.channels >= 3 && is_grey(&pixels) {
        pixels = with_channels(&pixels, if pixels.has_alpha() { &[0, 3] } else { &[0] });
    }
    pixels
}

/// Keeps the upper byte of every sample; the lossy forms support only one-byte samples.
pub(super) fn one_byte_samples(pixels: &Pixels) -> Pixels {
    let samples = pixels.samples.iter().step_by(pixels.depth).copied().collect();
    Pixels { depth: 1, samples, ..*pixels }
}

fn with_channels(pixels: &Pixels, channels: &[usize]) -> Pixels {
    let (len, depth) = (pixels.pixel_len(), pixels.depth);
    let mut samples = Vec::with_capacity(pixels.samples.len() / pixels.channels * channels.len());
    for pixel in pixels.samples.chunks_exact(len) {
        for &channel in channels {
            samples.extend_from_slice(&pixel[channel * depth..(channel + 1) * depth]);
        }
    }
    Pixels { channels: channels.len(), samples, ..*pixels }
}

fn is_opaque(pixels: &Pixels) -> bool {
    let (len, depth) = (pixels.pixel_len(), pixels.depth);
    let mut every = pixels.samples.chunks_exact(len);
    every.all(|pixel| pixel[len - depth..].iter().all(|&byte| byte == u8::MAX))
}

/// Returns whether red, green and blue are equal in every pixel.
fn is_grey(pixels: &Pixels) -> bool {
    let (len, depth) = (pixels.pixel_len(), pixels.depth);
    let mut every = pixels.samples.chunks_exact(len);
    every.all(|pixel| pixel[..2 * depth] == pixel[depth..3 * depth])
}

/// A picture with at most 256 colours, with a one-byte index for each pixel.
pub(super) struct Indexed {
    /// Red, green, blue, alpha; non-opaque colours come first, so that tRNS is short.
    pub(super) palette: Vec<[u8; 4]>,
    /// One index for each pixel, row by row.
    pub(super) indices: Vec<u8>,
}

/// Returns the palette form of a picture with one-byte samples and at most 256 colours.
pub(super) fn indexed(pixels: &Pixels) -> Option<Indexed> {
    if pixels.depth != 1 {
        return None;
    }
    let mut table = Table::default();
    let mut indices = Vec::with_capacity(pixels.samples.len() / pixels.channels);
    let mut last = (None, 0);
    for pixel in pixels.samples.chunks_exact(pixels.channels) {
        let colour = match *pixel {
            [v] => [v, v, v, u8::MAX],
            [v, a] => [v, v, v, a],
            [r, g, b] => [r, g, b, u8::MAX],
            [r, g, b, a] => [r, g, b, a],
            _ => return None,
        };
        if last.0 != Some(colour) {
            last = (Some(colour), table.index(colour)?);
        }
        indices.push(last.1);
    }
    Some(sorted(&table.colours, indices))
}

/// Sorts the palette by opacity and brightness: neighbours in the picture become neighbours in
/// the palette.
fn sorted(colours: &[[u8; 4]], mut indices: Vec<u8>) -> Indexed {
    let brightness = |c: [u8; 4]| u16::from(c[0]) + u16::from(c[1]) + u16::from(c[2]);
    let mut order: Vec<u8> = (0..=u8::MAX).take(colours.len()).collect();
    order.sort_by_key(|&old| {
        let colour = colours[usize::from(old)];
        (colour[3] == u8::MAX, brightness(colour), colour)
    });
    let mut new_of_old = [0_u8; 256];
    for (new, &old) in (0..=u8::MAX).zip(&order) {
        new_of_old[usize::from(old)] = new;
    }
    for index in &mut indices {
        *index = new_of_old[usize::from(*index)];
    }
    Indexed { palette: order.into_iter().map(|old| colours[usize::from(old)]).collect(), indices }
}

/// Colours in order of appearance, with a small hash table: a million look-ups take a
/// few milliseconds.
struct Table {
    colours: Vec<[u8; 4]>,
    /// Index of a colour plus one; 0 is free. Never more than a quarter full.
    slots: [u16; Self::SLOTS],
}

impl Default for Table {
    fn default() -> Self {
        Self { colours: Vec::with_capacity(256), slots: [0; Self::SLOTS] }
    }
}

impl Table {
    const SLOTS: usize = 1024;

    /// Returns the index of `colour`, or `None` if it would be the 257th.
    fn index(&mut self, colour: [u8; 4]) -> Option<u8> {
        // Fibonacci hashing: the upper ten bits of the product are well mixed.
        let mut slot = (u32::from_le_bytes(colour).wrapping_mul(0x9E37_79B1) >> 22) as usize;
        loop {
            match self.slots[slot] {
                0 => {
                    let index = u8::try_from(self.colours.len()).ok()?;
                    self.colours.push(colour);
                    self.slots[slot] = u16::from(index) + 1;
                    return Some(index);
                }
                taken if self.colours[usize::from(taken) - 1] == colour => {
                    return u8::try_from(taken - 1).ok();
                }
                _ => slot = (slot + 1) % Self::SLOTS,
            }
        }
    }
}
