"""Plays a scenario to the real binary and to the model, run by run, and says where they differ.

    python3 tests/flows/drive.py --config none --seed 1 [--carts 2000] [--days 31] [--kill 5]

The binary sees a shop in SQLite, its configuration, a mail server on loopback and the instant (`--now`, which a rehearsal
ledger allows). Some runs are killed after a few milliseconds and repeated at the same instant. After each run every message
in the ledger is compared with the model's: its key, state and reason, and while it is planned also from when and until when
it may be tried. At the end the mails that the server took are counted: one for each message that was sent, at most one for
each in doubt, none for the others.

A shopper about whom the two differ is named once, and left out from then on: what follows for them would differ too.
Exit code 1 when anything differed.
"""

import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socketserver
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import promises
import scenario as scenarios
from model import Model, circumstances, fold, instant, text_of

ROOT = pathlib.Path(__file__).resolve().parents[2]
FINAL = ("sent", "skipped", "refused")


# The mail server.


class Mail(socketserver.StreamRequestHandler):
    """One connection; how it answers stands in its server."""

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        try:
            self.talk()
        except (ConnectionError, ValueError, OSError):
            pass  # The client was killed.

    def talk(self):
        if self.server.mood == "away":
            return self.say("421 4.3.2 down for the moment")
        self.say("220 mail.example ready")
        recipient = None
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb in (b"EHLO", b"HELO"):
                self.say("250-mail.example")
                self.say("250-PIPELINING")
                self.say("250-8BITMIME")
                self.say("250 SMTPUTF8")
            elif verb == b"RCPT":
                recipient = re.search(rb"<(.*?)>", line).group(1).decode()
                recipient = recipient if self.answer_for(recipient) else None
            elif verb == b"DATA":
                if recipient is None:
                    self.say("503 5.5.1 no recipient")
                    continue
                self.say("354 go on")
                if not self.take(recipient):
                    return
                recipient = None
            elif verb == b"QUIT":
                return self.say("221 bye")
            else:
                self.say("250 fine")

    def answer_for(self, recipient):
        """Says yes or no to a recipient."""
        mood = self.server.mood
        answer = self.server.mailboxes.get(fold(recipient), "accept") if mood == "accept" else mood
        if answer == "defer":
            self.say("451 4.2.1 later")
        elif answer == "refuse":
            self.say(f"550 5.1.1 <{recipient}>: no such mailbox")
        else:
            self.say("250 fine")
        return answer == "accept"

    def take(self, recipient):
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line.endswith(b"\n"):
                return False
            lines.append(line)
        head = b"".join(lines).split(b"\r\n\r\n")[0].decode(errors="replace")
        message_id = re.search(r"^Message-ID:\s*(<.*?>)", head, re.M | re.I).group(1)
        # Slow while a run is to be killed: before the message is taken, or after.
        time.sleep(self.server.slowness / 2)
        self.server.taken.append((message_id, recipient, head))
        time.sleep(self.server.slowness / 2)
        self.say("250 2.0.0 taken")
        return True


class MailServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Mail)
        self.mood, self.mailboxes, self.taken, self.slowness = "accept", {}, [], 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]


# The shop and the configuration.


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def toml(config):
    """The configuration as TOML: lists of tables as such, everything else in line."""
    lines = [f"{key} = {toml_value(value)}" for key, value in config.items() if not isinstance(value, (dict, list))]
    for name, section in config.items():
        blocks = section if isinstance(section, list) else [section] if isinstance(section, dict) else []
        for block in blocks:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            inner = {key: value for key, value in block.items() if is_table_list(value)}
            lines += [f"{key} = {toml_value(value)}" for key, value in block.items() if key not in inner]
            for key, tables in inner.items():
                for table in tables:
                    lines.append(f"[[{name}.{key}]]")
                    lines += [f"{word} = {toml_value(value)}" for word, value in table.items()]
    return "\n".join(lines) + "\n"


def is_table_list(value):
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


