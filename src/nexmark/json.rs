//! JSON text, appended: members in the order of the calls, strings escaped.
//!
//! Invariant: what [`Object`] wrote is one JSON object on one line, whatever the strings hold.
//! Left out: nesting, arrays, fractions other than the caller's own digits.

use super::text;

/// One JSON object being written. `close` ends it; a dropped one is left unfinished.
#[derive(Debug)]
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
    /// What comes before the next member.
    separator: u8,
}

impl<'o> Object<'o> {
    pub(super) fn open(out: &'o mut Vec<u8>) -> Self {
        Self {
            out,
            separator: b'{',
        }
    }

    pub(super) fn unsigned(mut self, name: &str, value: u64) -> Self {
        text::decimal(self.name(name), value);
        self
    }

    pub(super) fn signed(mut self, name: &str, value: i64) -> Self {
        text::signed_decimal(self.name(name), value);
        self
    }

    /// A number with three digits after the point, given in thousandths.
    pub(super) fn thousandths(mut self, name: &str, value: u64) -> Self {
        let out = self.name(name);
        text::decimal(out, value / 1000);
        out.push(b'.');
        text::digits(out, value % 1000, 3);
        self
    }

    pub(super) fn string(mut self, name: &str, value: &str) -> Self {
        let out = self.name(name);
        out.push(b'"');
        escaped(out, value);
        out.push(b'"');
        self
    }

    pub(super) fn close(self) {
        self.out.push(b'}');
    }

    /// `name` is one of ours: it needs no escaping.
    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.push(self.separator);
        self.separator = b',';
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }
}

/// Appends `value` with quotes, backslashes and control characters escaped, by runs that need none.
fn escaped(out: &mut Vec<u8>, value: &str) {
    let mut rest = value.as_bytes();
    while let Some(at) = rest.iter().position(|&byte| needs_escape(byte)) {
        out.extend_from_slice(&rest[..at]);
        escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0C => b'f',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_the_library_does() {
        let mut every: String = (0_u8..128).map(char::from).collect();
        every.push_str("größe\u{2028}🦀\"");
        let mut out = Vec::new();
        Object::open(&mut out).string("a", &every).close();
        let expected = format!("{{\"a\":{}}}", serde_json::to_string(&every).unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn members_are_separated_and_thousandths_keep_their_zeros() {
        let mut out = Vec::new();
        Object::open(&mut out)
            .unsigned("a", 1)
            .signed("b", -2)
            .thousandths("c", 90_007)
            .close();
        assert_eq!(out, br#"{"a":1,"b":-2,"c":90.007}"#);
    }
}
