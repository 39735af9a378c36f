//! Parameters with names, `:cart_id`, in the SQL of servers that know only `?` or `$1`.
//!
//! A text is taken apart once: what stands in quotes is kept as it is, comments become a blank, and what is left of
//! colons are parameters.

use crate::domain::engine::Engine;

/// A query, taken apart at its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The name as it is written: `:since`; or a mark that has none, `?` or `$1`.
    Parameter(String),
}

impl Query {
    /// Takes a query apart as the engine would read it.
    pub fn parse(text: &str, engine: Engine) -> Query {
        let mut scanner = Scanner { engine, rest: text, pieces: Vec::new(), word: "", brackets: Vec::new() };
        while !scanner.rest.is_empty() {
            scanner.step();
        }
        Query(scanner.pieces)
    }

    /// The parameters, each once, in the order in which they come first.
    pub fn parameters(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for piece in &self.0 {
            if let Piece::Parameter(name) = piece
                && !names.contains(&name.as_str())
            {
                names.push(name);
            }
        }
        names
    }

    /// The parameters as [`Query::with_marks`] has them: one for each mark.
    pub fn marked(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Parameter(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// With a mark, `?`, for each parameter, as MySQL takes them.
    pub fn with_marks(&self, mark: &str) -> String {
        self.written(|_| mark.into())
    }

    /// With `$1` for the first of [`Query::parameters`], wherever it stands, as PostgreSQL takes them.
    pub fn with_numbers(&self) -> String {
        let names = self.parameters();
        self.written(|name| format!("${}", names.iter().position(|known| *known == name).unwrap_or(0) + 1))
    }

    /// With NULL for each parameter.
    pub fn with_nulls(&self) -> String {
        self.written(|_| "NULL".into())
    }

    /// With its parameters as they were.
    pub fn named(&self) -> String {
        self.written(str::to_owned)
    }

    /// Without the semicolon at its end.
    fn written(&self, parameter: impl Fn(&str) -> String) -> String {
        let text: String = self
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Parameter(name) => parameter(name),
            })
            .collect();
        text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_owned()
    }
}

struct Scanner<'a> {
    engine: Engine,
    rest: &'a str,
    pieces: Vec<Piece>,
    /// The word just before, with nothing but blanks between; empty after anything else.
    word: &'a str,
    /// For each bracket that is open, whether it lists elements (`ARRAY[:a, :b]`); else a colon in it makes a slice.
    brackets: Vec<bool>,
}

impl<'a> Scanner<'a> {
    fn step(&mut self) {
        let rest = self.rest;
        let postgres = self.engine == Engine::Postgres;
        let first = rest.chars().next().unwrap_or_default();
        let second = rest[first.len_utf8()..].chars().next().unwrap_or_default();
        let word_before = std::mem::take(&mut self.word);
        match first {
            _ if first.is_whitespace() => {
                self.word = word_before;
                self.keep(first.len_utf8());
            }
            '\'' => self.keep(quoted(rest, '\'', !postgres)),
            '"' => self.keep(quoted(rest, '"', !postgres)),
            '`' if !postgres => self.keep(quoted(rest, '`', false)),
            '$' if postgres && second.is_ascii_digit() => self.mark(1 + digits(&rest[1..])),
            '$' if postgres => self.keep(dollar_quoted(rest)),
            '?' if !postgres => self.mark(1),
            '-' if second == '-' && (postgres || rest[2..].chars().next().is_none_or(char::is_whitespace)) => {
                self.skip(line(rest));
            }
            '#' if !postgres => self.skip(line(rest)),
            // What MySQL runs all the same, and hints.
            '/' if !postgres && (rest.starts_with("/*!") || rest.starts_with("/*+")) => self.keep(3),
            '/' if second == '*' => self.skip(block_comment(rest, postgres)),
            '[' => {
                let nested = self.brackets.last() == Some(&true) && !self.follows_a_value();
                self.brackets.push(word_before.eq_ignore_ascii_case("array") || nested);
                self.keep(1);
            }
            ']' => {
                self.brackets.pop();
                self.keep(1);
            }
            ':' if second == ':' || second == '=' => self.keep(2),
            ':' if (second.is_alphabetic() || second == '_') && self.brackets.last() != Some(&false) => {
                self.mark(1 + word(&rest[1..]));
            }
            _ if first.is_alphabetic() || first == '_' => {
                let length = word(rest);
                let ends_in_quote = rest[length..].starts_with('\'');
                if postgres && ends_in_quote && rest[..length].eq_ignore_ascii_case("e") {
                    self.keep(length + quoted(&rest[length..], '\'', true));
                } else {
                    self.word = &rest[..length];
                    self.keep(length);
                }
            }
            _ if first.is_ascii_digit() => self.keep(digits(rest)),
            _ => self.keep(first.len_utf8()),
        }
    }

    fn keep(&mut self, length: usize) {
        let (kept, rest) = self.rest.split_at(length);
        self.text(kept);
        self.rest = rest;
    }

    /// A comment may separate two words.
    fn skip(&mut self, length: usize) {
        self.text(" ");
        self.rest = &self.rest[length..];
    }

    fn text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(before)) => before.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    fn mark(&mut self, length: usize) {
        let (name, rest) = self.rest.split_at(length);
        self.pieces.push(Piece::Parameter(name.to_owned()));
        self.rest = rest;
    }

    /// Whether what stands before can have a subscript: a name, a number, or something in brackets.
    fn follows_a_value(&self) -> bool {
        match self.pieces.last() {
            Some(Piece::Text(text)) => text.trim_end().ends_with(|c: char| c.is_alphanumeric() || "_])\"".contains(c)),
            Some(Piece::Parameter(_)) => true,
            None => false,
        }
    }
}