class Shop:
    SCHEMA = """
        CREATE TABLE carts (cart_id TEXT PRIMARY KEY, user_id TEXT, email TEXT, name TEXT, currency TEXT, created_at TEXT,
            updated_at TEXT, recovery_url TEXT, consent INTEGER, timezone TEXT);
        CREATE INDEX carts_updated_at ON carts (updated_at);
        CREATE TABLE cart_items (cart_id TEXT, sku TEXT, name TEXT, quantity INTEGER, unit_price TEXT, image_url TEXT, url TEXT);
        CREATE INDEX cart_items_cart_id ON cart_items (cart_id);
        CREATE TABLE orders (order_id TEXT PRIMARY KEY, cart_id TEXT, email TEXT, created_at TEXT);
        CREATE INDEX orders_cart_id ON orders (cart_id);
        CREATE INDEX orders_email ON orders (email);
        CREATE INDEX orders_created_at ON orders (created_at);"""

    def __init__(self, folder):
        self.path, self.away = folder / "shop.sqlite", folder / "shop.away"
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.database.executescript("PRAGMA synchronous = OFF;" + self.SCHEMA)
        self.orders = 0

    def put(self, event, cart):
        """A cart as the model has it now."""
        at = text_of(cart.created_at), text_of(cart.touched_at)
        pieces = sum(cart.items.values())
        price = f"{cart.value // pieces}.00" if pieces and cart.value is not None else "9.00"
        self.database.execute("BEGIN")
        self.database.execute("DELETE FROM cart_items WHERE cart_id = ?", (cart.cart_id,))
        self.database.execute(
            "INSERT OR REPLACE INTO carts VALUES (?, ?, ?, 'Ada', ?, ?, ?, ?, ?, ?)",
            (cart.cart_id, cart.user_id, cart.email, cart.currency, *at,
             f"https://shop.example/cart/{cart.cart_id}", int(cart.consent), cart.timezone),
        )
        self.database.executemany(
            "INSERT INTO cart_items VALUES (?, ?, ?, ?, ?, NULL, NULL)",
            [(cart.cart_id, sku, f"Thing {sku}", number, price) for sku, number in cart.items.items()],
        )
        self.database.execute("COMMIT")

    def delete(self, cart_id):
        self.database.execute("DELETE FROM cart_items WHERE cart_id = ?", (cart_id,))
        self.database.execute("DELETE FROM carts WHERE cart_id = ?", (cart_id,))

    def order(self, event):
        self.orders += 1
        row = (f"o{self.orders}", event.get("cart_id"), event.get("email"), event["at"])
        self.database.execute("INSERT INTO orders VALUES (?, ?, ?, ?)", row)

    def be(self, answers):
        """Whether the shop answers; if not, something else lies in its place."""
        if answers and self.away.exists():
            self.away.rename(self.path)
        elif not answers and not self.away.exists():
            self.path.rename(self.away)
            self.path.write_text("The shop is being moved, and will be back soon.")


# The comparison.


