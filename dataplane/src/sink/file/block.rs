//! Rows on their way from the data core to the thread that writes them.
//!
//! Owns: [`Block`]: rows one behind the other, and where the bucket changes. Invariant: pieces cover the rows in order,
//! none is empty but the last.
//! Left out: bounds on its size (the operator hands it over in time).

use crate::limits::FILE_BLOCK_BYTES;

/// Rows of any buckets, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Block {
    rows: Vec<u8>,
    buckets: String,
    pieces: Vec<Piece>,
    records: u64,
    /// When records that are measured were due at their source.
    origins_ns: Vec<u64>,
}

/// Rows of one bucket: up to where they, and the text of its name, go.
#[derive(Debug, Clone, Copy)]
struct Piece {
    bucket_from: usize,
    bucket_to: usize,
    rows_from: usize,
}

impl Block {
    /// The bucket of the rows that come last; none in an empty block.
    #[inline]
    pub(super) fn last_bucket(&self) -> Option<&str> {
        let piece = self.pieces.last()?;
        Some(&self.buckets[piece.bucket_from..piece.bucket_to])
    }

    /// The rows that follow are of `bucket`.
    pub(super) fn begin(&mut self, bucket: &str) {
        let bucket_from = self.buckets.len();
        self.buckets.push_str(bucket);
        self.pieces.push(Piece {
            bucket_from,
            bucket_to: self.buckets.len(),
            rows_from: self.rows.len(),
        });
    }

    /// Where the next row is to be appended.
    #[inline]
    pub(super) fn rows_mut(&mut self) -> &mut Vec<u8> {
        &mut self.rows
    }

    /// A row was appended, of a record that was due at `origin_ns` (0: not measured).
    #[inline]
    pub(super) fn count(&mut self, origin_ns: u64) {
        self.records += 1;
        if origin_ns != 0 {
            self.origins_ns.push(origin_ns);
        }
    }

    /// Memory in use, in bytes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.rows.len()
            + self.buckets.len()
            + size_of_val(self.pieces.as_slice())
            + size_of_val(self.origins_ns.as_slice())
    }

    pub(super) const fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn origins_ns(&self) -> &[u64] {
        &self.origins_ns
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Calls `write` with each bucket and its rows, in one piece; `scratch` is where they are put together.
    pub(super) fn for_each_bucket<E>(
        &self,
        scratch: &mut Vec<u8>,
        mut write: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let bucket = |piece: &Piece| &self.buckets[piece.bucket_from..piece.bucket_to];
        let mut pieces = Vec::with_capacity(self.pieces.len());
        for (index, piece) in self.pieces.iter().enumerate() {
            let rows_to = self.pieces.get(index + 1).map(|next| next.rows_from);
            let rows = &self.rows[piece.rows_from..rows_to.unwrap_or(self.rows.len())];
            pieces.push((bucket(piece), rows));
        }
        // Stable: rows of a bucket keep their order.
        pieces.sort_by_key(|(bucket, _)| *bucket);
        for of_bucket in pieces.chunk_by(|a, b| a.0 == b.0) {
            match of_bucket {
                [(bucket, rows)] => write(bucket, rows)?,
                several => {
                    scratch.clear();
                    several
                        .iter()
                        .for_each(|(_, rows)| scratch.extend_from_slice(rows));
                    write(several[0].0, scratch)?;
                }
            }
        }
        Ok(())
    }

    /// Empties it, and keeps its memory, but for what an unusually large row took.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.rows.shrink_to(2 * FILE_BLOCK_BYTES);
        self.buckets.clear();
        self.pieces.clear();
        self.origins_ns.clear();
        self.records = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_by_bucket_in_their_order() {
        let mut block = Block::default();
        for (bucket, row) in [("b", "1"), ("b", "2"), ("a", "3"), ("b", "4"), ("", "5")] {
            if block.last_bucket() != Some(bucket) {
                block.begin(bucket);
            }
            block.rows_mut().extend_from_slice(row.as_bytes());
            block.count(u64::from(row == "3"));
        }
        assert_eq!((block.records(), block.origins_ns()), (5, &[1][..]));
        let mut out = Vec::new();
        let all: Result<(), ()> = block.for_each_bucket(&mut Vec::new(), |bucket, rows| {
            out.push(format!("{bucket}:{}", String::from_utf8_lossy(rows)));
            Ok(())
        });
        assert_eq!((all, out.join(" ").as_str()), (Ok(()), ":5 a:3 b:124"));
        block.clear();
        assert!(block.is_empty() && block.last_bucket().is_none());
    }
}
