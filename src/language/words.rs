//! The words of the built-in message in each language it speaks.
//!
//! Words between braces are filled in. Each language addresses a shopper the way its shops do, formally (`Sie`, `vous`)
//! or not, and says nothing that depends on a gender.

use icu_plurals::{PluralCategory, PluralRules};

use super::{direction, number, tag};
use crate::domain::locale::Locale;
use crate::domain::money::Quantity;

/// The words of one language.
pub struct Words {
    tag: &'static str,
    pub subject: &'static str,
    /// `{shop}`
    title: &'static str,
    heading: &'static str,
    /// Subject and heading of a later reminder.
    again: &'static str,
    /// The same of the last one.
    last: &'static str,
    /// `{name}`
    greeting: &'static str,
    greeting_without_name: &'static str,
    /// `{shop}`, `{date}`: day and time, as CLDR writes them.
    lead: &'static str,
    /// What a mail program shows beside the subject: `{items}`, `{shop}`.
    preview: &'static str,
    /// `{items}`, `{total}`
    with_total: &'static str,
    /// `{item}`, and `{n}` others.
    and_more: Plural,
    /// `{price}`
    each: &'static str,
    total: &'static str,
    /// Before a coupon code.
    code: &'static str,
    /// `{date}`
    valid_until: &'static str,
    button: &'static str,
    no_button: &'static str,
    /// `{shop}`, `{email}`
    reason: &'static str,
    unsubscribe: &'static str,
}

/// A text in the plural forms of its language (CLDR's categories); one that is not given is as `other`.
struct Plural {
    one: Option<&'static str>,
    two: Option<&'static str>,
    few: Option<&'static str>,
    many: Option<&'static str>,
    other: &'static str,
}

impl Plural {
    const fn one_form(other: &'static str) -> Plural {
        Plural { one: None, two: None, few: None, many: None, other }
    }

    const fn two_forms(one: &'static str, other: &'static str) -> Plural {
        Plural { one: Some(one), ..Plural::one_form(other) }
    }

    fn of(&self, locale: Locale, n: u64) -> &'static str {
        let rules = PluralRules::try_new_cardinal((&tag(locale)).into());
        let category = rules.map(|rules| rules.category_for(n));
        let form = match category.unwrap_or(PluralCategory::Other) {
            PluralCategory::One => self.one,
            PluralCategory::Two => self.two,
            PluralCategory::Few => self.few,
            PluralCategory::Many => self.many,
            PluralCategory::Zero | PluralCategory::Other => None,
        };
        form.unwrap_or(self.other)
    }
}

/// What the words of a message about a cart are filled with.
pub struct Filled<'a> {
    pub shop: &'a str,
    pub name: Option<&'a str>,
    pub email: &'a str,
    /// The first item; `None` in an empty cart.
    pub item: Option<&'a str>,
    /// How many items the cart has besides.
    pub more: u64,
    pub total: Option<&'a str>,
    pub date: &'a str,
}

