//! Checks the numbers: positions and indices in the file against what the JSON declares.
//!
//! Owns the reading of geometry. A broken download can leave a GLB of the right length with a tail
//! of zeros, which importers accept without an error; its bounds, its indices and its last elements
//! reveal it. Limit: damage that leaves all of these unchanged is not detected.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Seek},
};

use super::{
    GlbFault,
    access::{Source, component_size},
    document::{Accessor, AccessorKind},
};

const BYTE: u32 = 5120;
const UNSIGNED_BYTE: u32 = 5121;
const SHORT: u32 = 5122;
const UNSIGNED_SHORT: u32 = 5123;
const UNSIGNED_INT: u32 = 5125;
const FLOAT: u32 = 5126;

/// How many consecutive vertices in the origin at the very end count as damage: no modeller
/// creates them.
const ZEROS_AT_END: u64 = 4;

/// The tolerance for bounds, as a fraction of the mesh's size: writers round them to five or
/// six digits.
const TOLERANCE: f64 = 1e-4;

/// Results by accessor, because primitives share accessors.
#[derive(Default)]
pub(super) struct Checks {
    positions: BTreeMap<usize, Positions>,
    indices: BTreeMap<usize, Indices>,
    attributes: BTreeSet<usize>,
}

/// The positions of an accessor.
#[derive(Clone, Copy)]
pub(super) struct Positions {
    pub(super) count: u64,
    /// In the mesh's own units.
    pub(super) min: [f32; 3],
    pub(super) max: [f32; 3],
}

/// The indices of an accessor.
#[derive(Clone, Copy, Default)]
pub(super) struct Indices {
    pub(super) count: u64,
    pub(super) max: u32,
    min: u32,
    /// The number of groups of three different indices.
    pub(super) real_triangles: u64,
    /// The number of groups of three zeros at the end.
    pub(super) zero_triangles_at_end: u64,
}

impl Checks {
    /// Reads every position: each must be finite and within the declared bounds, and together they
    /// must fill the bounds.
    pub(super) fn positions<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        index: usize,
    ) -> Result<Positions, GlbFault> {
        if let Some(known) = self.positions.get(&index) {
            return Ok(*known);
        }
        let accessor = source.accessor(index)?;
        let quantized =
            matches!(accessor.component_type, BYTE | UNSIGNED_BYTE | SHORT | UNSIGNED_SHORT)
                && source.is_quantized();
        if accessor.kind != AccessorKind::Vec3 || !(accessor.component_type == FLOAT || quantized) {
            let what = format!("accessor {index} is not a list of positions");
            return Err(GlbFault::Inconsistent { what });
        }
        let Some(span) = source.span(index)? else {
            // The format defines this as zeros: the whole mesh would be one point.
            return Err(GlbFault::NoExtent);
        };
        let mut bounds = Bounds::default();
        match accessor.component_type {
            BYTE => source.read(span, |piece, stride| {
                bounds.take(piece, stride, |&[x, y, z]: &[u8; 3]| {
                    [x, y, z].map(|v| f32::from(v.cast_signed()))
                });
            })?,
            UNSIGNED_BYTE => source.read(span, |piece, stride| {
                bounds.take(piece, stride, |&[x, y, z]: &[u8; 3]| [x, y, z].map(f32::from));
            })?,
            SHORT => source.read(span, |piece, stride| {
                bounds.take(piece, stride, |&[a, b, c, d, e, f]: &[u8; 6]| {
                    [[a, b], [c, d], [e, f]].map(|v| f32::from(i16::from_le_bytes(v)))
                });
            })?,
            UNSIGNED_SHORT => source.read(span, |piece, stride| {
                bounds.take(piece, stride, |&[a, b, c, d, e, f]: &[u8; 6]| {
                    [[a, b], [c, d], [e, f]].map(|v| f32::from(u16::from_le_bytes(v)))
                });
            })?,
            _ => source.read(span, |piece, stride| {
                bounds.take(piece, stride, |&[a, b, c, d, e, f, g, h, i, j, k, l]: &[u8; 12]| {
                    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(f32::from_le_bytes)
                });
            })?,
        }
        let positions = bounds.checked(index, accessor)?;
        self.positions.insert(index, positions);
        Ok(positions)
    }

    /// Reads every index of a primitive.
    pub(super) fn indices<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        index: usize,
    ) -> Result<Indices, GlbFault> {
        if let Some(known) = self.indices.get(&index) {
            return Ok(*known);
        }
        let accessor = source.accessor(index)?;
        let unsigned =
            matches!(accessor.component_type, UNSIGNED_BYTE | UNSIGNED_SHORT | UNSIGNED_INT);
        if accessor.kind != AccessorKind::Scalar || !unsigned {
            let what = format!("accessor {index} is not a list of indices");
            return Err(GlbFault::Inconsistent { what });
        }
        let Some(span) = source.span(index)? else {
            return Err(GlbFault::NoExtent);
        };
        let mut indices = Indices { count: accessor.count, min: u32::MAX, ..Indices::default() };
        match accessor.component_type {
            UNSIGNED_BYTE => source.read(span, |piece, stride| {
                indices.take(piece, stride, |&[a]: &[u8; 1]| u32::from(a));
            })?,
            UNSIGNED_SHORT => source.read(span, |piece, stride| {
                indices.take(piece, stride, |&v: &[u8; 2]| u32::from(u16::from_le_bytes(v)));
            })?,
            _ => source.read(span, |piece, stride| {
                indices.take(piece, stride, |&v: &[u8; 4]| u32::from_le_bytes(v));
            })?,
        }
        let declared = |bound: &Option<Vec<f64>>, actual: u32| {
            bound.as_ref().is_none_or(|bound| bound.as_slice() == [f64::from(actual)])
        };
        if !declared(&accessor.min, indices.min) || !declared(&accessor.max, indices.max) {
            return Err(GlbFault::BoundsDiffer { accessor: index });
        }
        self.indices.insert(index, indices);
        Ok(indices)
    }

    /// Searches for elements of zeros in an attribute whose declared bounds exclude zero. The
    /// bounds are not compared any further: writers disagree on the bounds of normalised integers.
    pub(super) fn attribute<R: Read + Seek>(
        &mut self,
        source: &mut Source<'_, R>,
        index: usize,
    ) -> Result<(), GlbFault> {
        let accessor = source.accessor(index)?;
        let above = accessor.min.iter().flatten().any(|&min| min > 0.0);
        let below = accessor.max.iter().flatten().any(|&max| max < 0.0);
        if !(above || below) || self.attributes.contains(&index) {
            return Ok(());
        }
        let Some(span) = source.span(index)? else {
            return Err(GlbFault::BoundsDiffer { accessor: index });
        };
        let len = component_size(accessor.component_type).unwrap_or(1) * accessor.kind.components();
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut zeros = false;
        source.read(span, |piece, stride| {
            zeros |= piece.chunks(stride).any(|element| element.iter().take(len).all(|&b| b == 0));
        })?;
        if zeros {
            return Err(GlbFault::BoundsDiffer { accessor: index });
        }
        self.attributes.insert(index);
        Ok(())
    }
}

