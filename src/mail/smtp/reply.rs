//! A reply as it is read off the wire, octet by octet, and why there may be none. Pure: no network here.
//!
//! The code decides, the text never does (RFC 5321 §4.2).
//!
//! | what comes                                           | what it is                                              |
//! |------------------------------------------------------|---------------------------------------------------------|
//! | `250 text`, `250` alone, `250 ` with nothing after it | a reply                                                 |
//! | `250-text` (any number up to a bound), then `250 text` | one reply of several lines                             |
//! | lines that end in LF without CR                      | the same                                                |
//! | a text that is not UTF-8                             | the same; people are shown it as Latin-1                |
//! | an enhanced code that contradicts the code (RFC 2034) | the code counts                                        |
//! | lines of one reply whose codes differ                | no reply: which one counts is not known                 |
//! | anything else before the third digit or after it     | no reply                                                |
//! | a line over 4 KB, over 100 lines, over 64 KB          | no reply, and the connection ends                       |
//! | the end, or the deadline, within a reply             | half a reply: nothing that comes later is believed      |

use std::time::Duration;

use crate::domain::fate::Fate;

/// Reply texts are kept up to this many characters.
const LONGEST_TEXT: usize = 500;
/// The octets of one line, without its end. RFC 5321 §4.5.3.1.5 has 512; enhanced codes and links made them longer.
pub(super) const LONGEST_LINE: usize = 4096;
/// The lines of one reply.
const MOST_LINES: usize = 100;
/// The octets of one reply, without line ends.
const MOST_OCTETS: usize = 64 * 1024;

/// One reply (RFC 5321 §4.2), several lines or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u16,
    pub lines: Vec<String>,
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server closed the connection.
    Closed,
    /// The system says that the connection is broken.
    Broken(String),
    /// Nothing came for this long.
    Silent(Duration),
    /// A part of a reply came, and then not the rest.
    Half { said: String, then: Box<Trouble> },
    /// Something came that is no reply.
    Nonsense(String),
    /// Something came before the command was said, which was then not said.
    Unasked(Reply),
}

/// The lines of a reply that have come so far.
#[derive(Debug, Default)]
pub(super) struct Lines<'a> {
    /// What a server might repeat and no text may show.
    secrets: &'a [String],
    code: Option<u16>,
    lines: Vec<String>,
    octets: usize,
}

impl<'a> Lines<'a> {
    pub fn without(secrets: &'a [String]) -> Lines<'a> {
        Lines { secrets, ..Lines::default() }
    }

    /// Octets as people read them: UTF-8, or else Latin-1; without secrets.
    fn text(&self, octets: &[u8]) -> String {
        let text = std::str::from_utf8(octets)
            .map_or_else(|_| octets.iter().copied().map(char::from).collect(), str::to_owned);
        self.secrets.iter().fold(text, |text, secret| text.replace(secret, "[password]"))
    }

    /// Takes one more line, without its end; says whether it is the last one.
    ///
    /// # Errors
    /// The line belongs to no reply, or there is too much of it: what it says, for people.
    pub fn take(&mut self, line: &[u8]) -> Result<bool, String> {
        let nonsense = |lines: &Lines<'_>| Err(clean(&lines.text(line)));
        self.octets += line.len();
        if line.len() > LONGEST_LINE || self.octets > MOST_OCTETS || self.lines.len() == MOST_LINES {
            return Err(too_much());
        }
        let Some((digits, rest)) = line.split_at_checked(3) else { return nonsense(self) };
        let code = match digits {
            [first @ b'2'..=b'5', second @ b'0'..=b'9', third @ b'0'..=b'9'] => {
                100 * u16::from(first - b'0') + 10 * u16::from(second - b'0') + u16::from(third - b'0')
            }
            _ => return nonsense(self),
        };
        if self.code.is_some_and(|before| before != code) {
            return Err(clean(&format!(
                "{} {}, then {}",
                self.code.unwrap_or_default(),
                self.lines.join(" "),
                self.text(line)
            )));
        }
        self.code = Some(code);
        let (is_last, words) = match rest {
            [] => (true, rest),
            [b' ', words @ ..] => (true, words),
            [b'-', words @ ..] => (false, words),
            _ => return nonsense(self),
        };
        let words = self.text(words);
        self.lines.push(words);
        Ok(is_last)
    }

    /// The reply that these lines are, once the last has come.
    pub fn reply(self) -> Reply {
        Reply { code: self.code.unwrap_or_default(), lines: self.lines }
    }

    /// What has come so far, for people, when the rest does not; `begun` is the beginning of the line that is missing its
    /// end. `None` when nothing has come.
    pub fn half(&self, begun: &[u8]) -> Option<String> {
        let code = self.code.map(|code| format!("{code}-{} ", self.lines.join(" ")));
        let said = code.unwrap_or_default() + &self.text(begun);
        (!said.is_empty()).then(|| clean(&said))
    }
}

impl Reply {
    /// A 4yz or 5yz.
    pub fn is_negative(&self) -> bool {
        (400..=599).contains(&self.code)
    }