impl Words {
    /// The words for a reader; `None` where the language is not spoken here.
    pub fn of(locale: Locale) -> Option<&'static Words> {
        locale.chain().find_map(|locale| {
            let tag = locale.to_string();
            ALL.iter().copied().find(|words| words.tag == tag)
        })
    }

    /// Every text by the name that templates know it by, filled in for a reader of `locale`.
    pub fn filled(&self, locale: Locale, with: &Filled<'_>) -> [(&'static str, String); 14] {
        let is_rtl = direction(locale) == "rtl";
        let fill = |text: &str, values: &[(&str, &str)]| fill(text, values, is_rtl);
        let shop = ("shop", with.shop);
        let greeting = match with.name {
            Some(name) => fill(self.greeting, &[("name", name)]),
            None => self.greeting_without_name.to_owned(),
        };
        let preview = match with.item {
            None => fill(self.title, &[shop]),
            Some(item) => fill(self.preview, &[("items", &self.items(locale, item, with)), shop]),
        };
        [
            ("subject", self.subject.to_owned()),
            ("title", fill(self.title, &[shop])),
            ("preview", preview),
            ("heading", self.heading.to_owned()),
            ("again", self.again.to_owned()),
            ("last", self.last.to_owned()),
            ("greeting", greeting),
            ("lead", fill(self.lead, &[shop, ("date", with.date)])),
            ("total", self.total.to_owned()),
            ("code", self.code.to_owned()),
            ("button", self.button.to_owned()),
            ("no_button", self.no_button.to_owned()),
            ("reason", fill(self.reason, &[shop, ("email", with.email)])),
            ("unsubscribe", self.unsubscribe.to_owned()),
        ]
    }

    fn items(&self, locale: Locale, item: &str, with: &Filled<'_>) -> String {
        let is_rtl = direction(locale) == "rtl";
        let items = match u32::try_from(with.more) {
            Ok(0) => fill("{item}", &[("item", item)], is_rtl),
            more => {
                let n = number(locale, Quantity::from(more.unwrap_or(u32::MAX)));
                fill(self.and_more.of(locale, with.more), &[("item", item), ("n", &n)], is_rtl)
            }
        };
        match with.total {
            // What was isolated stays so; the items are a part of the text by now.
            Some(total) => self.with_total.replace("{total}", total).replace("{items}", &items),
            None => items,
        }
    }

    /// `Valid until 1 March 2026, 09:00`
    pub fn valid_until(&self, date: &str) -> String {
        self.valid_until.replace("{date}", date)
    }

    /// `€19.90 each`
    pub fn each(&self, price: &str) -> String {
        self.each.replace("{price}", price)
    }
}

/// Fills in words. One that may be written the other way is isolated (Unicode's UAX #9), or it would move what stands
/// around it.
fn fill(text: &str, values: &[(&str, &str)], is_rtl: bool) -> String {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, (name, behind))) = rest.split_once('{').and_then(|(a, b)| Some((a, b.split_once('}')?))) {
        filled.push_str(before);
        let value = values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
        let runs_on = matches!(name, "n" | "date" | "items") || is_rtl == value.contains(is_of_rtl_script);
        match runs_on {
            true => filled.push_str(value),
            false => filled.extend(["\u{2068}", value, "\u{2069}"]),
        }
        rest = behind;
    }
    filled.push_str(rest);
    filled
}

/// Whether a letter is of a script written from right to left: Hebrew, Arabic, Syriac and their like.
fn is_of_rtl_script(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}' | '\u{10800}'..='\u{10fff}')
}

/// The languages that the built-in message speaks.
const ALL: [&Words; 11] = [
    &ENGLISH,
    &GERMAN,
    &FRENCH,
    &SPANISH,
    &ITALIAN,
    &DUTCH,
    &POLISH,
    &PORTUGUESE,
    &EUROPEAN_PORTUGUESE,
    &JAPANESE,
    &ARABIC,
];

pub const ENGLISH: Words = Words {
    tag: "en",
    subject: "You left something behind",
    title: "Your cart at {shop}",
    heading: "You left something behind",
    again: "Your cart is still here",
    last: "A last reminder of your cart",
    greeting: "Hello {name},",
    greeting_without_name: "Hello,",
    lead: "Your cart at {shop} is still as you left it on {date}. Pick up where you stopped whenever you like.",
    preview: "{items}. Your cart at {shop} is as you left it.",
    with_total: "{items}, {total}",
    and_more: Plural::two_forms("{item} and {n} more item", "{item} and {n} more items"),
    each: "{price} each",
    total: "Total",
    code: "Your code",
    valid_until: "Valid until {date}",
    button: "Return to your cart",
    no_button: "If the button does not work, copy this address into your browser:",
    reason: "You are receiving this because you left items in your cart at {shop} with the address {email}.",
    unsubscribe: "Unsubscribe",
};

