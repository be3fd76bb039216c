//! Resolves an accessor to its bytes in the file.
//!
//! Owns the resolution of references, with each step checked against the size of its target, and
//! the reading in pieces. [`super::scan`] interprets the bytes.

use std::{
    io::{Read, Seek, SeekFrom},
    ops::Range,
};

use super::{
    GlbFault,
    document::{Accessor, AccessorKind, Document},
};

/// How many bytes to read at once.
const READ_SIZE: u64 = 64 * 1024;

/// How often each byte of BIN may be read on average. The spans of interleaved attributes overlap,
/// and a hostile file may let thousands of accessors share the same bytes.
const MAX_READS: u64 = 32;

/// The position of an accessor's elements in the file.
#[derive(Clone, Copy)]
pub(super) struct Span {
    start: u64,
    /// The distance from one element to the next.
    stride: u64,
    /// The size of an element in bytes.
    element: u64,
    /// The number of elements; at least one.
    count: u64,
}

/// The mesh's bytes, with the description that locates them.
pub(super) struct Source<'a, R> {
    reader: &'a mut R,
    document: &'a Document,
    bin: Range<u64>,
    piece: Vec<u8>,
    /// How many bytes may still be read.
    budget: u64,
}

impl<'a, R: Read + Seek> Source<'a, R> {
    pub(super) fn new(reader: &'a mut R, document: &'a Document, bin: Range<u64>) -> Self {
        let budget = (bin.end - bin.start).saturating_mul(MAX_READS);
        Self { reader, document, bin, piece: Vec::new(), budget }
    }

    /// Returns whether positions may be integers.
    pub(super) fn is_quantized(&self) -> bool {
        self.document.is_quantized()
    }

    /// Returns an accessor's description.
    pub(super) fn accessor(&self, index: usize) -> Result<&'a Accessor, GlbFault> {
        let accessor = self.document.accessors.get(index);
        accessor.ok_or_else(|| GlbFault::OutOfRange { what: format!("accessor {index}") })
    }

    /// Returns the location of an accessor's bytes; `None` if it has no bufferView, which
    /// means zeros.
    pub(super) fn span(&self, index: usize) -> Result<Option<Span>, GlbFault> {
        let accessor = self.accessor(index)?;
        let out_of_range = || GlbFault::OutOfRange { what: format!("accessor {index}") };
        let element = element_size(accessor).ok_or_else(|| GlbFault::Inconsistent {
            what: format!("accessor {index} has a component type that does not exist"),
        })?;
        if accessor.count == 0 {
            let what = format!("accessor {index} has no elements");
            return Err(GlbFault::Inconsistent { what });
        }
        let Some(view_index) = accessor.buffer_view else { return Ok(None) };
        let view = self.view(view_index)?;
        let stride = self.document.buffer_views[view_index].byte_stride.unwrap_or(element);
        // Blender's importer takes components by their size, and fails at a stride that falls
        // between two of them.
        let component = component_size(accessor.component_type).unwrap_or(1);
        if stride < element || stride > 252 || !stride.is_multiple_of(component) {
            let what = format!("bufferView {view_index} has an impossible stride");
            return Err(GlbFault::Inconsistent { what });
        }
        let end = (accessor.count - 1)
            .checked_mul(stride)
            .and_then(|last| last.checked_add(element))
            .and_then(|size| size.checked_add(accessor.byte_offset))
            .ok_or_else(out_of_range)?;
        if end > view.end - view.start {
            return Err(out_of_range());
        }
        let start = view.start + accessor.byte_offset;
        Ok(Some(Span { start, stride, element, count: accessor.count }))
    }

    /// Checks that embedded textures are within the file.
    pub(super) fn check_images(&self) -> Result<(), GlbFault> {
        let mut views = self.document.images.iter().filter_map(|image| image.buffer_view);
        views.try_for_each(|view| self.view(view).map(drop))
    }

    /// Passes the bytes of `span` to `visit`, in pieces of whole elements and of whole groups of
    /// three of them. The second argument is the stride; the last element of a piece may be shorter
    /// than the stride, but never than an element.
    pub(super) fn read(
        &mut self,
        span: Span,
        mut visit: impl FnMut(&[u8], usize),
    ) -> Result<(), GlbFault> {
        let Span { start, stride, element, count } = span;
        let total = (count - 1) * stride + element;
        self.budget = self.budget.checked_sub(total).ok_or_else(|| {
            GlbFault::TooLarge("its accessors share the same bytes too often".to_owned())
        })?;
        let step = READ_SIZE / (3 * stride) * (3 * stride);
        self.reader.seek(SeekFrom::Start(start))?;
        let mut left = total;
        while left > 0 {
            let size = left.min(step);
            #[expect(clippy::cast_possible_truncation, reason = "at most PIECE")]
            self.piece.resize(size as usize, 0);
            self.reader.read_exact(&mut self.piece)?;
            #[expect(clippy::cast_possible_truncation, reason = "at most 252")]
            visit(&self.piece, stride as usize);
            left -= size;
        }
        Ok(())
    }

    /// Returns the location of a bufferView's bytes in the file.
    fn view(&self, index: usize) -> Result<Range<u64>, GlbFault> {
        let out_of_range = || GlbFault::OutOfRange { what: format!("bufferView {index}") };
        let view = self.document.buffer_views.get(index).ok_or_else(out_of_range)?;
        let buffer = self.document.buffers.get(view.buffer).ok_or_else(out_of_range)?;
        let size = buffer.byte_length.min(self.bin.end - self.bin.start);
        let end = view.byte_offset.checked_add(view.byte_length).ok_or_else(out_of_range)?;
        if end > size {
            return Err(out_of_range());
        }
        Ok(self.bin.start + view.byte_offset..self.bin.start + end)
    }
}

/// Returns the size of one component in bytes.
pub(super) const fn component_size(component_type: u32) -> Option<u64> {
    match component_type {
        5120 | 5121 => Some(1),
        5122 | 5123 => Some(2),
        5125 | 5126 => Some(4),
        _ => None,
    }
}

/// Returns the size of one element in bytes. The columns of a matrix begin at multiples of 4.
fn element_size(accessor: &Accessor) -> Option<u64> {
    let size = component_size(accessor.component_type)?;
    let columns = |count: u64| count * (count * size).next_multiple_of(4);
    Some(match accessor.kind {
        AccessorKind::Scalar => size,
        AccessorKind::Vec2 => 2 * size,
        AccessorKind::Vec3 => 3 * size,
        AccessorKind::Vec4 => 4 * size,
        AccessorKind::Mat2 => columns(2),
        AccessorKind::Mat3 => columns(3),
        AccessorKind::Mat4 => columns(4),
    })
}
