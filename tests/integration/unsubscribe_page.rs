//! The pages behind the links, as they stand in `examples/unsubscribe/`: under PHP, and as a CGI behind nginx and fcgiwrap.
//!
//! Each test asks both. Where PHP, nginx or fcgiwrap is not installed, that page is left out with a word.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{os::fd::OwnedFd, thread};

use crate::docs::in_repository;
use crate::support::{Cart, Process, World, free_port, header, installed, listening};

/// A page answers within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a mail program sends (RFC 8058 §3.2).
const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// What answers behind the links.
struct Page {
    name: &'static str,
    port: u16,
    folder: PathBuf,
    _servers: Vec<Process>,
}

/// Where a page's spool and keys are, whether it has room to write, and how many work on it at once.
struct Given<'a> {
    spool: &'a str,
    keys: &'a str,
    disk_is_full: bool,
    workers: u8,
}

const USUAL: Given<'_> = Given { spool: "spool", keys: "unsubscribe.keys", disk_is_full: false, workers: 1 };

/// Both pages, as far as they can be had here.
fn pages(world: &World, given: &Given<'_>) -> Vec<Page> {
    [php(world, given), cgi(world, given)].into_iter().flatten().collect()
}

/// A command with the environment of a page.
fn of_a_page(program: &Path, world: &World, given: &Given<'_>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.env("MAILONCE_SPOOL", world.path(given.spool)).env("MAILONCE_KEYS", world.path(given.keys));
    if given.disk_is_full {
        // SAFETY: both may be called between fork and exec; the limit is a value on the stack.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                match libc::setrlimit(libc::RLIMIT_FSIZE, &raw const none) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn php(world: &World, given: &Given<'_>) -> Option<Page> {
    let program = installed("php")?;
    let folder = world.path("php");
    fs::create_dir_all(&folder).unwrap();
    let (port, server) = listening(|port| {
        let mut command = of_a_page(&program, world, given);
        if given.workers > 1 {
            command.env("PHP_CLI_SERVER_WORKERS", given.workers.to_string());
        }
        command.current_dir(&folder).arg("-S").arg(format!("127.0.0.1:{port}"));
        Process::start(command.arg(in_repository("examples/unsubscribe/unsubscribe.php")))
    });
    Some(Page { name: "PHP", port, folder, _servers: vec![server] })
}

fn cgi(world: &World, given: &Given<'_>) -> Option<Page> {
    let (nginx, fcgiwrap) = (installed("nginx")?, installed("fcgiwrap")?);
    let folder = world.path("nginx");
    fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("fcgiwrap.socket");
    let _ = fs::remove_file(&socket);
    // As its manual has it: what it takes connections from is its standard input.
    let listener = OwnedFd::from(UnixListener::bind(&socket).expect("a socket"));
    let wrap =
        Process::start(of_a_page(&fcgiwrap, world, given).args(["-c", &given.workers.to_string()]).stdin(listener));
    let (port, server) = listening(|port| {
        fs::write(folder.join("nginx.conf"), configuration(&folder, port, &example_block(&folder))).unwrap();
        Process::start(nginx_command(&nginx, &folder).stdout(Stdio::null()).stderr(Stdio::null()))
    });
    Some(Page { name: "CGI", port, folder, _servers: vec![server, wrap] })
}

fn nginx_command(nginx: &Path, folder: &Path) -> Command {
    let mut command = Command::new(nginx);
    command.env_clear().arg("-e").arg(folder.join("error.log")).arg("-c").arg(folder.join("nginx.conf"));
    command.stdin(Stdio::null());
    command
}

/// The example, with the paths of this folder.
fn example_block(folder: &Path) -> String {
    let block = fs::read_to_string(in_repository("examples/unsubscribe/nginx.conf")).unwrap();
    let script = in_repository("examples/unsubscribe/unsubscribe.cgi");
    let replaced =
        [("/run/fcgiwrap.socket", folder.join("fcgiwrap.socket")), ("/usr/local/lib/mailonce/unsubscribe.cgi", script)];
    replaced.iter().fold(block, |block, (path, with)| {
        assert!(block.contains(path), "{block}");
        block.replace(path, with.to_str().unwrap())
    })
}

/// A server of this user's own: one process, everything in its folder.
fn configuration(folder: &Path, port: u16, block: &str) -> String {
    let here = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("    {what}_temp_path {here}/{what};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {here}/nginx.pid;\nerror_log {here}/error.log;\nevents {{ }}\nhttp {{\n    \
         access_log {here}/access.log;\n{temporary}    server {{\n        listen 127.0.0.1:{port};\n{block}    }}\n}}\n"
    )
}

/// What a page said.
struct Said {
    status: u16,
    head: String,
    body: String,
}

impl Said {
    fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        { fields }.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Page {
    /// Asks for `/unsubscribe?` and this.
    fn asked(&self, method: &str, query: &str, body: &str) -> Said {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).expect("the page's server");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request =
            format!("{method} /unsubscribe?{query} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n");
        if method == "POST" || !body.is_empty() {
            let form = "Content-Type: application/x-www-form-urlencoded";
            request.push_str(&format!("{form}\r\nContent-Length: {}\r\n", body.len()));
        }
        socket.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap_or_else(|err| panic!("{}: {method} {query}: {err}", self.name));
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        // A blank stands behind the code, whatever follows it (RFC 9112 §4).
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("{}: {method} {query}: {answer:?}", self.name));
        Said { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn click(&self, token: &str) -> Said {
        self.asked("POST", &format!("t={token}"), ONE_CLICK)
    }
}

/// A world whose `detect` wrote mails with signed links to Ada and Bob.
fn world() -> World {
    let world = World::new()
        .set("mail.unsubscribe", "https://shop.example/unsubscribe?t={unsubscribe}")
        .set("unsubscribe.spool", "spool");
    fs::create_dir(world.path("spool")).unwrap();
    let carts = [Cart::of("c1").email("ada@example.com"), Cart::of("c2").email("bob@example.com")];
    let world = world.carts(carts).init();
    world.ok(["detect"]);
    world
}

/// The token of the newest message to an address.
fn token_of(world: &World, address: &str) -> String {
    let to = |bytes: &[u8]| header(bytes, "To").is_some_and(|to| to.contains(address));
    let (_, message) = world.outbox().into_iter().rfind(|(_, bytes)| to(bytes)).expect("a message to that address");
    let link = header(&message, "List-Unsubscribe").expect("List-Unsubscribe");
    link.split("?t=").nth(1).unwrap().split('>').next().unwrap().to_owned()
}

/// The names in the spool, also those that begin with a dot.
fn spool(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path("spool")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn emptied(world: &World) {
    for name in spool(world) {
        fs::remove_file(world.path("spool").join(name)).unwrap();
    }
}

fn suppressed(world: &World) -> Vec<String> {
    let list = world.ok(["suppress", "list", "--json"]).json()["suppressions"].clone();
    list.as_array().unwrap().iter().map(|row| row["address"].as_str().unwrap().to_owned()).collect()
}

/// Another token of the same form.
fn forged(token: &str) -> String {
    format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' })
}

#[test]
fn a_look_changes_nothing_and_a_click_leaves_one_file_that_takes_its_reader_off() {
    let world = world();
    let clicked = [("ada@example.com", token_of(&world, "ada")), ("bob@example.com", token_of(&world, "bob"))];
    for (n, page) in pages(&world, &USUAL).iter().enumerate() {
        let (address, token) = &clicked[n];
        let query = format!("t={token}");
        for method in ["GET", "HEAD"] {
            let said = page.asked(method, &query, "");
            assert_eq!(said.status, 200, "{} {method}: {}", page.name, said.head);
            assert_eq!(said.body.contains("<form method=\"post\">"), method == "GET", "{}: {}", page.name, said.body);
            assert_eq!(spool(&world), [""; 0], "{} {method}", page.name);
        }
        for _ in 0..2 {
            let said = page.click(token);
            let of = |name| said.header(name);
            assert_eq!((said.status, of("Location"), of("Set-Cookie")), (200, None, None), "{}", page.name);
            assert_eq!(of("Referrer-Policy"), Some("no-referrer"), "{}: {}", page.name, said.head);
            assert_eq!(of("Cache-Control"), Some("no-store"), "{}: {}", page.name, said.head);
            assert!(of("Content-Type").unwrap().starts_with("text/html"), "{}: {}", page.name, said.head);
            assert!(said.body.contains("You are unsubscribed."), "{}: {}", page.name, said.body);
            assert_eq!(spool(&world), [token.as_str()], "{}", page.name);
        }
        let written = fs::read_to_string(world.path("spool").join(token)).unwrap();
        assert!(written.ends_with("Z\n") && written.len() == 21, "{}: {written:?}", page.name);
        world.ok(["detect"]);
        assert_eq!(spool(&world), [""; 0]);
        assert_eq!(suppressed(&world).last(), Some(&(*address).to_owned()));
        // By the button, which sends nothing, and with what a link tracker adds.
        assert_eq!(page.asked("POST", &query, "").status, 200);
        assert_eq!(page.asked("POST", &format!("{query}&utm_source=x&t2=y"), ONE_CLICK).status, 200);
        assert_eq!(spool(&world), [token.as_str()], "{}", page.name);
        emptied(&world);
    }
}

#[test]
fn what_is_neither_a_look_nor_a_click_is_refused() {
    let world = world();
    let query = format!("t={}", token_of(&world, "ada"));
    for page in pages(&world, &USUAL) {
        for method in ["PUT", "DELETE", "OPTIONS", "PATCH"] {
            let said = page.asked(method, &query, "");
            assert!([403, 405].contains(&said.status), "{} {method}: {}", page.name, said.head);
            assert!(!said.body.contains("You are unsubscribed."), "{} {method}: {}", page.name, said.body);
        }
        assert_eq!(spool(&world), [""; 0], "{}", page.name);
    }
    // Where no nginx refuses it before.
    let mut cgi = of_a_page(&in_repository("examples/unsubscribe/unsubscribe.cgi"), &world, &USUAL);
    let said = cgi.env("REQUEST_METHOD", "DELETE").env("QUERY_STRING", &query).stdout(Stdio::piped()).output().unwrap();
    assert!(said.stdout.starts_with(b"Status: 405 "), "{}", String::from_utf8_lossy(&said.stdout));
    assert_eq!(spool(&world), [""; 0]);
}

#[test]
fn a_link_that_is_not_whole_is_not_found_and_leaves_no_file() {
    let world = world();
    let token = token_of(&world, "ada");
    let (signed, mac) = token.split_once('.').unwrap();
    let queries = [
        format!("t={}", &token[..token.len() - 1]),
        format!("t={}", &token[1..]),
        format!("t={}", token.to_uppercase()),
        // Of the right length and characters, and yet no token.
        format!("t={}g{}", &token[..20], &token[21..]),
        format!("t={}.{}g", signed, &mac[1..]),
        format!("t=2{}", &token[1..]),
        format!("t={signed}{mac}"),
        format!("t={signed}{}.{mac}", "0".repeat(20)),
        format!("t={signed}{}.{mac}", "0".repeat(2000)),
        format!("t={token}.{mac}"),
        format!("t={token}%0a"),
        format!("t={token}%00"),
        format!("t={token}/"),
        format!("t=../{token}"),
        format!("t=%2e%2e%2f{token}"),
        format!("t[]={token}"),
        format!("t%5B%5D={token}"),
        format!("T={token}"),
        format!("x={token}&t="),
        "t=../../etc/passwd".into(),
        "t=%2e%2e%2f%2e%2e%2fetc%2fpasswd".into(),
        "t=%2e%2e".into(),
        "t=..".into(),
        "t=$(id)".into(),
        "t=`id`;id".into(),
        "t=".into(),
        "t".into(),
        String::new(),
    ];
    for page in pages(&world, &USUAL) {
        for query in &queries {
            for method in ["GET", "POST"] {
                let said = page.asked(method, query, if method == "POST" { ONE_CLICK } else { "" });
                assert_eq!(said.status, 404, "{} {method} {query}: {}", page.name, said.head);
                assert!(!said.body.contains(&token) && said.body.contains("is not complete"), "{}", said.body);
            }
            assert_eq!(spool(&world), [""; 0], "{} {query}", page.name);
        }
        let outside: Vec<_> = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!outside.iter().any(|name| name.to_string_lossy().contains(&token)), "{outside:?}");
    }
}

#[test]
fn a_forged_link_takes_nobody_off_whichever_page_it_meets() {
    let world = world();
    let (ada, bob) = (token_of(&world, "ada"), token_of(&world, "bob"));
    let mixed = format!("{}{}", &ada[..ada.len() - 20], &bob[bob.len() - 20..]);
    for page in pages(&world, &USUAL) {
        for token in [forged(&ada), mixed.clone()] {
            let said = page.click(&token);
            // Without the keys the CGI cannot tell.
            let (status, files) = if page.name == "PHP" { (404, 0) } else { (200, 1) };
            assert_eq!((said.status, spool(&world).len()), (status, files), "{}", page.name);
            emptied(&world);
        }
        if page.name == "CGI" {
            page.click(&forged(&ada));
            world.exits(1, ["detect"]).says("1 click that no key signed");
            assert_eq!(spool(&world), ["refused"]);
            assert!(world.path("spool/refused").join(forged(&ada)).exists());
            fs::remove_dir_all(world.path("spool/refused")).unwrap();
        }
        world.ok(["detect"]);
        assert_eq!(suppressed(&world), [""; 0]);
    }
}

#[test]
fn without_room_for_the_file_the_page_asks_to_try_again() {
    let world = world();
    let token = token_of(&world, "ada");
    let full = Given { disk_is_full: true, ..USUAL };
    let gone = Given { spool: "nowhere", ..USUAL };
    let no_folder = Given { spool: "shop.db", ..USUAL };
    for (what, given) in [("full", &full), ("gone", &gone), ("a file", &no_folder)] {
        for page in pages(&world, given) {
            let said = page.click(&token);
            assert_eq!(said.status, 503, "{} {what}: {}", page.name, said.head);
            assert!(!said.body.contains("unsubscribed"), "{} {what}: {}", page.name, said.body);
            assert!(!spool(&world).contains(&token), "{} {what}", page.name);
        }
    }
    // One who came before was heard; the second click of two need not be.
    fs::write(world.path("spool").join(&token), "2026-03-01T12:00:00Z\n").unwrap();
    for page in pages(&world, &full) {
        assert_eq!(page.click(&token).status, 200, "{}", page.name);
    }
    fs::remove_file(world.path("spool").join(&token)).unwrap();
    // What was begun counts all the same, a minute later: whoever clicked need not come again.
    let begun = world.path("spool").join(format!(".{token}"));
    assert!(begun.exists());
    world.ok(["detect"]);
    assert_eq!(suppressed(&world), [""; 0]);
    let before = std::time::SystemTime::now() - Duration::from_secs(61);
    File::options().append(true).open(&begun).unwrap().set_modified(before).unwrap();
    world.ok(["detect"]);
    assert_eq!(suppressed(&world), ["ada@example.com"]);
}

#[test]
fn php_that_cannot_verify_turns_nobody_away_and_mailonce_decides() {
    let world = world();
    let keys = world.path("unsubscribe.keys");
    let old = fs::read_to_string(&keys).unwrap();
    fs::write(world.path("old.keys"), &old).unwrap();
    let ada = token_of(&world, "ada");
    // No keys to be read.
    let Some(page) = php(&world, &Given { keys: "nowhere.keys", ..USUAL }) else { return };
    for token in [&ada, &forged(&ada)] {
        assert_eq!(page.click(token).status, 200);
    }
    assert_eq!(page.click(&ada.to_uppercase()).status, 404);
    assert_eq!(spool(&world).len(), 2);
    world.exits(1, ["detect"]).says("1 click that no key signed");
    assert_eq!((suppressed(&world), spool(&world)), (vec!["ada@example.com".to_owned()], vec!["refused".to_owned()]));
    fs::remove_dir_all(world.path("spool/refused")).unwrap();
    // A link of a key that neither the page nor mailonce has any longer.
    world.ok(["unsubscribe", "rotate"]);
    let new = fs::read_to_string(&keys).unwrap();
    world.put(Cart::of("c3").email("cy@example.com"));
    world.ok(["detect"]);
    let cy = token_of(&world, "cy");
    let page = php(&world, &Given { keys: "old.keys", ..USUAL }).unwrap();
    assert_eq!(page.click(&cy).status, 200);
    assert_eq!(page.click(&forged(&ada)).status, 404);
    fs::write(&keys, &old).unwrap();
    world.exits(1, ["detect"]).says("1 click not honoured and kept");
    assert_eq!(spool(&world), [cy.as_str()]);
    fs::write(&keys, &new).unwrap();
    world.ok(["detect"]);
    assert_eq!((suppressed(&world).len(), spool(&world).len()), (2, 0));
}

#[test]
fn many_click_at_once_and_none_is_lost() {
    let world = world();
    let (ada, bob) = (token_of(&world, "ada"), token_of(&world, "bob"));
    for page in pages(&world, &Given { workers: 4, ..USUAL }) {
        thread::scope(|scope| {
            for token in [&ada, &bob, &ada, &bob] {
                let page = &page;
                scope.spawn(move || (0..25).for_each(|_| assert_eq!(page.click(token).status, 200, "{}", page.name)));
            }
        });
        let names = spool(&world);
        let mut both = [ada.clone(), bob.clone()];
        both.sort();
        assert_eq!(names, both, "{}", page.name);
        emptied(&world);
    }
}

#[test]
fn the_block_for_nginx_passes_its_own_check_also_with_its_limits_and_logs_no_token() {
    let world = world();
    let token = token_of(&world, "ada");
    let Some(page) = cgi(&world, &USUAL) else { return };
    assert_eq!(page.click(&token).status, 200);
    assert_eq!(page.asked("GET", &format!("t={token}"), "").status, 200);
    for log in ["access.log", "error.log"] {
        let log = fs::read_to_string(page.folder.join(log)).unwrap_or_default();
        assert!(!log.contains(&token), "{log}");
    }
    // What stands there as a comment, taken in.
    let block = example_block(&page.folder);
    let zone = block.lines().find_map(|line| line.strip_prefix("#   limit_req_zone")).expect("a line to take in");
    let zone = format!("limit_req_zone{zone}");
    let limited = block.replace("# limit_req zone", "limit_req zone");
    assert_ne!(block, limited);
    let text = configuration(&page.folder, free_port(), &limited);
    let text = text.replace("    server {", &format!("    {zone}\n    server {{"));
    fs::write(page.folder.join("nginx.conf"), &text).unwrap();
    let checked = nginx_command(&installed("nginx").unwrap(), &page.folder).arg("-t").output().unwrap();
    assert!(checked.status.success(), "{}\n{text}", String::from_utf8_lossy(&checked.stderr));
}