const GERMAN: Words = Words {
    tag: "de",
    subject: "Sie haben noch etwas im Warenkorb",
    title: "Ihr Warenkorb bei {shop}",
    heading: "Sie haben noch etwas im Warenkorb",
    again: "Ihr Warenkorb ist noch da",
    last: "Letzte Erinnerung an Ihren Warenkorb",
    greeting: "Guten Tag {name},",
    greeting_without_name: "Guten Tag,",
    lead: "Ihr Warenkorb bei {shop} ist noch so, wie Sie ihn am {date} Uhr verlassen haben. Machen Sie einfach dort weiter, wo Sie aufgehört haben.",
    preview: "{items}. Ihr Warenkorb bei {shop} ist noch so, wie Sie ihn verlassen haben.",
    with_total: "{items}, {total}",
    and_more: Plural::two_forms("{item} und {n} weiterer Artikel", "{item} und {n} weitere Artikel"),
    each: "{price} pro Stück",
    total: "Summe",
    code: "Ihr Gutscheincode",
    valid_until: "Gültig bis {date} Uhr",
    button: "Zum Warenkorb",
    no_button: "Funktioniert die Schaltfläche nicht? Dann kopieren Sie diese Adresse in Ihren Browser:",
    reason: "Sie erhalten diese E-Mail, weil Sie mit der Adresse {email} noch Artikel im Warenkorb bei {shop} haben.",
    unsubscribe: "Abmelden",
};

const FRENCH: Words = Words {
    tag: "fr",
    subject: "Votre panier vous attend",
    title: "Votre panier chez {shop}",
    heading: "Votre panier vous attend",
    again: "Votre panier est toujours là",
    last: "Dernier rappel pour votre panier",
    greeting: "Bonjour {name},",
    greeting_without_name: "Bonjour,",
    lead: "Votre panier chez {shop} est resté tel que vous l’avez laissé le {date}. Vous pouvez reprendre vos achats quand vous le souhaitez.",
    preview: "{items}. Votre panier chez {shop} est resté tel que vous l’avez laissé.",
    with_total: "{items}, {total}",
    and_more: Plural::two_forms("{item} et {n} autre article", "{item} et {n} autres articles"),
    each: "{price} l’unité",
    total: "Total",
    code: "Votre code",
    valid_until: "Valable jusqu’au {date}",
    button: "Revenir à mon panier",
    no_button: "Si le bouton ne fonctionne pas, copiez cette adresse dans votre navigateur\u{a0}:",
    reason: "Vous recevez cet e-mail parce que vous avez laissé des articles dans votre panier chez {shop} avec l’adresse {email}.",
    unsubscribe: "Se désabonner",
};

const SPANISH: Words = Words {
    tag: "es",
    subject: "Tu carrito te espera",
    title: "Tu carrito en {shop}",
    heading: "Tu carrito te espera",
    again: "Tu carrito sigue aquí",
    last: "Último recordatorio de tu carrito",
    greeting: "Hola, {name}:",
    greeting_without_name: "Hola:",
    lead: "Tu carrito en {shop} sigue tal como lo dejaste el {date}. Puedes continuar cuando quieras.",
    preview: "{items}. Tu carrito en {shop} sigue tal como lo dejaste.",
    with_total: "{items}, {total}",
    and_more: Plural::two_forms("{item} y {n} artículo más", "{item} y {n} artículos más"),
    each: "{price} por unidad",
    total: "Total",
    code: "Tu código",
    valid_until: "Válido hasta el {date}",
    button: "Volver al carrito",
    no_button: "Si el botón no funciona, copia esta dirección en tu navegador:",
    reason: "Recibes este correo porque dejaste artículos en tu carrito en {shop} con la dirección {email}.",
    unsubscribe: "Darse de baja",
};