/// The actual bounds of positions.
struct Bounds {
    min: [f32; 3],
    max: [f32; 3],
    finite: bool,
    zeros_at_end: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { min: [f32::INFINITY; 3], max: [f32::NEG_INFINITY; 3], finite: true, zeros_at_end: 0 }
    }
}

impl Bounds {
    fn take<const N: usize>(
        &mut self,
        piece: &[u8],
        stride: usize,
        decode: impl Fn(&[u8; N]) -> [f32; 3],
    ) {
        for element in piece.chunks(stride).filter_map(<[u8]>::first_chunk) {
            let point = decode(element);
            for (axis, value) in point.into_iter().enumerate() {
                self.min[axis] = self.min[axis].min(value);
                self.max[axis] = self.max[axis].max(value);
                // `min` and `max` ignore NaN.
                self.finite &= value.is_finite();
            }
            let zeros = element.iter().all(|&byte| byte == 0);
            self.zeros_at_end = if zeros { self.zeros_at_end + 1 } else { 0 };
        }
    }

    fn checked(self, index: usize, accessor: &Accessor) -> Result<Positions, GlbFault> {
        if !self.finite {
            return Err(GlbFault::NotFinite { accessor: index });
        }
        let size = (0..3)
            .map(|axis| f64::from(self.max[axis]) - f64::from(self.min[axis]))
            .fold(0.0, f64::max);
        let same = |declared: &Option<Vec<f64>>, actual: [f32; 3]| {
            declared.as_ref().is_none_or(|declared| {
                declared.len() == 3
                    && declared.iter().zip(actual).all(|(&declared, actual)| {
                        let actual = f64::from(actual);
                        // Far from the origin, 32 bits are coarser than the mesh's size.
                        (declared - actual).abs() <= TOLERANCE * size + 1e-6 * actual.abs()
                    })
            })
        };
        if !same(&accessor.min, self.min) || !same(&accessor.max, self.max) {
            return Err(GlbFault::BoundsDiffer { accessor: index });
        }
        if self.zeros_at_end >= ZEROS_AT_END {
            return Err(GlbFault::ZeroTail { accessor: index });
        }
        let scale = match (accessor.normalized, accessor.component_type) {
            (true, BYTE) => 1.0 / 127.0,
            (true, UNSIGNED_BYTE) => 1.0 / 255.0,
            (true, SHORT) => 1.0 / 32_767.0,
            (true, UNSIGNED_SHORT) => 1.0 / 65_535.0,
            _ => 1.0,
        };
        let scaled = |point: [f32; 3]| point.map(|value| value * scale);
        Ok(Positions { count: accessor.count, min: scaled(self.min), max: scaled(self.max) })
    }
}

impl Indices {
    fn take<const N: usize>(
        &mut self,
        piece: &[u8],
        stride: usize,
        decode: impl Fn(&[u8; N]) -> u32,
    ) {
        let corner = |element: &[u8]| element.first_chunk().map_or(0, &decode);
        for group in piece.chunks(3 * stride) {
            let mut corners = [u32::MAX; 3];
            for (place, element) in corners.iter_mut().zip(group.chunks(stride)) {
                *place = corner(element);
                self.max = self.max.max(*place);
                self.min = self.min.min(*place);
            }
            let [a, b, c] = corners;
            self.real_triangles += u64::from(a != b && b != c && a != c);
            self.zero_triangles_at_end =
                if corners == [0; 3] { self.zero_triangles_at_end + 1 } else { 0 };
        }
    }
}

impl AccessorKind {
    /// Returns how many numbers an element has.
    const fn components(self) -> u64 {
        match self {
            Self::Scalar => 1,
            Self::Vec2 => 2,
            Self::Vec3 => 3,
            Self::Vec4 | Self::Mat2 => 4,
            Self::Mat3 => 9,
            Self::Mat4 => 16,
        }
    }
}
