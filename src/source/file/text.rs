//! A file of text as the readers of rows want it: UTF-8, a line feed at the end of each line.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use encoding_rs::{CoderResult, Decoder, UTF_16BE, UTF_16LE};

const BLOCK_IN_BYTES: usize = 64 * 1024;

/// The file itself when it is in UTF-8, or a nameless copy that is: spreadsheets write UTF-16 as "Unicode text", and a
/// carriage return alone at the end of each line as "CSV (Macintosh)".
///
/// Memory does not grow with the file. A unit of UTF-16 that is none becomes U+FFFD, which no address may hold.
pub fn as_utf8(mut file: &File) -> io::Result<File> {
    file.seek(SeekFrom::Start(0))?;
    let mut start = Vec::new();
    file.take(BLOCK_IN_BYTES as u64).read_to_end(&mut start)?;
    file.seek(SeekFrom::Start(0))?;
    let utf16 = utf16_of(&start).map(|encoding| encoding.new_decoder_with_bom_removal());
    let carriage_returns_only = utf16.is_none() && start.contains(&b'\r') && !start.contains(&b'\n');
    if utf16.is_none() && !carriage_returns_only {
        return file.try_clone();
    }
    let mut copy = tempfile::tempfile()?;
    let mut writer = Lines { out: io::BufWriter::new(&mut copy), after_return: false };
    match utf16 {
        Some(decoder) => decode(file, decoder, &mut writer)?,
        None => {
            let mut block = vec![0; BLOCK_IN_BYTES];
            loop {
                match file.read(&mut block)? {
                    0 => break,
                    read => writer.put(&block[..read])?,
                }
            }
        }
    }
    writer.out.flush()?;
    drop(writer);
    copy.seek(SeekFrom::Start(0))?;
    Ok(copy)
}

/// The whole of a small file, as [`as_utf8`] has it, without a byte order mark.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is larger than `most` bytes.
pub fn whole(file: &File, most: u64) -> io::Result<String> {
    let mut text = String::new();
    let mut file = as_utf8(file)?;
    file.seek(SeekFrom::Start(0))?;
    if (&file).take(most + 1).read_to_string(&mut text)? as u64 > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The kind of UTF-16 that a text begins like: by its byte order mark, or by the zeros that Latin letters have there.
fn utf16_of(start: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    match start {
        [0xff, 0xfe, ..] => return Some(UTF_16LE),
        [0xfe, 0xff, ..] => return Some(UTF_16BE),
        _ => {}
    }
    let head = &start[..start.len().min(64)];
    let zeros = |from: usize| head.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    match (zeros(0), zeros(1)) {
        (0, odd) if odd > head.len() / 4 => Some(UTF_16LE),
        (even, 0) if even > head.len() / 4 => Some(UTF_16BE),
        _ => None,
    }
}

fn decode(mut file: &File, mut decoder: Decoder, writer: &mut Lines<'_>) -> io::Result<()> {
    let (mut block, mut decoded) = (vec![0; BLOCK_IN_BYTES], vec![0; 4 * BLOCK_IN_BYTES]);
    loop {
        let read = file.read(&mut block)?;
        let mut rest = &block[..read];
        loop {
            let (result, consumed, written, _) = decoder.decode_to_utf8(rest, &mut decoded, read == 0);
            writer.put(&decoded[..written])?;
            rest = &rest[consumed..];
            if result == CoderResult::InputEmpty {
                break;
            }
        }
        if read == 0 {
            return Ok(());
        }
    }
}

/// Writes lines with a line feed at their end, whatever they had.
struct Lines<'a> {
    out: io::BufWriter<&'a mut File>,
    after_return: bool,
}

impl Lines<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            let follows = self.after_return && at == 0 && rest[0] == b'\n';
            if !follows {
                self.out.write_all(&rest[..at])?;
                self.out.write_all(b"\n")?;
            }
            self.after_return = rest[at] == b'\r';
            rest = &rest[at + 1..];
        }
        self.after_return &= rest.is_empty();
        self.out.write_all(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        whole(&file, 1 << 20).unwrap()
    }

    #[test]
    fn each_encoding_and_line_end_is_read() {
        let text = "email,name\r\njörg@example.com,Jörg 🛒\r\n";
        let plain = text.replace("\r\n", "\n");
        let units = |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        let (little, big) = (units(u16::to_le_bytes), units(u16::to_be_bytes));
        assert_eq!(read(&[&[0xff, 0xfe], little.as_slice()].concat()), plain);
        assert_eq!(read(&[&[0xfe, 0xff], big.as_slice()].concat()), plain);
        assert_eq!((read(&little), read(&big)), (plain.clone(), plain.clone()));
        assert_eq!(read(text.replace("\r\n", "\r").as_bytes()), plain);
        assert_eq!(read(format!("\u{feff}{text}").as_bytes()), text);
        assert_eq!(read(b""), "");
    }

    #[test]
    fn a_large_file_is_read_to_its_end() {
        let line = "x".repeat(99) + "\r";
        assert_eq!(read(line.repeat(5000).as_bytes()), line.replace('\r', "\n").repeat(5000));
        let utf16: Vec<u8> = line.repeat(2000).encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&utf16), line.replace('\r', "\n").repeat(2000));
    }
}