    /// Whether it can be a server's yes to a final dot: a 2yz, but none that only other commands are answered with
    /// (HELP, the greeting, QUIT, AUTH).
    pub fn takes_a_message(&self) -> bool {
        matches!(self.code, 200..=299) && !matches!(self.code, 211 | 214 | 220 | 221 | 235)
    }

    /// The code and all lines on one line, as records keep it; an enhanced code that each line repeats is said once.
    pub fn text(&self) -> String {
        let first = self.lines.first().and_then(|line| line.split_whitespace().next()).unwrap_or_default();
        let is_enhanced = first.len() >= 5 && first.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.');
        let mut text = self.code.to_string();
        for (at, line) in self.lines.iter().enumerate() {
            let again = line.strip_prefix(first).filter(|rest| at > 0 && is_enhanced && rest.starts_with(' '));
            text.push(' ');
            text.push_str(again.unwrap_or(line).trim_start());
        }
        clean(&text)
    }

    /// What a negative reply makes of the message that it judges.
    pub fn judgement(&self) -> Fate {
        if self.code < 500 { Fate::Deferred { reply: self.text() } } else { Fate::Refused { reply: self.text() } }
    }
}

impl Trouble {
    /// The trouble as a sentence: who, and instead of answering what.
    pub fn at(&self, server: &str, stage: &str) -> String {
        match self {
            Trouble::Closed => format!("{server} closed the connection before it answered {stage}"),
            Trouble::Broken(os) => format!("the connection to {server} broke before {stage} was answered: {os}"),
            Trouble::Silent(waited) => format!("{server} did not answer {stage} within {}", seconds(*waited)),
            Trouble::Half { said, then } => {
                let then = match &**then {
                    Trouble::Silent(waited) => format!("nothing more within {}", seconds(*waited)),
                    Trouble::Broken(os) => os.clone(),
                    _ => "the end of the connection".to_owned(),
                };
                format!("{server} answered {stage} with half a reply, {said:?}, and then {then}")
            }
            Trouble::Nonsense(text) => format!("{server} answered {stage} with what is no SMTP reply: {text}"),
            Trouble::Unasked(reply) => format!("{server} said {} unasked before {stage}: out of step", reply.text()),
        }
    }

    /// Whether the connection ended, and nothing that came before speaks of another command than one that is answered
    /// with `code`, or with 421.
    pub fn is_mere_end(&self, code: &str) -> bool {
        match self {
            Trouble::Closed | Trouble::Broken(_) => true,
            Trouble::Unasked(reply) => reply.code == 421,
            Trouble::Half { said, then } => {
                let begun: String = said.chars().take(3).collect();
                !matches!(**then, Trouble::Silent(_)) && (code.starts_with(&begun) || "421".starts_with(&begun))
            }
            Trouble::Silent(_) | Trouble::Nonsense(_) => false,
        }
    }
}

/// The word for a reply that is longer than any may be.
pub(super) fn too_much() -> String {
    "more than a reply may have (4 KB a line, 100 lines, 64 KB)".to_owned()
}

/// One line without control characters, at most [`LONGEST_TEXT`] characters.
pub(super) fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '?' } else { c };
    text.trim().chars().take(LONGEST_TEXT).map(shown).collect()
}

