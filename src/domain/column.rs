//! What columns are called in the files that shops export.

/// Names of the column that holds addresses, as [`key`] gives them; the first one found counts.
pub const ADDRESS: &[&str] = &[
    "email",
    "emailaddress",
    "mail",
    "mailaddress",
    "emailadresse",
    "useremail",
    "customeremail",
    "contactemail",
    "subscriberemail",
    "billingemail",
    "email1value",
    "recipient",
    "address",
];

/// A column's name without what programs add to it: quotes, white space, a byte order mark.
pub fn tidy(name: &str) -> &str {
    name.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '"'))
}

/// What a column's name is compared by: its letters and digits, in lower case. `E-Mail`, `Email` and `e_mail` are one.
pub fn key(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Where the first of some names stands, compared by their keys; a name spelled like that goes before one that only has
/// the same key.
pub fn place<'a>(names: impl Iterator<Item = &'a str> + Clone, wanted: &[&str]) -> Option<usize> {
    wanted.iter().find_map(|wanted| {
        let exactly = |name: &str| tidy(name).eq_ignore_ascii_case(wanted);
        names.clone().position(exactly).or_else(|| {
            let wanted = key(wanted);
            names.clone().position(|name| key(name) == wanted)
        })
    })
}

/// The name by which a template can use a column: what cannot stand in a variable's name becomes `_`, so `First Name` is
/// `First_Name`.
pub fn variable(name: &str) -> String {
    let mut variable: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if variable.starts_with(|c: char| c.is_ascii_digit()) {
        variable.insert(0, '_');
    }
    variable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_of_addresses_is_found_by_what_programs_call_it() {
        let at = |names: &[&str]| place(names.iter().copied(), ADDRESS);
        assert_eq!(at(&["First Name", "Email Address"]), Some(1));
        assert_eq!(at(&["\u{feff}\"E-Mail\"", "name"]), Some(0));
        assert_eq!(at(&["address", "EMAIL"]), Some(1));
        assert_eq!(at(&["E-mail", "email"]), Some(1));
        assert_eq!(at(&["name", "emails"]), None);
    }

    #[test]
    fn each_column_has_a_name_for_templates() {
        for (name, expected) in [("First Name", "First_Name"), ("2nd", "_2nd"), ("FNAME", "FNAME"), ("a-b.c", "a_b_c")]
        {
            assert_eq!(variable(name), expected);
        }
    }
}
