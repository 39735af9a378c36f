use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn a_maildir(mails: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["new", "cur", "tmp"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    for (name, mail) in mails {
        fs::write(dir.path().join(name), mail).unwrap();
    }
    dir
}

fn mails(maildir: Maildir) -> Vec<String> {
    maildir.map(|item| String::from_utf8(item.unwrap().mail).unwrap()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_maildir_is_read_oldest_first_and_each_mail_moves_when_it_is_done() {
    let dir = a_maildir(&[("new/200.b.host", "second"), ("new/100.a.host", "first"), ("cur/050.c.host:2,S", "old")]);
    let mut maildir = maildir(dir.path(), false, 100).unwrap();
    let first = maildir.next().unwrap().unwrap();
    assert_eq!(first.mail, b"first");
    assert!(first.place.ends_with("new/100.a.host"));
    first.done().unwrap();
    assert_eq!(names(&dir.path().join("cur")), ["050.c.host:2,S", "100.a.host:2,S"]);
    // What is not done stays.
    assert_eq!(mails(maildir), ["second"]);
    assert_eq!(names(&dir.path().join("new")), ["200.b.host"]);
}

#[test]
fn with_again_the_read_ones_are_read_too_in_any_batches() {
    let dir = a_maildir(&[
        ("new/200.b", "b"),
        ("new/400.d", "d"),
        ("cur/100.a:2,S", "a"),
        ("cur/300.c:2,RS", "c"),
        ("cur/500.e:2,", "e"),
    ]);
    for per_batch in [1, 2, 3, 5, 6, 100] {
        let mut again = maildir(dir.path(), true, usize::MAX).unwrap();
        again.per_batch = per_batch;
        assert_eq!(mails(again), ["a", "b", "c", "d", "e"], "{per_batch}");
        let mut new = maildir(dir.path(), false, usize::MAX).unwrap();
        new.per_batch = per_batch;
        assert_eq!(mails(new), ["b", "d"], "{per_batch}");
        let mut some = maildir(dir.path(), true, 3).unwrap();
        some.per_batch = per_batch;
        assert_eq!(mails(some), ["a", "b", "c"], "{per_batch}");
    }
    for item in maildir(dir.path(), true, usize::MAX).unwrap() {
        item.unwrap().done().unwrap();
    }
    assert_eq!(names(&dir.path().join("cur")), ["100.a:2,S", "200.b:2,S", "300.c:2,RS", "400.d:2,S", "500.e:2,"]);
}

#[test]
fn a_name_that_is_taken_is_not_overwritten() {
    let dir = a_maildir(&[
        ("new/1.a", "new"),
        ("cur/1.a:2,S", "old"),
        ("cur/1.a_1:2,S", "older"),
        ("new/2.b:2,FR", "flagged"),
    ]);
    for item in maildir(dir.path(), false, 10).unwrap() {
        item.unwrap().done().unwrap();
    }
    let cur = dir.path().join("cur");
    assert_eq!(names(&cur), ["1.a:2,S", "1.a_1:2,S", "1.a_2:2,S", "2.b:2,FRS"]);
    assert_eq!(fs::read_to_string(cur.join("1.a:2,S")).unwrap(), "old");
    assert_eq!(fs::read_to_string(cur.join("1.a_2:2,S")).unwrap(), "new");
}

#[test]
fn a_mail_that_another_program_took_is_no_error() {
    let dir = a_maildir(&[("new/1.a", "a"), ("new/2.b", "b"), ("new/3.c", "c")]);
    let mut maildir = maildir(dir.path(), false, 10).unwrap();
    let first = maildir.next().unwrap().unwrap();
    fs::rename(dir.path().join("new/1.a"), dir.path().join("cur/1.a:2,S")).unwrap();
    fs::remove_file(dir.path().join("new/2.b")).unwrap();
    first.done().unwrap();
    assert_eq!(mails(maildir), ["c"]);
}

#[test]
fn what_is_no_regular_file_is_not_read() {
    let dir = a_maildir(&[("new/1.a", "a"), ("new/.hidden", "hidden"), ("outside", "outside")]);
    let new = dir.path().join("new");
    fs::create_dir(new.join("2.folder")).unwrap();
    symlink(dir.path().join("outside"), new.join("3.link")).unwrap();
    symlink("nowhere", new.join("4.link")).unwrap();
    let fifo = CString::new(new.join("5.fifo").as_os_str().as_bytes()).unwrap();
    // SAFETY: the pointer is valid for the call.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let _socket = std::os::unix::net::UnixListener::bind(new.join("6.socket")).unwrap();
    assert_eq!(mails(maildir(dir.path(), false, 100).unwrap()), ["a"]);
}

#[test]
fn a_folder_that_is_no_maildir_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let failure = maildir(&dir.path().join("none"), false, 1).unwrap_err();
    assert!(failure.exit == Exit::DataUnusable && failure.what.contains("none: No such file"), "{failure}");
    fs::create_dir(dir.path().join("new")).unwrap();
    let failure = maildir(dir.path(), false, 1).unwrap_err();
    assert!(failure.what.ends_with("it has no folder cur, tmp"), "{failure}");
    fs::write(dir.path().join("file"), "").unwrap();
    let failure = maildir(&dir.path().join("file"), false, 1).unwrap_err();
    assert!(failure.what.ends_with("is no Maildir but a file"), "{failure}");
}

#[test]
fn of_a_huge_mail_the_beginning_is_held() {
    let dir = a_maildir(&[("new/1.a", &"x".repeat(MOST_OF_A_MAIL + 10))]);
    let item = maildir(dir.path(), false, 1).unwrap().next().unwrap().unwrap();
    assert_eq!(item.mail.len(), MOST_OF_A_MAIL);
}

fn read_mbox(text: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let read = mbox(file.path()).unwrap().map(|item| String::from_utf8(item.unwrap().mail).unwrap()).collect();
    assert_eq!(fs::read_to_string(file.path()).unwrap(), text, "an mbox is never changed");
    read
}

#[test]
fn an_mbox_is_taken_apart() {
    let from = "From MAILER-DAEMON Sun Mar  1 08:00:00 2026";
    let text = format!(
        "{from}\nSubject: a\n\n>From me\n>>From you\n> From no one\n\n{from}\nSubject: b\n\nFrom here on\n\nFrom now on, all is well\nreally\n\n{from}\nSubject: c\n"
    );
    let expected = [
        "Subject: a\n\nFrom me\n>From you\n> From no one\n\n",
        "Subject: b\n\nFrom here on\n\nFrom now on, all is well\nreally\n\n",
        "Subject: c\n",
    ];
    assert_eq!(read_mbox(&text), expected);
    assert_eq!(read_mbox(&format!("\n\n{text}")), expected);
    let crlf = text.replace('\n', "\r\n");
    assert_eq!(read_mbox(&crlf), expected.map(|mail| mail.replace('\n', "\r\n")));
    // What is said of a length is not believed.
    let lies = format!("{from}\nContent-Length: 1000\n\na\n\n{from}\nContent-Length: 0\n\nb\n");
    assert_eq!(read_mbox(&lies).len(), 2);
    assert_eq!(read_mbox(""), Vec::<String>::new());
    assert_eq!(read_mbox("\n\n"), Vec::<String>::new());
    assert_eq!(read_mbox(&format!("{from}\n")), [""]);
    assert_eq!(read_mbox(&format!("{from}\na: b\n\n{from}")), [format!("a: b\n\n{from}")]);
}

#[test]
fn lines_longer_than_a_piece_are_kept_whole() {
    let long = "x".repeat(PIECE as usize - 5);
    let text = format!("From x\na: b\n\n{long}From y\nz: 1\n\n{long}{long}\n\nFrom x\nc: d\n\n");
    let mails = read_mbox(&text);
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0], format!("a: b\n\n{long}From y\nz: 1\n\n{long}{long}\n\n"));
    let huge = format!("From x\na: b\n\n{}\n\nFrom x\nc: d\n", "line\n".repeat(MOST_OF_A_MAIL / 5 + 10));
    let mails = read_mbox(&huge);
    assert_eq!((mails[0].len(), mails[1].as_str()), (MOST_OF_A_MAIL, "c: d\n"));
}

