//! Lines of carts that shops keep as one serialized value, which no query can look into.

use std::io::Read;

use rust_decimal::Decimal;

use super::super::raw::{MOST_LINES, RawField, RawLine, field_of_bytes, field_of_float};
use super::php::{self, Value};
use crate::shops::Items;

/// No cart takes more, packed or unpacked.
const LARGEST_IN_BYTES: u64 = 4 << 20;
/// Of a unit price that is worked out here; it is rounded to the currency afterwards.
const DECIMALS: u32 = 10;

impl Items {
    /// The lines; nothing for a cart without any.
    ///
    /// # Errors
    /// Why it cannot be read, without anything that stands in it.
    pub(super) fn lines(self, items: &RawField) -> Result<Vec<RawLine>, String> {
        let items = items.as_ref().map_err(|why| format!("the column items {why}"))?;
        let packed = bytes(items.as_deref().unwrap_or_default()).ok_or("the column items is no HEX() of a cart")?;
        let data = unpacked(packed).map_err(|why| format!("the cart's items {why}"))?;
        if data.is_empty() {
            return Ok(Vec::new());
        }
        let cart = php::read(&data).map_err(|why| format!("the cart's items cannot be read: {why}"))?;
        let lines: Vec<RawLine> = match self {
            Items::CartFlows => cart.values().take(MOST_LINES + 1).map(of_woocommerce).collect(),
            Items::Shopware => {
                let items = cart.get("lineItems").and_then(|items| items.get("elements"));
                let items = items.ok_or("the cart's items are none of Shopware 6")?;
                let goods = items.values().filter(|item| item.get("type") != Some(&Value::Text(b"promotion")));
                goods.take(MOST_LINES + 1).map(of_shopware).collect()
            }
        };
        if lines.len() > MOST_LINES { Err(format!("more than {MOST_LINES} lines")) } else { Ok(lines) }
    }
}

fn of_woocommerce(line: &Value<'_>) -> RawLine {
    let is_one = |id: &RawField| !matches!(id.as_ref().map(Option::as_deref), Ok(None | Some("0" | "")));
    let id = |name| line.get(name).map(field).filter(is_one);
    let amount = |name| line.get(name).and_then(|value| decimal(&field(value)));
    let each = || {
        let total = amount("line_total")?.checked_add(amount("line_tax").unwrap_or_default())?;
        Some(total.checked_div(amount("quantity")?)?.round_dp(DECIMALS).normalize().to_string())
    };
    RawLine {
        sku: id("variation_id").or_else(|| id("product_id")).unwrap_or(Ok(None)),
        name: Ok(None),
        quantity: line.get("quantity").map_or(Ok(None), field),
        unit_price: Ok(each()),
        image_url: Ok(None),
        category: Ok(None),
        url: Ok(None),
    }
}

fn of_shopware(item: &Value<'_>) -> RawLine {
    let of = |value: Option<&Value<'_>>| value.map_or(Ok(None), field);
    let number = of(item.get("payload").and_then(|payload| payload.get("productNumber")));
    RawLine {
        sku: if number == Ok(None) { of(item.get("id")) } else { number },
        name: of(item.get("label")),
        quantity: of(item.get("quantity")),
        unit_price: of(item.get("price").and_then(|price| price.get("unitPrice"))),
        image_url: Ok(None),
        category: Ok(None),
        url: Ok(None),
    }
}

fn decimal(field: &RawField) -> Option<Decimal> {
    Decimal::from_str_exact(field.as_ref().ok()?.as_deref()?.trim()).ok()
}