const ITALIAN: Words = Words {
    tag: "it",
    subject: "Il tuo carrello ti aspetta",
    title: "Il tuo carrello su {shop}",
    heading: "Il tuo carrello ti aspetta",
    again: "Il tuo carrello è ancora qui",
    last: "Ultimo promemoria per il tuo carrello",
    greeting: "Ciao {name},",
    greeting_without_name: "Ciao,",
    lead: "Il tuo carrello su {shop} è ancora come l’hai lasciato (ultima modifica: {date}). Puoi riprendere quando vuoi.",
    preview: "{items}. Il tuo carrello su {shop} è ancora come l’hai lasciato.",
    with_total: "{items}, {total}",
    and_more: Plural::two_forms("{item} e {n} altro articolo", "{item} e altri {n} articoli"),
    each: "{price} al pezzo",
    total: "Totale",
    code: "Il tuo codice",
    valid_until: "Valido fino al {date}",
    button: "Torna al carrello",
    no_button: "Se il pulsante non funziona, copia questo indirizzo nel browser:",
    reason: "Ricevi questa e-mail perché hai lasciato degli articoli nel carrello su {shop} con l’indirizzo {email}.",
    unsubscribe: "Annulla l’iscrizione",
};

const DUTCH: Words = Words {
    tag: "nl",
    subject: "Je hebt nog iets in je winkelwagen",
    title: "Je winkelwagen bij {shop}",
    heading: "Je hebt nog iets in je winkelwagen",
    again: "Je winkelwagen staat nog klaar",
    last: "Laatste herinnering aan je winkelwagen",
    greeting: "Hallo {name},",
    greeting_without_name: "Hallo,",
    lead: "Je winkelwagen bij {shop} is nog precies zoals je hem op {date} hebt achtergelaten. Ga verder wanneer het je uitkomt.",
    preview: "{items}. Je winkelwagen bij {shop} is nog zoals je hem hebt achtergelaten.",
    with_total: "{items}, {total}",
    and_more: Plural::two_forms("{item} en nog {n} artikel", "{item} en nog {n} artikelen"),
    each: "{price} per stuk",
    total: "Totaal",
    code: "Je code",
    valid_until: "Geldig tot {date}",
    button: "Terug naar je winkelwagen",
    no_button: "Werkt de knop niet? Kopieer dan dit adres naar je browser:",
    reason: "Je ontvangt deze e-mail omdat je met het adres {email} nog artikelen in je winkelwagen bij {shop} hebt.",
    unsubscribe: "Afmelden",
};

const POLISH: Words = Words {
    tag: "pl",
    subject: "Twój koszyk na Ciebie czeka",
    title: "Twój koszyk w sklepie {shop}",
    heading: "Twój koszyk na Ciebie czeka",
    again: "Twój koszyk wciąż tu jest",
    last: "Ostatnie przypomnienie o Twoim koszyku",
    greeting: "Dzień dobry, {name}!",
    greeting_without_name: "Dzień dobry!",
    lead: "Twój koszyk w sklepie {shop} wciąż na Ciebie czeka (ostatnia zmiana: {date}). Do zakupów możesz wrócić w dowolnej chwili.",
    preview: "{items}. Twój koszyk w sklepie {shop} wciąż na Ciebie czeka.",
    with_total: "{items}, {total}",
    and_more: Plural {
        one: Some("{item} i jeszcze {n} produkt"),
        few: Some("{item} i jeszcze {n} produkty"),
        many: Some("{item} i jeszcze {n} produktów"),
        ..Plural::one_form("{item} i jeszcze {n} produktu")
    },
    each: "{price} za sztukę",
    total: "Razem",
    code: "Twój kod",
    valid_until: "Ważny do {date}",
    button: "Wróć do koszyka",
    no_button: "Jeśli przycisk nie działa, skopiuj ten adres do przeglądarki:",
    reason: "Otrzymujesz tę wiadomość, ponieważ w Twoim koszyku w sklepie {shop}, przypisanym do adresu {email}, zostały produkty.",
    unsubscribe: "Wypisz się",
};