#[test]
fn what_is_no_mbox_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    fs::write(&path, "Subject: a\n\nb\n").unwrap();
    for (path, what) in [
        (path, "it does not begin with a line `From `"),
        (dir.path().to_owned(), "is no mbox but a folder"),
        (dir.path().join("none"), "No such file or directory (os error 2)"),
        (PathBuf::from("/dev/null"), "is no file"),
    ] {
        let failure = mbox(&path).unwrap_err();
        assert!(failure.exit == Exit::DataUnusable && failure.what.ends_with(what), "{failure}");
    }
}

#[test]
fn an_mbox_that_is_being_written_to_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "From x\na: b\n\n").unwrap();
    let writer = OpenOptions::new().write(true).open(file.path()).unwrap();
    fs2::FileExt::lock_exclusive(&writer).unwrap();
    let failure = mbox(file.path()).unwrap_err();
    assert!(failure.exit as u8 == 75 && failure.what.ends_with("is being written to"), "{failure}");
    fs2::FileExt::unlock(&writer).unwrap();
    let lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: as in lock_shared. A lock of this kind is in the way of one's own process too.
    assert_eq!(unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) }, 0);
    assert_eq!(mbox(file.path()).unwrap_err().exit as u8, 75);
    drop(writer);
    assert_eq!(mbox(file.path()).unwrap().count(), 1);
}

#[test]
fn a_pipe_holds_one_mail() {
    let read = |text: &str| one(text.as_bytes()).map(|item| String::from_utf8(item.mail).unwrap());
    assert_eq!(read("Subject: a\n\nFrom b\n").unwrap(), "Subject: a\n\nFrom b\n");
    assert_eq!(read("From x Sun Mar  1 08:00:00 2026\nSubject: a\n\n>From b\n").unwrap(), "Subject: a\n\nFrom b\n");
    for empty in ["", "\n", " \r\n"] {
        assert_eq!(read(empty).unwrap_err().exit as u8, 65, "{empty:?}");
    }
    let huge = io::repeat(b'x').take(MOST_OF_A_MAIL as u64 * 2);
    assert_eq!(one(huge).unwrap().mail.len(), MOST_OF_A_MAIL);
}
