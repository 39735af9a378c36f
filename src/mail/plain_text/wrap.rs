//! Lines of the text part, wrapped.

/// The widest line, in columns, where words allow it: a text of ASCII goes as it stands then, not quoted-printable, and
/// what quotes it once or twice still fits in 78 (RFC 5322 §2.1.1).
const WIDTH: usize = 72;

/// Appends a line, wrapped at spaces and between ideographs, each further line indented like the first.
///
/// A no-break space holds its words together, then becomes a plain one: some terminals show it as a box.
pub(super) fn wrap(line: &str, finished: &mut String) {
    let indent_end = line.find(|c: char| c != ' ' && c != '>').unwrap_or(line.len());
    let (indent, mut words) = line.split_at(indent_end);
    let item = words.find(' ').filter(|&end| {
        let mark = &words[..end];
        mark == "*" || mark.strip_suffix('.').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    finished.push_str(indent);
    let mut hang = columns(indent);
    let mut column = hang;
    if let Some(end) = item {
        let mark = if &words[..end] == "*" { "-" } else { &words[..end] };
        finished.push_str(mark);
        finished.push(' ');
        column += mark.len() + 1;
        hang = column;
        words = words[end..].trim_start();
    }
    let hang_line = |finished: &mut String| {
        finished.truncate(finished.trim_end_matches(' ').len());
        finished.push('\n');
        finished.push_str(indent);
        finished.extend(std::iter::repeat_n(' ', hang - columns(indent)));
    };
    // Most lines: words of ASCII, one space apart, go by lines instead of by words.
    if words.is_ascii() && !words.contains("  ") {
        loop {
            let room = WIDTH.saturating_sub(column);
            let fits = words.len() <= room;
            let end = (!fits).then(|| words[..=room].rfind(' ').or_else(|| words.find(' '))).flatten();
            let (line, rest) = words.split_at(end.unwrap_or(words.len()));
            finished.push_str(line);
            words = rest.trim_start_matches(' ');
            if words.is_empty() {
                break;
            }
            hang_line(finished);
            column = hang;
        }
    }
    let mut line_empty = true;
    for word in words.split_inclusive(' ') {
        let gap = word.len() - word.trim_end_matches(' ').len();
        for piece in pieces(word.trim_end_matches(' ')) {
            if !line_empty && column + columns(piece) > WIDTH {
                hang_line(finished);
                column = hang;
            }
            if piece.is_ascii() {
                finished.push_str(piece);
            } else {
                finished.extend(piece.chars().map(|c| if c == '\u{a0}' { ' ' } else { c }));
            }
            column += columns(piece);
            line_empty = false;
        }
        finished.extend(std::iter::repeat_n(' ', gap));
        column += gap;
    }
    finished.truncate(finished.trim_end_matches(' ').len());
    finished.push('\n');
}

/// The parts of a word that a line may be broken between: after each ideograph, else nowhere.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_ascii() {
            return (!rest.is_empty()).then(|| std::mem::take(&mut rest));
        }
        let next = rest.char_indices().skip(1).find(|&(i, c)| {
            let before = rest[..i].chars().next_back().unwrap_or(' ');
            is_wide(before)
                && is_wide(c)
                && !"、。，．！？：；）」』】〉》ー々".contains(c)
                && !"（「『【〈《".contains(before)
        });
        let (piece, after) = rest.split_at(next.map_or(rest.len(), |(i, _)| i));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether a character fills two columns (East Asian wide; near enough for wrapping).
fn is_wide(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}' | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}')
}

pub(super) fn columns(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn lines_of_ascii_wrap_as_all_others_do(indent in " {0,4}>{0,2}", mark in "(\\* |12\\. )?", line in "([a-e]{0,9} ){0,60}[a-e]{0,99}") {
            let wrapped = |line: &str| {
                let mut finished = String::new();
                wrap(line.trim_end(), &mut finished);
                finished
            };
            let line = format!("{indent}{mark}{line}");
            let word_by_word = wrapped(&line.replace('e', "é")).replace('é', "e");
            proptest::prop_assert_eq!(wrapped(&line), word_by_word);
        }
    }
}