/// A value as a field's text. A number with a fraction is a float: it is spelled as short as it can be told from others.
fn field(value: &Value<'_>) -> RawField {
    match value {
        Value::Null | Value::Map(_) => Ok(None),
        Value::Bool(yes) => Ok(Some(u8::from(*yes).to_string())),
        Value::Text(bytes) => field_of_bytes(bytes),
        Value::Number(digits) if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
            Ok(Some((*digits).to_owned()))
        }
        Value::Number(digits) => digits.parse().map_or(Err("is no number"), field_of_float),
    }
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = digits.trim().as_bytes().as_chunks::<2>();
    rest.is_empty().then_some(())?;
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// Undoes what a packed value says of itself by its first bytes; serialized ones begin with a letter and a colon.
fn unpacked(data: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    let mut unpacked = Vec::new();
    let read = match data.as_slice() {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let zstd = ruzstd::decoding::StreamingDecoder::new_with_max_window_size(data.as_slice(), LARGEST_IN_BYTES);
            let zstd = zstd.map_err(|_| "are no sound zstd, or too large")?;
            zstd.take(LARGEST_IN_BYTES + 1).read_to_end(&mut unpacked)
        }
        [0x78, ..] => {
            flate2::read::ZlibDecoder::new(data.as_slice()).take(LARGEST_IN_BYTES + 1).read_to_end(&mut unpacked)
        }
        _ => {
            unpacked = data;
            Ok(0)
        }
    };
    read.map_err(|_| "are packed, and do not unpack")?;
    if unpacked.len() as u64 > LARGEST_IN_BYTES { Err("are larger than 4 MiB") } else { Ok(unpacked) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn hex(data: &[u8]) -> RawField {
        Ok(Some(data.iter().map(|byte| format!("{byte:02X}")).collect()))
    }

    fn said(line: &RawLine) -> [&str; 4] {
        [&line.sku, &line.name, &line.quantity, &line.unit_price]
            .map(|field| field.as_ref().map_or_else(|why| *why, |text| text.as_deref().unwrap_or("-")))
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(data).unwrap();
        packed.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn lines_of_woocommerce_are_read_with_floats_and_halves() {
        let cart = b"a:4:{s:1:\"a\";a:5:{s:10:\"product_id\";i:12;s:12:\"variation_id\";i:0;s:8:\"quantity\";i:3;s:10:\"line_total\";\
            d:10;s:8:\"line_tax\";d:1.8999999999999999;}s:1:\"b\";a:4:{s:10:\"product_id\";i:13;s:12:\"variation_id\";i:14;s:8:\"quantity\";d:1.5;\
            s:10:\"line_total\";s:4:\"3.63\";}s:1:\"c\";a:2:{s:10:\"product_id\";i:15;s:8:\"quantity\";s:1:\"2\";}s:1:\"d\";i:7;}";
        let lines = Items::CartFlows.lines(&hex(cart)).unwrap();
        let said: Vec<_> = lines.iter().map(said).collect();
        assert_eq!(
            said,
            [["12", "-", "3", "3.9666666667"], ["14", "-", "1.5", "2.42"], ["15", "-", "2", "-"], ["-", "-", "-", "-"]]
        );
        for nothing in [Ok(None), hex(b""), hex(b"a:0:{}")] {
            assert_eq!(Items::CartFlows.lines(&nothing), Ok(Vec::new()));
        }
    }

    #[test]
    fn lines_of_shopware_are_read_plain_and_packed() {
        let cart = "O:4:\"Cart\":1:{s:12:\"\0*\0lineItems\";O:5:\"Items\":1:{s:11:\"\0*\0elements\";a:3:{s:1:\"x\";O:4:\"Item\":5:\
            {s:5:\"\0*\0id\";s:1:\"x\";s:8:\"\0*\0label\";s:7:\"Lampe 💡\";s:11:\"\0*\0quantity\";i:2;s:8:\"\0*\0price\";O:5:\"Price\":1:\
            {s:12:\"\0*\0unitPrice\";d:35.980000000000004;}s:10:\"\0*\0payload\";a:1:{s:13:\"productNumber\";s:4:\"SW-1\";}}s:1:\"y\";\
            a:2:{s:2:\"id\";s:1:\"y\";s:5:\"price\";N;}s:1:\"z\";a:1:{s:4:\"type\";s:9:\"promotion\";}}}}"
            .replace("s:7:\"Lampe 💡\"", "s:10:\"Lampe 💡\"");
        for data in [cart.clone().into_bytes(), zlib(cart.as_bytes()), zstd(cart.as_bytes())] {
            let lines = Items::Shopware.lines(&hex(&data)).unwrap();
            let said: Vec<_> = lines.iter().map(said).collect();
            assert_eq!(said, [["SW-1", "Lampe 💡", "2", "35.980000000000004"], ["y", "-", "-", "-"]]);
        }
        assert!(Items::Shopware.lines(&hex(b"a:0:{}")).unwrap_err().contains("none of Shopware"));
    }

    #[test]
    fn what_is_too_large_or_broken_is_named_and_bounded() {
        let bomb = vec![b'x'; 16 << 20];
        for packed in [zlib(&bomb), zstd(&bomb)] {
            let problem = Items::Shopware.lines(&hex(&packed)).unwrap_err();
            assert!(problem.contains("larger than 4 MiB") || problem.contains("too large"), "{problem}");
        }
        // A frame that asks for a window of a gigabyte, and nothing behind it.
        let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3];
        assert!(Items::Shopware.lines(&hex(&window)).unwrap_err().contains("too large"));
        let lines = format!("a:1001:{{{}}}", "i:0;N;".repeat(1001));
        assert!(Items::CartFlows.lines(&hex(lines.as_bytes())).unwrap_err().contains("more than 1000 lines"));
        for (items, problem) in [
            (Ok(Some("4".to_owned())), "HEX()"),
            (Ok(Some("4g".to_owned())), "HEX()"),
            (Err("is not UTF-8"), "is not UTF-8"),
            (hex(b"a:1:{"), "cannot be read: it breaks off at byte 5"),
            (hex(&zlib(b"abc")[..6]), "do not unpack"),
        ] {
            assert!(Items::CartFlows.lines(&items).unwrap_err().contains(problem), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(mut data in proptest::collection::vec(any::<u8>(), 0..300), packed in 0..3) {
            match packed {
                1 => { data.splice(..0, [0x78, 0x9c]); }
                2 => { data.splice(..0, [0x28, 0xb5, 0x2f, 0xfd]); }
                _ => {}
            }
            let _ = Items::CartFlows.lines(&hex(&data));
            let _ = Items::Shopware.lines(&hex(&data));
        }
    }
}