/// A waiting time in words.
pub(super) fn seconds(waited: Duration) -> String {
    if waited.subsec_nanos() == 0 { format!("{} s", waited.as_secs()) } else { format!("{} ms", waited.as_millis()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Result<Option<Reply>, String> {
        let mut lines = Lines::default();
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap();
            if lines.take(line.strip_suffix(b"\r").unwrap_or(line))? {
                return Ok(Some(lines.reply()));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_table_holds() {
        for (octets, whole) in [
            (&b"250 ok\r\n"[..], "250 ok"),
            (b"250\r\n", "250"),
            (b"250 \r\n", "250"),
            (b"250 ok\n", "250 ok"),
            (b"250-a\r\n250-\r\n250 b\r\n", "250 a  b"),
            (b"250-a\n250\n", "250 a"),
            (b"550 5.1.1 Empf\xe4nger\r\n", "550 5.1.1 Empfänger"),
            ("550 5.1.1 Empfänger\r\n".as_bytes(), "550 5.1.1 Empfänger"),
            (b"250 5.1.1 no such user\r\n", "250 5.1.1 no such user"),
            (b"421\n", "421"),
        ] {
            assert_eq!(read(octets).unwrap().map(|reply| reply.text()).as_deref(), Some(whole), "{octets:?}");
        }
        for octets in [
            &b"\r\n"[..],
            b"25\r\n",
            b"2500 ok\r\n",
            b"250_ok\r\n",
            b"250\tok\r\n",
            b" 250 ok\r\n",
            b"199 hm\r\n",
            b"600 hm\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"\x00\xff\r\n",
            b"250-a\r\n550 b\r\n",
            b"354\r354 \r\n",
        ] {
            assert!(read(octets).is_err(), "{octets:?}");
        }
        assert_eq!(read(b"250-a\r\n").unwrap(), None);
    }

    #[test]
    fn a_reply_has_bounds() {
        let line = |octets: usize, mark: &str| format!("250{mark}{}\n", "x".repeat(octets - 4)).into_bytes();
        assert!(read(&line(LONGEST_LINE, " ")).unwrap().is_some());
        assert!(read(&line(LONGEST_LINE + 1, " ")).is_err());
        let lines = |number: usize| [line(5, "-").repeat(number - 1), line(5, " ")].concat();
        assert!(read(&lines(MOST_LINES)).unwrap().is_some());
        assert!(read(&lines(MOST_LINES + 1)).is_err());
        assert!(read(&[line(LONGEST_LINE, "-").repeat(16), line(5, " ")].concat()).is_err());
        assert!(read(&[line(LONGEST_LINE, "-").repeat(15), line(5, " ")].concat()).unwrap().is_some());
    }

    #[test]
    fn half_a_reply_is_told_from_the_end_before_one() {
        let mut lines = Lines::default();
        assert_eq!(lines.half(b""), None);
        assert_eq!(lines.half(b"25").as_deref(), Some("25"));
        lines.take(b"250-ok").unwrap();
        assert_eq!(lines.half(b"").as_deref(), Some("250-ok"));
        let half = |said: &str| Trouble::Half { said: said.to_owned(), then: Box::new(Trouble::Closed) };
        for (said, code, ends) in [
            ("25", "250", true),
            ("42", "250", true),
            ("250-ok", "221", false),
            ("554", "250", false),
            ("2", "221", true),
        ] {
            assert_eq!(half(said).is_mere_end(code), ends, "{said} {code}");
        }
    }

    #[test]
    fn a_reply_is_kept_short_and_on_one_line() {
        let reply = Reply { code: 250, lines: vec!["2.0.0 a\u{7}b\r".to_owned(), "ü".repeat(600)] };
        let text = reply.text();
        assert!(text.starts_with("250 2.0.0 a?b? ü"), "{text}");
        assert_eq!(text.chars().count(), 500);
    }

    #[test]
    fn no_text_holds_a_part_of_a_secret_where_it_is_cut() {
        let secrets = ["hunter2hunter2".to_owned()];
        let line = format!("535 {}hunter2hunter2 is wrong", "x".repeat(LONGEST_TEXT - 8));
        let mut whole = Lines::without(&secrets);
        assert_eq!(whole.take(line.as_bytes()), Ok(true));
        let half = Lines::without(&secrets).half(line.as_bytes()).unwrap();
        let nonsense = Lines::without(&secrets).take(format!("?{line}").as_bytes()).unwrap_err();
        for text in [whole.reply().text(), half, nonsense] {
            assert!(!text.contains("hunt") && text.chars().count() <= LONGEST_TEXT, "{text}");
        }
    }
}
