//! Columns: long lists that grow at their end by pieces, of which none is ever copied.
//!
//! What enters and leaves: values by their row. Neighbours: `udpif::index`, which has a column for each word that megaflows are judged by, and
//! `classifier::trie` and `conn::bundles`, whose nodes and members are rows. A `Vec` that has grown to hundreds of thousands of rows has been copied as often, and memory that
//! was never used before is the dearest there is: what its last growth touches is twice what it holds.

use std::ops::{Index, IndexMut};

/// Rows in a piece but the first, which grows like a `Vec` up to here: most columns are short.
pub(crate) const PIECE: usize = if cfg!(test) { 128 } else { 4096 };
/// Rows that `run` may give at once begin at a multiple of this.
pub(crate) const RUN: usize = 64;

const _: () = assert!(PIECE.is_multiple_of(RUN));

/// A list.
#[derive(Debug)]
pub(crate) struct Column<T> {
    pieces: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self { pieces: Vec::new(), len: 0 }
    }
}

impl<T> Column<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, value: T) {
        let piece = self.len / PIECE;
        if piece == self.pieces.len() {
            self.pieces.push(if piece == 0 { Vec::new() } else { Vec::with_capacity(PIECE) });
        }
        self.pieces[piece].push(value);
        self.len += 1;
    }

    /// Takes the last row out.
    fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        let piece = self.len / PIECE;
        // One empty piece stays: rows that come and go at a piece's end ask for no memory each time.
        self.pieces.truncate(piece + 2);
        self.pieces[piece].pop()
    }

    /// Takes a row, which there is, out; the last takes its place.
    pub(crate) fn swap_remove(&mut self, row: usize) {
        if let Some(last) = self.pop()
            && row < self.len
        {
            self[row] = last;
        }
    }

    pub(crate) fn get(&self, row: usize) -> Option<&T> {
        self.pieces.get(row / PIECE)?.get(row % PIECE)
    }

    pub(crate) fn get_mut(&mut self, row: usize) -> Option<&mut T> {
        self.pieces.get_mut(row / PIECE)?.get_mut(row % PIECE)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// Rows `start` (a multiple of `RUN`) to `end`, at most `RUN` of them.
    pub(crate) fn run(&self, start: usize, end: usize) -> &[T] {
        let first = start % PIECE;
        &self.pieces[start / PIECE][first..first + (end - start)]
    }
}

impl<T> Index<usize> for Column<T> {
    type Output = T;

    fn index(&self, row: usize) -> &T {
        &self.pieces[row / PIECE][row % PIECE]
    }
}

impl<T> IntoIterator for Column<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<Vec<T>>>;

    /// From the first row on; each piece is freed as soon as its rows are taken.
    fn into_iter(self) -> Self::IntoIter {
        self.pieces.into_iter().flatten()
    }
}

impl<T> IndexMut<usize> for Column<T> {
    fn index_mut(&mut self, row: usize) -> &mut T {
        &mut self.pieces[row / PIECE][row % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flow::extract_gen::PacketGen;

    /// The twin: a `Vec`.
    #[test]
    fn holds_what_a_vec_holds() {
        let mut g = PacketGen::new(11);
        let (mut column, mut twin) = (Column::default(), Vec::new());
        for i in 0..20_000 {
            let shrinks = i / 2_000 % 2 == 1;
            if !twin.is_empty() && (g.below(4) == 0) != shrinks {
                let row = g.below(twin.len());
                column.swap_remove(row);
                twin.swap_remove(row);
            } else {
                column.push(i);
                twin.push(i);
            }
            if !twin.is_empty() {
                let row = g.below(twin.len());
                column[row] += 1;
                twin[row] += 1;
                assert_eq!((column[row], column.get(twin.len())), (twin[row], None));
                let start = row / RUN * RUN;
                let end = twin.len().min(start + RUN);
                assert_eq!(column.run(start, end), &twin[start..end]);
            }
            assert_eq!((column.len(), column.is_empty()), (twin.len(), twin.is_empty()));
        }
        assert!(column.iter().eq(&twin) && column.pieces.len() > 1);
        assert!(column.into_iter().eq(twin));
    }
}
