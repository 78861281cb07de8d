//! Records that are put aside by the first byte of their keys, in bounded memory: they come back one part
//! at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// How many parts there are: one for each first byte of a key.
pub(super) const PARTS: usize = 256;

/// Records of [`PARTS`] parts. What does not fit into memory is in a file without a name, which is gone
/// when this is dropped, however the process ends.
pub(super) struct Scatter {
    folder: PathBuf,
    /// A part writes out what it has when it has so much.
    buffer_bytes: usize,
    parts: Vec<Part>,
    file: Option<File>,
    written: u64,
}

#[derive(Default)]
struct Part {
    buffer: Vec<u8>,
    /// Where in the file its bytes are, in their order.
    extents: Vec<(u64, usize)>,
}

impl Part {
    fn len(&self) -> usize {
        self.extents.iter().map(|(_, len)| len).sum::<usize>() + self.buffer.len()
    }
}

impl Scatter {
    /// Takes up to `buffer_bytes` of memory a part; the file is made in `folder`.
    pub(super) fn new(folder: &Path, buffer_bytes: usize) -> Self {
        let parts = std::iter::repeat_with(Part::default).take(PARTS).collect();
        Self { folder: folder.into(), buffer_bytes, parts, file: None, written: 0 }
    }

    /// Adds a record; `write` appends its bytes.
    ///
    /// # Errors
    /// The file can't be made or written to.
    pub(super) fn push(&mut self, first: u8, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let part = &mut self.parts[usize::from(first)];
        write(&mut part.buffer);
        if part.buffer.len() < self.buffer_bytes {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(&self.folder)?),
        };
        file.write_all_at(&part.buffer, self.written)?;
        part.extents.push((self.written, part.buffer.len()));
        self.written += part.buffer.len() as u64;
        part.buffer.clear();
        Ok(())
    }

    /// How many bytes the largest part has.
    pub(super) fn largest(&self) -> usize {
        self.parts.iter().map(Part::len).max().unwrap_or(0)
    }

    /// Shows the bytes of a part, in the order in which they were added: whole records at a time, and not
    /// much more at once than takes memory anyway.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn for_each(&self, part: usize, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let Part { buffer, extents } = &self.parts[part];
        if let Some(file) = &self.file {
            let mut bytes = Vec::new();
            for (at, len) in extents {
                bytes.resize(*len, 0);
                file.read_exact_at(&mut bytes, *at)?;
                each(&bytes);
            }
        }
        each(buffer);
        Ok(())
    }

    /// The bytes of a part, in the order in which they were added.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn read(&self, part: usize) -> io::Result<Vec<u8>> {
        let Part { buffer, extents } = &self.parts[part];
        let mut bytes = Vec::with_capacity(self.parts[part].len());
        if let Some(file) = &self.file {
            for (at, len) in extents {
                let start = bytes.len();
                bytes.resize(start + len, 0);
                file.read_exact_at(&mut bytes[start..], *at)?;
            }
        }
        bytes.extend_from_slice(buffer);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_aside_comes_back_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for buffer_bytes in [1, 7, 100, 1 << 20] {
            let mut scatter = Scatter::new(folder.path(), buffer_bytes);
            let mut expected = vec![Vec::new(); PARTS];
            for number in 0..5000_u32 {
                let first = (number.wrapping_mul(2_654_435_761) >> 24) as u8;
                let record = vec![number as u8; number as usize % 9];
                expected[usize::from(first)].extend_from_slice(&record);
                scatter.push(first, |into| into.extend_from_slice(&record)).unwrap();
            }
            assert_eq!(scatter.largest(), expected.iter().map(Vec::len).max().unwrap());
            for (part, expected) in expected.iter().enumerate() {
                assert_eq!(&scatter.read(part).unwrap(), expected, "{buffer_bytes} {part}");
                let mut pieces = Vec::new();
                scatter.for_each(part, |piece| pieces.extend_from_slice(piece)).unwrap();
                assert_eq!(&pieces, expected, "{buffer_bytes} {part}");
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a file has a name");
    }
}
