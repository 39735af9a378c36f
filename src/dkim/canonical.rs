//! Relaxed canonicalization (RFC 6376 §3.4.2, §3.4.4): what a relay may do to blanks and folds changes nothing; and the
//! simple one of bodies (§3.4.3), which is read only.
//!
//! Bytes, not text: an address that goes with SMTPUTF8 stands in its header as it is.

use memchr::memmem;

/// Adds a header field in its canonical form, with a CRLF at its end; the field may have one, and may be folded.
pub fn header(field: &[u8], canonical: &mut Vec<u8>) {
    let colon = field.iter().position(|byte| *byte == b':').unwrap_or(field.len());
    let (name, value) = field.split_at(colon);
    canonical.extend(name.trim_ascii_end().to_ascii_lowercase());
    canonical.push(b':');
    let begin = canonical.len();
    let mut gap = false;
    for byte in value.iter().skip(1).filter(|byte| !matches!(byte, b'\r' | b'\n')) {
        if is_blank(*byte) {
            gap = true;
            continue;
        }
        if gap && canonical.len() > begin {
            canonical.push(b' ');
        }
        gap = false;
        canonical.push(*byte);
    }
    canonical.extend_from_slice(b"\r\n");
}

/// A body in its canonical form: empty, or with one CRLF at its end.
pub fn body(body: &[u8]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(body.len() + 2);
    // Empty lines count only when another line follows.
    let mut end = 0;
    let mut from = 0;
    for to in memmem::find_iter(body, b"\r\n").chain([body.len()]) {
        let begin = canonical.len();
        line(&body[from..to], &mut canonical);
        let is_empty = canonical.len() == begin;
        canonical.extend_from_slice(b"\r\n");
        if !is_empty {
            end = canonical.len();
        }
        from = to + 2;
    }
    canonical.truncate(end);
    canonical
}

/// A body in its simple form: as it stands, with one CRLF at its end, also when it is empty.
pub fn simple_body(body: &[u8]) -> Vec<u8> {
    let mut rest = body;
    while let Some(shorter) = rest.strip_suffix(b"\r\n") {
        rest = shorter;
    }
    [rest, b"\r\n"].concat()
}

/// A line with one space for each run of blanks, and none at its end.
fn line(line: &[u8], canonical: &mut Vec<u8>) {
    let mut gap = false;
    for byte in line {
        if is_blank(*byte) {
            gap = true;
            continue;
        }
        if gap {
            canonical.push(b' ');
        }
        gap = false;
        canonical.push(*byte);
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[&str]) -> String {
        let mut canonical = Vec::new();
        fields.iter().for_each(|field| header(field.as_bytes(), &mut canonical));
        String::from_utf8(canonical).unwrap()
    }

    fn of_body(text: &str) -> String {
        String::from_utf8(body(text.as_bytes())).unwrap()
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 6376 §3.4.5, example 1.
        assert_eq!(headers(&["A: X\r\n", "B : Y\t\r\n\tZ  \r\n"]), "a:X\r\nb:Y Z\r\n");
        assert_eq!(of_body(" C \r\nD \t E\r\n\r\n\r\n"), " C\r\nD E\r\n");
    }

    #[test]
    fn a_header_has_no_blanks_around_its_colon_and_its_value() {
        assert_eq!(headers(&["SUBJECT \t:\r\n  \t Hi \r\n\t there:  you \t"]), "subject:Hi there: you\r\n");
        assert_eq!(headers(&["X:\r\n", "Y: \r\n \r\n"]), "x:\r\ny:\r\n");
    }

    #[test]
    fn bytes_beyond_ascii_stay() {
        let mut canonical = Vec::new();
        header(b"To:  \"J\xc3\xb6rg\"\r\n <j\xc3\xb6rg@b.example>\xff\r\n", &mut canonical);
        assert_eq!(canonical, b"to:\"J\xc3\xb6rg\" <j\xc3\xb6rg@b.example>\xff\r\n");
    }

    #[test]
    fn a_body_ends_with_one_crlf_and_an_empty_one_is_empty() {
        for empty in ["", "\r\n", "\r\n\r\n", " \t\r\n \r\n", "  "] {
            assert_eq!(of_body(empty), "", "{empty:?}");
        }
        for text in ["a", "a\r\n", "a \r\n\t\r\n", "a\r\n\r\n  "] {
            assert_eq!(of_body(text), "a\r\n", "{text:?}");
        }
        assert_eq!(of_body("\r\n\r\na\r\n\r\nb"), "\r\n\r\na\r\n\r\nb\r\n");
        // Neither alone ends a line.
        assert_eq!(of_body("a \n b\r c"), "a \n b\r c\r\n");
    }

    proptest! {
        #[test]
        fn what_is_canonical_stays(text in "[a \t\r\n:é]{0,40}") {
            let once = of_body(&text);
            prop_assert_eq!(of_body(&once), once.clone());
            prop_assert!(once.is_empty() || once.ends_with("\r\n") && !once.ends_with("\r\n\r\n"));
            let once = headers(&[&format!("A:{text}")]);
            prop_assert_eq!(headers(&[&once]), once);
        }

        #[test]
        fn folds_and_blanks_between_words_are_all_the_same(
            words in prop::collection::vec("[a-z:;=]{1,5}", 1..6), gaps in prop::collection::vec("( |\t|\r\n |\r\n\t){1,4}", 6),
        ) {
            let joined: String = words.iter().zip(&gaps).map(|(word, gap)| format!("{gap}{word}")).collect();
            prop_assert_eq!(headers(&[&format!("A:{joined}\r\n")]), format!("a:{}\r\n", words.join(" ")));
        }
    }
}