/// The length of a text in quotes, to the end of the query where it is not closed. A quote that is written twice begins
/// the next one, which comes to the same.
fn quoted(text: &str, quote: char, with_backslashes: bool) -> usize {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        if c == '\\' && with_backslashes {
            characters.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

/// The length of `$tag$ … $tag$`, or 1 where that is none.
fn dollar_quoted(text: &str) -> usize {
    let tag = 1 + text[1..].find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len() - 1);
    if !text[tag..].starts_with('$') {
        return 1;
    }
    let opening = &text[..=tag];
    text[opening.len()..].find(opening).map_or(text.len(), |at| at + 2 * opening.len())
}

fn line(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

fn block_comment(text: &str, nests: bool) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
        } else if nests && rest.starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else {
            at += 1;
        }
    }
    at
}

fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(text.len())
}

fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn numbered(text: &str, expected: &str, names: &[&str]) {
        let query = Query::parse(text, Engine::Postgres);
        assert_eq!((query.with_numbers().as_str(), query.parameters().as_slice()), (expected, names), "{text}");
    }

    #[track_caller]
    fn marked(text: &str, expected: &str, names: &[&str]) {
        let query = Query::parse(text, Engine::MySql);
        let all: Vec<&str> = query.marked().collect();
        assert_eq!((query.with_marks("?").as_str(), all.as_slice()), (expected, names), "{text}");
    }

    #[test]
    fn the_same_name_gets_the_same_number() {
        numbered(":a = :b OR :a=:c_1", "$1 = $2 OR $1=$3", &[":a", ":b", ":c_1"]);
        numbered("(:since)::date;", "($1)::date", &[":since"]);
        numbered("x=:größe", "x=$1", &[":größe"]);
        numbered("SELECT 1 ; \n ;", "SELECT 1", &[]);
    }

    #[test]
    fn postgres_keeps_what_is_no_parameter() {
        for text in [
            "a::text",
            "'it''s :a' || ':b'",
            "':a\\' || b",
            "\"col:a\" \":b\"\":c\"",
            "E'\\':a' || e'it''s :b\\\\'",
            "U&':a'",
            "$$ :a $$ || $tag$ :b $$ :c $tag$",
            "a$b :: int",
            "x := 1",
            "xs[1:2] || xs[lower:upper] || xs[:2] || (xs)[a :b]",
            "m[1:2][a:b] || (ARRAY[1, 2])[i:j]",
            "'12:30'::time",
            "'not closed :a",
            "$open$ :a",
            "a : 1",
            "'ü:a' || ü",
        ] {
            numbered(text, text, &[]);
        }
    }

    #[test]
    fn postgres_finds_parameters_beside_them() {
        numbered("'a':b'c'", "'a'$1'c'", &[":b"]);
        numbered("name':a' :b", "name':a' $1", &[":b"]);
        numbered("nameE':a\\' :b'", "nameE':a\\' $1'", &[":b"]);
        numbered("$a$ $b$ $a$:c", "$a$ $b$ $a$$1", &[":c"]);
        numbered("ARRAY[:a, :b]", "ARRAY[$1, $2]", &[":a", ":b"]);
        numbered("array [[:a], [:b]] || xs[a:b]", "array [[$1], [$2]] || xs[a:b]", &[":a", ":b"]);
        numbered("ARRAY[xs[a:b], :c]", "ARRAY[xs[a:b], $1]", &[":c"]);
        numbered("xs[1]=:a", "xs[1]=$1", &[":a"]);
        numbered("10:a", "10$1", &[":a"]);
        numbered(":a::int4", "$1::int4", &[":a"]);
    }

    #[test]
    fn comments_become_a_blank() {
        numbered("a-- :x; it's\n:b", "a \n$1", &[":b"]);
        numbered("a/* :x /* ' */ :y */:b", "a $1", &[":b"]);
        numbered("a --:x", "a", &[]);
        numbered("SELECT 1; -- the end; really", "SELECT 1", &[]);
        numbered("a/* ü", "a", &[]);
        marked("a-- :x'\n:b # :c\n-- :d", "a \n?", &[":b"]);
        marked("a--:b", "a--?", &[":b"]);
        marked("a/* :x /* */ :b /***/ :c", "a  ?   ?", &[":b", ":c"]);
        marked("/*+ NO_MERGE(q) */ a /*!50000 :b */", "/*+ NO_MERGE(q) */ a /*!50000 ? */", &[":b"]);
    }

    #[test]
    fn mysql_has_backslashes_backticks_and_one_mark_for_each() {
        marked("x=:a OR y=:b OR z=:a", "x=? OR y=? OR z=?", &[":a", ":b", ":a"]);
        for text in ["'it\\'s :a' \"b\\\":c\" `d:e`", "'it''s :a'", "@n:=1", "':a\\\\'", "a::b"] {
            marked(text, text, &[]);
        }
        marked("'\\\\':a", "'\\\\'?", &[":a"]);
    }

    #[test]
    fn a_mark_without_a_name_is_a_parameter_that_no_one_knows() {
        numbered("x = $1 OR y = :a", "x = $1 OR y = $2", &["$1", ":a"]);
        marked("x = ?", "x = ?", &["?"]);
        numbered("a ? 'key'", "a ? 'key'", &[]);
    }

    #[test]
    fn nothing_is_lost_of_any_text() {
        for text in [":", "::", ":a:", "$", "$$", "'", "E'", "\"", "[", "]", "/*", "--", "é", ":é", "\\", "-", "/", "e"]
        {
            for engine in [Engine::MySql, Engine::Postgres] {
                let query = Query::parse(text, engine);
                assert!(query.with_nulls().len() <= text.len() + 4, "{text}");
            }
        }
    }
}