/// As in Brazil, which is what `pt` stands for where no region is named.
const PORTUGUESE: Words = Words {
    tag: "pt",
    subject: "Você deixou algo no carrinho",
    title: "Seu carrinho na loja {shop}",
    heading: "Você deixou algo no carrinho",
    again: "Seu carrinho ainda está aqui",
    last: "Último lembrete do seu carrinho",
    greeting: "Olá, {name}!",
    greeting_without_name: "Olá!",
    lead: "Seu carrinho na loja {shop} continua como você o deixou em {date}. Retome a compra quando quiser.",
    preview: "{items}. Seu carrinho na loja {shop} continua como você o deixou.",
    with_total: "{items}, {total}",
    and_more: Plural::two_forms("{item} e mais {n} item", "{item} e mais {n} itens"),
    each: "{price} cada",
    total: "Total",
    code: "Seu código",
    valid_until: "Válido até {date}",
    button: "Voltar ao carrinho",
    no_button: "Se o botão não funcionar, copie este endereço no seu navegador:",
    reason: "Você está recebendo este e-mail porque deixou itens no carrinho da loja {shop} com o endereço {email}.",
    unsubscribe: "Cancelar inscrição",
};

const EUROPEAN_PORTUGUESE: Words = Words {
    tag: "pt-PT",
    subject: "Deixou algo no carrinho",
    title: "O seu carrinho na loja {shop}",
    heading: "Deixou algo no carrinho",
    again: "O seu carrinho ainda está aqui",
    lead: "O seu carrinho na loja {shop} continua como o deixou em {date}. Retome a compra quando quiser.",
    preview: "{items}. O seu carrinho na loja {shop} continua como o deixou.",
    and_more: Plural::two_forms("{item} e mais {n} artigo", "{item} e mais {n} artigos"),
    no_button: "Se o botão não funcionar, copie este endereço para o seu navegador:",
    reason: "Recebe este e-mail porque deixou artigos no carrinho da loja {shop} com o endereço {email}.",
    unsubscribe: "Cancelar a subscrição",
    ..PORTUGUESE
};

const JAPANESE: Words = Words {
    tag: "ja",
    subject: "カートに商品が残っています",
    title: "{shop}のカート",
    heading: "カートに商品が残っています",
    again: "カートの商品はそのままです",
    last: "カートに関する最後のお知らせ",
    greeting: "{name} 様",
    greeting_without_name: "お客様",
    lead: "{shop}のカートに、{date}の時点でお選びいただいた商品が残っています。ご都合のよいときに、お買い物の続きをお楽しみください。",
    preview: "{items}。{shop}のカートに商品が残っています。",
    with_total: "{items}、{total}",
    and_more: Plural::one_form("{item}、ほか{n}点"),
    each: "単価 {price}",
    total: "合計",
    code: "クーポンコード",
    valid_until: "有効期限: {date}",
    button: "カートに戻る",
    no_button: "ボタンが機能しない場合は、次のアドレスをブラウザーに貼り付けてください。",
    reason: "このメールは、{email} のアドレスで{shop}のカートに商品を入れたままのお客様にお送りしています。",
    unsubscribe: "配信停止",
};

