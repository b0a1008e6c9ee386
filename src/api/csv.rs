//! Rows of comma-separated values.
//!
//! Owns: [`CsvRow`]. Invariant: a row has as many fields for a reader as were written, whatever the texts hold.
//! Left out: headers, other separators, `\r\n` at the end of a row (a line feed alone is what Flink writes, and readers
//! take both).
//!
//! Source: RFC 4180.

use std::fmt::Display;
use std::io::Write;

/// One row being written: fields in order, then [`CsvRow::end`].
///
/// ```
/// use ringflow::prelude::*;
///
/// let mut row = Vec::new();
/// CsvRow::new(&mut row).number(7).text("7\" nails, short").text("plain").end();
/// assert_eq!(row, b"7,\"7\"\" nails, short\",plain\n");
/// ```
#[derive(Debug)]
#[must_use = "a row ends with `end`"]
pub struct CsvRow<'o> {
    out: &'o mut Vec<u8>,
    begun: bool,
}

impl<'o> CsvRow<'o> {
    /// A row at the end of `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, begun: false }
    }

    /// A field of digits: its text must need no quotes.
    pub fn number(mut self, number: impl Display) -> Self {
        // Writing to a vector cannot fail.
        drop(write!(self.next(), "{number}"));
        self
    }

    /// A field of text, in quotes where it has a comma, a quote or a line break, each quote twice. An empty text is
    /// `""`, so that a row of one is no empty line.
    pub fn text(mut self, text: &str) -> Self {
        let out = self.next();
        let special = |byte| matches!(byte, b',' | b'"' | b'\n' | b'\r');
        if !text.is_empty() && !text.bytes().any(special) {
            out.extend_from_slice(text.as_bytes());
            return self;
        }
        out.push(b'"');
        for byte in text.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
        self
    }

    /// Ends the row.
    pub fn end(self) {
        self.out.push(b'\n');
    }

    fn next(&mut self) -> &mut Vec<u8> {
        if self.begun {
            self.out.push(b',');
        }
        self.begun = true;
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(texts: &[&str]) -> String {
        let mut out = Vec::new();
        let row = CsvRow::new(&mut out);
        texts.iter().fold(row, |row, text| row.text(text)).end();
        String::from_utf8(out).unwrap()
    }

    /// Fields of a row, by the grammar of RFC 4180.
    fn fields(row: &str) -> Vec<String> {
        let mut characters = row.strip_suffix('\n').unwrap().chars().peekable();
        let mut fields = vec![String::new()];
        let mut quoted = false;
        while let Some(character) = characters.next() {
            let field = fields.last_mut().unwrap();
            match character {
                '"' if quoted && characters.peek() == Some(&'"') => {
                    characters.next();
                    field.push('"');
                }
                '"' => quoted = !quoted,
                ',' if !quoted => fields.push(String::new()),
                character => field.push(character),
            }
        }
        fields
    }

    #[test]
    fn only_what_needs_quotes_gets_them() {
        assert_eq!(row(&["a b", "", "ü;'"]), "a b,\"\",ü;'\n");
        assert_eq!(
            row(&["a,b", "\"", "x\r\ny"]),
            "\"a,b\",\"\"\"\",\"x\r\ny\"\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_reader_gets_back_what_was_written(texts in proptest::collection::vec("[,\"\r\na ü]{0,6}", 1..5)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            proptest::prop_assert_eq!(fields(&row(&texts)), texts);
        }
    }
}