class Drive:
    def __init__(self, scenario, binary, folder, kill_percent, edge_percent, verbose, moves_in_look=True):
        self.scenario, self.binary, self.folder, self.verbose = scenario, binary, folder, verbose
        self.random = random.Random(scenario["seed"])
        self.kill_percent, self.edge_percent = kill_percent, edge_percent
        self.position, self.usual_run = 0, 0.05
        self.model = Model(scenario, moves_in_look)
        self.server = MailServer()
        self.shop = Shop(folder)
        self.write_config()
        self.open_ids, self.last_id, self.lines = set(), 0, {}
        self.by_key = {}
        self.model_rows = 0
        self.differences, self.strayed = [], set()
        self.counts = collections.Counter()
        self.mailonce(scenario["start"], "init", "--rehearsal")
        connection = self.ledger()
        has = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'coupon_code'")
        self.has_coupons = has.fetchone()[0] == 1
        connection.close()

    def write_config(self):
        config = json.loads(json.dumps(self.model.raw_config))
        detect = config.setdefault("detect", {})
        detect.setdefault("max_per_run", 1_000_000)
        for limits in ("min_value", "max_value"):
            if limits in detect:
                detect[limits] = {currency: f"{value}.00" for currency, value in detect[limits].items()}
        if not detect.get("step"):
            detect.pop("step", None)
        for step in detect.get("step", []):
            step.setdefault("subject", f"Your cart ({step['name']})")
        config = {
            "ledger": "mailonce.db",
            **config,
            "shop": {"name": "Example Shop", "url": "https://shop.example", **config.get("shop", {})},
            "source": {"kind": "sqlite", "path": "shop.sqlite"},
            "mail": {"from": "Example Shop <hello@shop.example>", "transport": "smtp"},
            "mail.smtp": {"host": "127.0.0.1", "port": self.server.port, "tls": "none", "connections": 1},
        }
        temporary = self.folder / "mailonce.toml.new"
        temporary.write_text(toml(config))
        temporary.rename(self.folder / "mailonce.toml")

    def mailonce(self, now, *arguments, allowed=(0,)):
        environment = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [self.binary, *arguments, "--now", now], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        if done.returncode not in allowed:
            raise SystemExit(f"{now}: mailonce {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def kill_one(self, now):
        """A run that is killed after some milliseconds; it may have ended before."""
        environment = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        child = subprocess.Popen(
            [self.binary, "detect", "--now", now], cwd=self.folder, env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.server.slowness = self.random.choice((0, 0.05))
        time.sleep(self.random.random() * self.usual_run * 1.2)
        child.send_signal(signal.SIGKILL)
        self.counts["killed"] += child.wait() == -signal.SIGKILL
        self.server.slowness = 0

    # What happens in the shop.

    def apply(self, event):
        self.model.apply(event)
        kind = event["type"]
        if kind == "cart":
            self.shop.put(event, self.model.carts[event["cart_id"]])
        elif kind == "delete":
            self.shop.delete(event["cart_id"])
        elif kind == "order":
            self.shop.order(event)
        elif kind == "mailbox":
            self.server.mailboxes[fold(event["email"])] = event["answer"]
        elif kind == "config":
            self.write_config()
        elif kind == "suppress":
            self.mailonce(event["at"], "suppress", "add", event["email"])
        elif kind == "unsuppress":
            self.mailonce(event["at"], "suppress", "remove", event["email"])
        elif kind == "coupons":
            self.import_codes(event)

    def import_codes(self, event):
        path = self.folder / "codes.csv"
        path.write_text("code,expires_at\n" + "".join(f"{code},{end or ''}\n" for code, end in event["codes"]))
        self.mailonce(event["at"], "coupon", "import", event["pool"], str(path))

    # A run of both.

    def play(self):
        began, before = time.monotonic(), self.scenario["start"]
        for run in self.scenario["runs"]:
            for edge in self.edges(before, run):
                self.go_to(edge)
            self.go_to(run)
            before = run
            if self.verbose and self.counts["runs"] % 200 < 2:
                print(f"{run}: {self.counts['runs']} runs, {self.last_id} messages, {len(self.differences)} differ,"
                      f" {time.monotonic() - began:.0f} s", file=sys.stderr)
        self.shop.be(True)
        self.compare_mails()
        self.look_at_promises()
        self.mailonce(self.scenario["runs"][-1], "audit")

    def go_to(self, run):
        """What happens until then, and the run."""
        events = self.scenario["events"]
        while self.position < len(events) and events[self.position]["at"] <= run:
            self.shop.be(True)
            self.apply(events[self.position])
            self.position += 1
        self.run(run)

    def edges(self, before, run):
        """Some of the instants in between at which something is due to the second, and the second before each."""
        chosen = set()
        for at in self.model.instants(instant(before), instant(run)):
            if self.random.random() * 100 < self.edge_percent:
                chosen |= {at - 1, at}
        return [text_of(at) for at in sorted(chosen) if instant(before) < at < instant(run)]

    def run(self, run):
        self.counts["runs"] += 1
        how = circumstances(self.scenario, run)
        self.shop.be(how["shop_answers"])
        self.server.mood = how["server"]
        was_killed = self.random.random() * 100 < self.kill_percent
        if was_killed:
            self.kill_one(run)
        began = time.monotonic()
        done = self.mailonce(run, "detect", allowed=(0, 1) if how["shop_answers"] else (1, 78))
        # So that kills fall anywhere in a run, however fast the machine is.
        self.usual_run = 0.8 * self.usual_run + 0.2 * (time.monotonic() - began)
        self.counts[f"exit {done.returncode}"] += 1
        self.model.run(instant(run), **how)
        self.compare(run, was_killed, done)

    def ledger(self):
        connection = sqlite3.connect(f"file:{self.folder}/mailonce.db?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        return connection

    def changed_lines(self):
        """The messages that are new, or could have moved."""
        connection = self.ledger()
        try:
            ids = ",".join(map(str, self.open_ids))
            code = "(SELECT code FROM coupon_code AS c WHERE c.message = m.id)" if self.has_coupons else "NULL"
            lines = connection.execute(
                f"SELECT *, {code} AS coupon FROM message AS m WHERE id > {self.last_id} OR id IN ({ids})"
            ).fetchall()
        finally:
            connection.close()
        for line in lines:
            self.last_id = max(self.last_id, line["id"])
            (self.open_ids.discard if line["state"] in FINAL else self.open_ids.add)(line["id"])
            self.lines[line["message_key"]] = line
        return {line["message_key"]: line for line in lines}

    def compare(self, run, was_killed, done):
        lines = self.changed_lines()
        for row in self.model.rows[self.model_rows :]:
            self.by_key[row.key] = row
        fresh = {row.key for row in self.model.rows[self.model_rows :]}
        self.model_rows = len(self.model.rows)
        moved = fresh | {row.key for row in self.model.moved} | {row.key for row in self.model.planned()}
        for key in sorted(lines.keys() | moved):
            self.compare_one(run, key, self.lines.get(key), self.by_key.get(key), was_killed, done)

    def compare_one(self, run, key, line, row, was_killed, done):
        address = line["folded_address"] if line is not None else row.address
        if address in self.strayed:
            return
        if line is not None and row is not None:
            if was_killed and line["state"] == "in_doubt" and row.state == "sent" and row.armed_at == instant(run):
                self.model.doubt(row)
                self.counts["in doubt by a kill"] += 1
                return
            if self.server.mood == "away" and line["state"] == row.state == "planned":
                # One message meets the closed door. Which: a run that was killed may have met it with another, and so may
                # one for which a shopper who is left out was first.
                row.not_before = instant(line["not_before"])
            if line["state"] == "planned" and row.moved_at == instant(run) == instant(line["not_before"]):
                self.model.not_yet(row)
            if self.strayed and line["coupon"] and row.code and line["coupon"] != row.code.code:
                self.model.exchange(row, line["coupon"])
            if self.told(line) == self.of_model(row):
                return
            return self.stray(run, key, address, self.told(line), self.of_model(row), done)
        told = self.told(line) if line is not None else "nothing"
        self.stray(run, key, address, told, self.of_model(row) if row else "nothing", done)

    @staticmethod
    def told(line):
        """A message of the ledger, as far as it is compared."""
        words = [line["state"] if line["reason"] is None else f"skipped {line['reason']}", line["cart_id"]]
        if line["state"] == "planned":
            words += [f"from {line['not_before']}", f"until {line['expires_at']}", f"touched {line['cart_touched_at']}"]
        elif line["armed_at"]:
            words.append(f"armed {line['armed_at']}")
        else:
            words.append(f"settled {line['settled_at']}")
        if "step" in line.keys():
            words.append(f"step {line['step']} code {line['coupon']}")
        return " ".join(words)

    def of_model(self, row):
        words = [row.state if row.reason is None else f"skipped {row.reason}", row.cart_id]
        if row.state == "planned":
            words += [f"from {text_of(row.not_before)}", f"until {text_of(row.expires_at)}", f"touched {text_of(row.touched_at)}"]
        elif row.armed_at:
            words.append(f"armed {text_of(row.armed_at)}")
        else:
            words.append(f"settled {text_of(row.settled_at)}")
        if self.lines and "step" in next(iter(self.lines.values())).keys():
            words.append(f"step {row.step} code {row.code.code if row.code else None}")
        return " ".join(words)

    def stray(self, run, key, address, binary, model, done):
        self.strayed.add(address)
        self.differences.append((run, key, binary, model))
        print(f"{run} {key}\n  mailonce: {binary}\n  model:    {model}")
        if self.verbose:
            print("".join(f"  | {line}\n" for line in done.stderr.splitlines()[:5]), end="")
            self.tell_story(address)

    def tell_story(self, address):
        for event in self.scenario["events"]:
            if fold(event.get("email", "")) == address or event.get("cart_id") in self.carts_of(address):
                print("    ", json.dumps({k: v for k, v in event.items() if k not in ("currency", "timezone")}))

    def carts_of(self, address):
        events = self.scenario["events"]
        return {event["cart_id"] for event in events if event["type"] == "cart" and fold(event["email"]) == address}

    def compare_mails(self):
        """One mail for each that was sent, none twice, none of what was not."""
        taken = collections.Counter(message_id for message_id, _, _ in self.server.taken)
        recipients = {message_id: recipient for message_id, recipient, _ in self.server.taken}
        connection = self.ledger()
        for line in connection.execute("SELECT * FROM message"):
            message_id = line["message_id"]
            message_id = message_id if message_id.startswith("<") else f"<{message_id}>"
            mails, state = taken.pop(message_id, 0), line["state"]
            if mails > 1 or (state == "sent") != (mails == 1) and state != "in_doubt":
                self.differences.append((message_id, state, mails))
                print(f"{line['message_key']}: {state}, and {mails} mails of it were taken")
            elif mails and fold(recipients[message_id]) != line["folded_address"]:
                self.differences.append((message_id, recipients[message_id]))
                print(f"{line['message_key']}: taken for {recipients[message_id]}")
            step = line["step"] if "step" in line.keys() else None
            self.counts[(step or "cart", state if line["reason"] is None else line["reason"])] += 1
        for message_id, mails in taken.items():
            self.differences.append((message_id, mails))
            print(f"{message_id}: {mails} mails of no message in the ledger")
        connection.close()

    def look_at_promises(self):
        connection = self.ledger()
        lines = [dict(line) for line in connection.execute(
            "SELECT *, EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND armed_at IS NOT NULL) AS was_armed"
            " FROM message AS m WHERE kind = 'cart'")]
        codes = []
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'coupon_code'").fetchone():
            codes = [dict(code) for code in connection.execute("SELECT * FROM coupon_code")]
        connection.close()
        for line in promises.broken(self.scenario, lines, codes):
            self.differences.append((line,))
            print(f"broken: {line}")


def main():
    arguments = scenarios.parser()
    arguments.description = __doc__.splitlines()[0]
    arguments.add_argument("--binary", default=str(ROOT / "target/debug/mailonce"))
    arguments.add_argument("--kill", type=float, default=5, help="per cent of the runs that are killed and repeated")
    arguments.add_argument("--edges", type=float, default=2, help="per cent of the instants to the second that get two runs")
    arguments.add_argument("--moves-late", action="store_true", help="a touch moves a waiting step only when that comes up")
    arguments.add_argument("--scenario", help="a file to play, instead of one made by seed")
    arguments.add_argument("--keep", help="a folder that is kept, for a look at the ledger")
    arguments.add_argument("--verbose", action="store_true")
    given = arguments.parse_args()
    if given.scenario:
        scenario = json.loads(pathlib.Path(given.scenario).read_text())
    else:
        scenario = scenarios.month(given.seed, given.carts, given.days, given.config, given.every, given.one_zone)
    # In memory, if there is room: a run is over in a few milliseconds then.
    memory = pathlib.Path("/dev/shm")
    folder = pathlib.Path(given.keep or tempfile.mkdtemp(prefix="mailonce-flows-", dir=memory if memory.is_dir() else None))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        drive = Drive(scenario, os.path.abspath(given.binary), folder, given.kill, given.edges, given.verbose, not given.moves_late)
        drive.play()
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)
    for what, number in sorted(drive.counts.items(), key=str):
        print(f"{number:6} {what if isinstance(what, str) else ' '.join(what)}")
    print(f"{drive.last_id} messages, {len(drive.differences)} differences")
    sys.exit(1 if drive.differences else 0)


if __name__ == "__main__":
    main()
