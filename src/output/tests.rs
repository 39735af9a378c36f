use std::path::{Path, PathBuf};

use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, Lit, Token};

use super::{Completion, NOUNS, count, quoted_for_a_shell};

/// Words that fit either one or several, so that none may follow a noun that was counted.
const AGREEING: [&str; 16] = [
    "is", "are", "was", "were", "has", "have", "does", "do", "needs", "need", "waits", "wait", "stands", "stand",
    "their", "its",
];

/// What the sources say: every text, and each message with something counted in it.
#[derive(Default)]
struct Said {
    texts: Vec<String>,
    /// A text with `{}` in it, and what is put there: the noun, where a count is.
    counted: Vec<(String, Vec<Option<String>>)>,
    nouns: Vec<String>,
}

impl Said {
    fn of_the_sources() -> Said {
        let mut said = Said::default();
        for file in sources(Path::new("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            said.visit_file(&syn::parse_file(&text).unwrap_or_else(|err| panic!("{}: {err}", file.display())));
        }
        said
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs")).collect()
}

fn text_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The noun of `count(number, "noun")`.
fn noun_of(expr: &Expr) -> Option<String> {
    let Expr::Call(call) = expr else { return None };
    let Expr::Path(function) = call.func.as_ref() else { return None };
    function.path.is_ident("count").then(|| call.args.last().and_then(text_of)).flatten()
}

impl<'ast> Visit<'ast> for Said {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let is_test = module.attrs.iter().any(|attr| attr.path().is_ident("cfg"));
        if !is_test {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        self.texts.extend(text_of(expr));
        self.nouns.extend(noun_of(expr));
        visit::visit_expr(self, expr);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let Ok(parts) = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(called.tokens.clone()) else { return };
        let mut parts = parts.into_iter();
        let mut text = None;
        for part in parts.by_ref() {
            self.visit_expr(&part);
            text = text_of(&part);
            if text.is_some() {
                break;
            }
        }
        let rest: Vec<Expr> = parts.collect();
        for part in &rest {
            self.visit_expr(part);
        }
        let nouns: Vec<_> = rest.iter().map(noun_of).collect();
        if let Some(text) = text
            && nouns.iter().any(Option::is_some)
        {
            self.counted.push((text, nouns));
        }
    }
}

/// The message with `number` of whatever is counted in it.
fn rendered(text: &str, nouns: &[Option<String>], number: u64) -> String {
    let mut nouns = nouns.iter();
    let mut pieces = text.replace("{{", "(").replace("}}", ")").split('{').map(str::to_owned).collect::<Vec<_>>();
    let mut message = pieces.remove(0);
    for piece in pieces {
        let (name, after) = piece.split_once('}').unwrap();
        let is_next = name.is_empty() || name.starts_with(':');
        let noun = if is_next { nouns.next().and_then(Option::as_deref) } else { None };
        message += &noun.map_or_else(|| "…".into(), |noun| count(number, noun));
        message += after;
    }
    message
}

#[test]
fn each_message_reads_right_with_none_one_and_several() {
    let said = Said::of_the_sources();
    let mut wrong = Vec::new();
    assert!(said.counted.len() > 60, "only {} messages were found", said.counted.len());
    for (text, nouns) in &said.counted {
        for number in [0, 1, 2] {
            let message = rendered(text, nouns, number);
            for noun in nouns.iter().flatten() {
                let counted = count(number, noun);
                let after = message.split(&counted).nth(1).unwrap_or_else(|| panic!("{counted} is not in {message:?}"));
                let clause = after.split([',', ';', ':', '(', '\n']).next().unwrap();
                // From here on something else is spoken of.
                let clause = [" when ", " that "].iter().fold(clause, |clause, end| clause.split(end).next().unwrap());
                if clause.split_whitespace().any(|word| AGREEING.contains(&word)) {
                    wrong.push(message.clone());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "one or several? {wrong:#?}");
}

#[test]
fn no_noun_is_counted_by_hand() {
    let said = Said::of_the_sources();
    let mut by_hand = Vec::new();
    let several: Vec<&str> = NOUNS.iter().map(|(_, several)| *several).chain(["hours", "days", "lines"]).collect();
    for text in &said.texts {
        assert!(!text.contains("(s)"), "{text:?}");
        for (before, after) in text.match_indices('}').map(|(at, _)| (&text[..at], &text[at + 1..])) {
            let name = before.rsplit('{').next().unwrap_or_default();
            // A constant is more than one.
            let is_constant = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            let after = after.trim_start_matches(' ').trim_start_matches("more ");
            let words =
                |noun: &str| after.strip_prefix(noun).is_some_and(|rest| !rest.starts_with(char::is_alphabetic));
            // A name is no number: `{id} runs every day`.
            if several.iter().any(|noun| words(noun)) && !is_constant && name != "id" {
                by_hand.push(text);
            }
        }
    }
    assert!(by_hand.is_empty(), "say it with `count`: {by_hand:#?}");
}

#[test]
fn every_noun_is_known_and_used() {
    let mut said = Said::of_the_sources();
    for noun in &said.nouns {
        assert!(NOUNS.iter().any(|(one, _)| one == noun), "{noun:?} is not among the nouns");
    }
    // Those that come by another name: a pair of number and noun, or a kind of notice.
    said.nouns.append(&mut said.texts);
    for (one, several) in NOUNS {
        assert!(said.nouns.iter().any(|noun| noun == one), "{one:?} is counted nowhere");
        assert_eq!(
            [0, 1, 2].map(|number| count(number, one)),
            [format!("0 {several}"), format!("1 {one}"), format!("2 {several}")]
        );
    }
    assert!(NOUNS.is_sorted());
}

#[test]
fn a_command_that_is_shown_names_the_configuration() {
    let commands = ["detect", "resolve"].map(str::to_owned).to_vec();
    let completion = Completion { config: quoted_for_a_shell(Path::new("it's mine.toml")), commands };
    let complete = |text| completion.complete(text).into_owned();
    let config = r"--config 'it'\''s mine.toml'";
    assert_eq!(
        complete("`mailonce detect`; mailonce resolve x"),
        format!("`mailonce {config} detect`; mailonce {config} resolve x")
    );
    for text in ["mailonce", "a fault of mailonce itself", "/etc/mailonce detect", "mailonce detects"] {
        assert_eq!(complete(text), text);
    }
    assert_eq!(quoted_for_a_shell(Path::new("/etc/shop/rehearsal.toml")), "/etc/shop/rehearsal.toml");
}