/// Words that may be spoken to a man or a woman are spelled alike.
const ARABIC: Words = Words {
    tag: "ar",
    subject: "سلة مشترياتك بانتظارك",
    title: "سلة مشترياتك في {shop}",
    heading: "سلة مشترياتك بانتظارك",
    again: "سلة مشترياتك ما زالت هنا",
    last: "تذكير أخير بسلة مشترياتك",
    greeting: "مرحبًا {name}،",
    greeting_without_name: "مرحبًا،",
    lead: "سلة مشترياتك في {shop} ما زالت كما تركتها في {date}. يمكنك المتابعة متى شئت.",
    preview: "{items}. سلة مشترياتك في {shop} ما زالت كما تركتها.",
    with_total: "{items}، {total}",
    and_more: Plural {
        one: Some("{item} ومنتج آخر"),
        two: Some("{item} ومنتجان آخران"),
        few: Some("{item} و{n} منتجات أخرى"),
        many: Some("{item} و{n} منتجًا آخر"),
        ..Plural::one_form("{item} و{n} منتج آخر")
    },
    each: "سعر الوحدة {price}",
    total: "المجموع",
    code: "رمز القسيمة",
    valid_until: "صالح حتى {date}",
    button: "العودة إلى السلة",
    no_button: "إذا لم يعمل الزر، فانسخ هذا العنوان إلى المتصفح:",
    reason: "تصلك هذه الرسالة لأن منتجات بقيت في سلة مشترياتك في {shop} المرتبطة بالعنوان {email}.",
    unsubscribe: "إلغاء الاشتراك",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(tag: &str, more: u64) -> std::collections::BTreeMap<&'static str, String> {
        let locale = Locale::parse(tag).unwrap();
        let with = Filled {
            shop: "Tom & Co",
            name: Some("Ada"),
            email: "ada@example.com",
            item: Some("Lamp"),
            more,
            total: Some("5 €"),
            date: "DATE",
        };
        Words::of(locale).unwrap().filled(locale, &with).into()
    }

    #[test]
    fn every_language_has_every_text_with_every_word_filled_in() {
        for words in ALL {
            let texts = filled(words.tag, 3);
            for (name, text) in &texts {
                assert!(!text.is_empty() && !text.contains(['{', '}']), "{} {name}: {text}", words.tag);
                assert!(
                    words.tag == "en" || *text != filled("en", 3)[name] || text == "Total",
                    "{} {name}: {text}",
                    words.tag
                );
            }
            assert!(texts["lead"].contains("Tom & Co") && texts["lead"].contains("DATE"), "{texts:?}");
            assert!(texts["reason"].contains("ada@example.com") && texts["greeting"].contains("Ada"), "{texts:?}");
            assert!(texts["preview"].contains("Lamp") && texts["preview"].contains("5 €"), "{texts:?}");
            assert!(words.each("5 €").contains("5 €"));
        }
    }

    #[test]
    fn plurals_are_those_of_the_language() {
        for (tag, more, expected) in [
            ("en", 1, "Lamp and 1 more item"),
            ("en", 2, "Lamp and 2 more items"),
            ("de", 1, "Lamp und 1 weiterer Artikel"),
            ("fr", 2, "Lamp et 2 autres articles"),
            ("pl", 1, "Lamp i jeszcze 1 produkt"),
            ("pl", 2, "Lamp i jeszcze 2 produkty"),
            ("pl", 4, "Lamp i jeszcze 4 produkty"),
            ("pl", 5, "Lamp i jeszcze 5 produktów"),
            ("pl", 12, "Lamp i jeszcze 12 produktów"),
            ("pl", 22, "Lamp i jeszcze 22 produkty"),
            ("ja", 7, "Lamp、ほか7点"),
            ("ar", 1, "\u{2068}Lamp\u{2069} ومنتج آخر"),
            ("ar", 2, "\u{2068}Lamp\u{2069} ومنتجان آخران"),
            ("ar", 3, "\u{2068}Lamp\u{2069} و3 منتجات أخرى"),
            ("ar", 11, "\u{2068}Lamp\u{2069} و11 منتجًا آخر"),
            ("ar", 100, "\u{2068}Lamp\u{2069} و100 منتج آخر"),
            ("ar-EG", 3, "\u{2068}Lamp\u{2069} و٣ منتجات أخرى"),
        ] {
            let preview = &filled(tag, more)["preview"];
            assert!(preview.starts_with(expected), "{tag} {more}: {preview}");
        }
    }

    #[test]
    fn the_nearest_language_is_spoken() {
        for (tag, spoken) in [("de-AT", Some("de")), ("pt-BR", Some("pt")), ("pt-PT", Some("pt-PT")), ("sv", None)] {
            assert_eq!(Words::of(Locale::parse(tag).unwrap()).map(|words| words.tag), spoken, "{tag}");
        }
    }

    #[test]
    fn what_is_written_the_other_way_is_isolated() {
        assert_eq!(fill("a {name}, b", &[("name", "محمد")], false), "a \u{2068}محمد\u{2069}, b");
        assert_eq!(fill("a {name}, b", &[("name", "Ada {shop}")], false), "a Ada {shop}, b");
        assert_eq!(fill("أ {name}", &[("name", "محمد")], true), "أ محمد");
    }
}
