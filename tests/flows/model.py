"""What mailonce must decide about carts, as a second, independent program.

It was written from the rules that docs/ gives, never from the Rust code, so that a slip in one of the two
shows as a difference (`drive.py` compares them run by run). It knows nothing of SMTP, files or SQL: only what is due, when,
and why not.

Instants are whole seconds of Unix time. A scenario is a dictionary; `scenario.py` makes one and says what it holds.
"""

import bisect
import hashlib
import json
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

HOUR = 3600
DAY = 24 * HOUR
# Two bodies to one address, as soon as there are steps.
LEAST_GAP = HOUR
LONGEST_WAIT = HOUR
GONE_AFTER = HOUR
MOST_BEFORE_AN_ORDER = 30 * DAY

# What a row is while it may still be sent; what counts as sent; what ends an episode.
OPEN = ("planned", "armed")
COUNTS_AS_SENT = ("armed", "sent", "in_doubt")
ENDING = ("ordered", "changed", "empty", "superseded", "suppressed", "cancelled", "holdout", "held_back")
BLOCKING = ("suppressed", "cancelled", "held_back", "holdout")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def instant(text):
    """Unix time of `2026-10-10T00:00:00Z`."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp())


def text_of(at):
    """The reverse of `instant`."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(text):
    """Seconds of `90s`, `60m`, `24h`, `5d`, or several of them."""
    seconds, number = 0, ""
    for sign in text:
        if sign.isdigit():
            number += sign
        elif not sign.isspace():
            seconds += int(number) * {"s": 1, "m": 60, "h": HOUR, "d": DAY}[sign]
            number = ""
    if number:
        raise ValueError(f"a span without a unit: {text}")
    return seconds


def cap(text):
    """`1 in 20h` as (1, 72000)."""
    number, _, length = text.partition(" in ")
    return int(number), span(length)


def fold(email):
    return email.strip().lower()


def identity_of(user_id, email):
    return f"u:{user_id}" if user_id else f"e:{fold(email)}"


def contents_hash(items):
    """`v1:` and SHA-256 over SKU and pieces, by SKU; each text behind its length."""
    digest = hashlib.sha256()
    for sku in sorted(items, key=lambda sku: sku.encode()):
        name = sku.encode()
        digest.update(len(name).to_bytes(8, "big") + name + items[sku].to_bytes(8, "big"))
    return "v1:" + digest.hexdigest()


def first_eight_bytes(*parts):
    return int.from_bytes(hashlib.sha256("".join(parts).encode()).digest()[:8], "big")


def is_held_out(salt, percent, address):
    """Whether an address is in the holdout; `percent` as text or whole number, compared without rounding."""
    hundredths = round(float(percent) * 10000)
    return first_eight_bytes("holdout\0", str(salt) + "\0", address) * 1_000_000 < hundredths * 2**64


# Send windows.


def local_edge(zone, day, minute, comes_twice):
    """The instant of a wall time; one that is skipped is the first instant after, of one that comes twice the `first` or
    the `last`."""
    wall = datetime(day.year, day.month, day.day) + timedelta(minutes=minute)
    first, last = (int(wall.replace(tzinfo=zone, fold=fold_).timestamp()) for fold_ in (0, 1))
    back = datetime.fromtimestamp(first, zone).replace(tzinfo=None)
    if back != wall:
        # In the gap: with fold=0 the offset before it counts, with fold=1 the one after. The change lies between.
        low, high = min(first, last), max(first, last)
        offset = datetime.fromtimestamp(low, zone).utcoffset()
        while low + 1 < high:
            middle = (low + high) // 2
            if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
                low = middle
            else:
                high = middle
        return high
    return first if comes_twice == "first" else last


class SendWindow:
    def __init__(self, block):
        begin, end = block["hours"].split("-")
        self.begin, self.end = self.minutes(begin), self.minutes(end)
        if self.begin == self.end:
            raise ValueError("a window of no length")
        self.days = set(block.get("days") or WEEKDAYS)
        self.spread = span(block["spread"]) if block.get("spread") else 0
        self.known = {}

    @staticmethod
    def minutes(wall):
        hours, _, minutes = wall.strip().partition(":")
        return int(hours) * 60 + int(minutes)

    def of_day(self, zone, day):
        """What is open from a local day on, as (opening, closing); closed days have nothing."""
        key = (zone.key, day)
        if key not in self.known:
            interval = None
            if WEEKDAYS[day.weekday()] in self.days:
                closing_day = day + timedelta(days=1) if self.end < self.begin else day
                opens = local_edge(zone, day, self.begin, "first")
                closes = local_edge(zone, closing_day, self.end, "last")
                interval = (opens, closes) if opens < closes else None
            self.known[key] = interval
        return self.known[key]

    def intervals(self, zone, at):
        """What is open around and after an instant, in order."""
        day = datetime.fromtimestamp(at, zone).date() - timedelta(days=2)
        for _ in range(20):
            interval = self.of_day(zone, day)
            if interval:
                yield interval
            day += timedelta(days=1)

    def next_open(self, zone, at, key):
        """`at` itself while it is open; else the next opening, and a share of the spread that the key decides."""
        for opens, closes in self.intervals(zone, at):
            if closes <= at:
                continue
            if opens <= at:
                return at
            length = min(self.spread, closes - opens)
            return opens + (first_eight_bytes("spread\0", key) % length if length else 0)
        raise ValueError("a window that never opens")


# The configuration.


class Step:
    def __init__(self, block):
        self.name = block["name"]
        self.after = span(block["after"])
        self.until = span(block["until"]) if block.get("until") else None
        self.coupon = block.get("coupon")


class Pool:
    def __init__(self, block):
        self.name = block["name"]
        self.min_validity = span(block.get("min_validity", "0s"))
        self.per_person = span(block["per_person"]) if block.get("per_person") else 0
        self.when_empty = block.get("when_empty", "wait")


class Config:
    def __init__(self, block):
        detect = block.get("detect", {})
        self.idle = span(detect.get("idle", "60m"))
        self.max_age = span(detect.get("max_age", "72h"))
        self.window = span(detect.get("window", "24h"))
        self.retry_after = span(detect.get("retry_after", "2m"))
        self.max_per_cart = detect.get("max_per_cart", 3)
        self.since = instant(detect["since"]) if detect.get("since") else None
        self.min_value = {currency: int(value) for currency, value in detect.get("min_value", {}).items()}
        self.max_value = {currency: int(value) for currency, value in detect.get("max_value", {}).items()}
        self.steps = sorted((Step(step) for step in detect.get("step", [])), key=lambda step: step.after)
        self.zone = ZoneInfo(block.get("shop", {}).get("timezone", "UTC"))
        self.send_window = SendWindow(block["send_window"]) if block.get("send_window") else None
        caps = block.get("caps", {})
        self.caps = [cap(text) for text in caps.get("per_person", [])]
        self.quiet = span(caps["quiet_after_order"]) if caps.get("quiet_after_order") else 0
        self.holdout = block.get("holdout")
        self.pools = {pool["name"]: Pool(pool) for pool in block.get("coupon", [])}

    def step_named(self, name):
        return next((step for step in self.steps if step.name == name), None)


def merged(config, patch):
    """The configuration with whole sections, or with keys of [detect], replaced; None takes one away."""
    result = {**config, "detect": dict(config.get("detect", {}))}
    for section, value in patch.items():
        if section == "detect":
            for key, inner in value.items():
                result["detect"].pop(key, None)
                if inner is not None:
                    result["detect"][key] = inner
        elif value is None:
            result.pop(section, None)
        else:
            result[section] = value
    return result


# What there is.


class Cart:
    def __init__(self, event, at, before):
        self.cart_id = event["cart_id"]
        self.user_id = event.get("user_id")
        self.email = event["email"]
        self.address = fold(event["email"])
        self.identity = identity_of(self.user_id, self.email)
        self.items = dict(event["items"])
        self.hash = contents_hash(self.items)
        self.value = event.get("value")
        self.currency = event.get("currency", "EUR")
        self.timezone = event.get("timezone")
        self.consent = event.get("consent", True)
        self.created_at = before.created_at if before else at
        self.touched_at = at


class Row:
    """A message."""

    def __init__(self, episode, step, step_after, cart, now, state, reason=None):
        self.episode, self.step, self.step_after = episode, step, step_after
        self.identity, self.address = cart.identity, cart.address
        self.cart_id, self.hash, self.touched_at = cart.cart_id, cart.hash, cart.touched_at
        self.planned_at = self.not_before = now
        self.expires_at = None
        self.state, self.reason = state, reason
        self.armed_at = None
        self.settled_at = now if state == "skipped" else None
        self.deferrals = 0
        self.missing_since = None
        self.code = None
        self.was_armed = False
        self.moved_at = None
        self.number = 0

    @property
    def key(self):
        later = "" if self.episode.rows[0] is self else f"/{self.step}"
        return self.episode.key + later

    @property
    def blocking_at(self):
        at = self.armed_at or 0
        if self.state == "refused" or self.reason in BLOCKING:
            at = max(at, self.settled_at)
        return at

    @property
    def counts(self):
        """Whether it is an occasion on which the person was, will be or would have been written to."""
        return self.state in OPEN or self.state in COUNTS_AS_SENT or self.reason == "holdout"


class Episode:
    def __init__(self, cart, created_at):
        self.identity, self.hash, self.created_at = cart.identity, cart.hash, created_at
        self.rows = []

    @property
    def key(self):
        return f"cart/{self.identity}/{self.hash}/{text_of(self.created_at)}"

    @property
    def open_row(self):
        return next((row for row in self.rows if row.state in OPEN), None)

    def ending_row(self, config):
        """The row that ended it, if one did. A step taken out of the configuration ends nothing."""
        for row in self.rows:
            if row.state == "refused":
                return row
            is_edit = row.reason == "cancelled" and row.step is not None and not config.step_named(row.step)
            if row.state == "skipped" and row.reason in ENDING and not is_edit:
                return row
        return None

    @property
    def last_heard(self):
        """When it was last armed or decided about; None while it only waits."""
        return max((row.armed_at or row.settled_at for row in self.rows if row.armed_at or row.settled_at), default=None)

    @property
    def last_armed(self):
        return next((row for row in reversed(self.rows) if row.state in COUNTS_AS_SENT), None)


class Code:
    def __init__(self, pool, code, expires_at):
        self.pool, self.code, self.expires_at = pool, code, expires_at
        self.row, self.claimed_at = None, None


class Model:
    """The shop, the ledger and the rules. `apply` takes events in the order of time, `run` is one `mailonce detect`.

    `moves_in_look`: a waiting step moves with a touch as soon as a run reads the cart; else only when it comes up for
    sending.
    """

    def __init__(self, scenario, moves_in_look=True):
        self.moves_in_look = moves_in_look
        self.raw_config = scenario["config"]
        self.config = Config(self.raw_config)
        self.born_at = instant(scenario["start"])
        self.carts, self.suppressed = {}, set()
        self.ordered_carts, self.ordered_by = set(), {}
        self.mailboxes = {}
        self.rows = []
        self.by_identity, self.by_address, self.of_cart, self.to_address = {}, {}, {}, {}
        self.seconds_taken = set()
        self.waiting = []
        self.armings = {}
        self.codes = {}
        self.touched = []  # (touched_at, cart_id), sorted: carts by time, stale ones included.
        self.decisions = []
        self.now = None

    # Events.

    def apply(self, event):
        getattr(self, "on_" + event["type"])(event, instant(event["at"]))

    def on_cart(self, event, at):
        cart = Cart(event, at, self.carts.get(event["cart_id"]))
        self.carts[cart.cart_id] = cart
        bisect.insort(self.touched, (at, cart.cart_id))

    def on_delete(self, event, at):
        self.carts.pop(event["cart_id"], None)

    def on_order(self, event, at):
        if event.get("cart_id"):
            self.ordered_carts.add(event["cart_id"])
        if event.get("email"):
            self.ordered_by.setdefault(fold(event["email"]), []).append(at)

    def on_suppress(self, event, at):
        self.suppressed.add(fold(event["email"]))

    def on_unsuppress(self, event, at):
        self.suppressed.discard(fold(event["email"]))

    def on_config(self, event, at):
        self.raw_config = merged(self.raw_config, event["set"])
        self.config = Config(self.raw_config)

    def on_mailbox(self, event, at):
        """How the server answers for one address from now on: accept, defer, refuse or doubt."""
        self.mailboxes[fold(event["email"])] = event["answer"]

    def on_campaign_mail(self, event, at):
        """A campaign's body to this address; it counts in the caps."""
        self.armings.setdefault(fold(event["email"]), []).append((at, None))

    def on_coupons(self, event, at):
        for code, expires_at in event["codes"]:
            folded = code.strip().upper()
            if folded not in self.codes:
                self.codes[folded] = Code(event["pool"], code.strip(), instant(expires_at) if expires_at else None)

    # One run.

    def run(self, now, shop_answers=True, server="accept"):
        """One `detect`; returns the rows that it moved. `server` is accept, defer or away."""
        self.now = now
        self.moved = []
        for row in [row for row in self.planned() if row.expires_at <= now]:
            self.skip(row, "expired")
        if shop_answers:
            self.look()
            self.deliver(server)
        return self.moved

    def planned(self):
        self.waiting = [row for row in self.waiting if row.state == "planned"]
        return self.waiting

    def note(self, row):
        self.moved.append(row)
        what = row.state if row.reason is None else f"skipped {row.reason}"
        self.decisions.append({
            "at": text_of(self.now), "identity": row.identity, "cart_id": row.cart_id, "hash": row.hash,
            "episode": text_of(row.episode.created_at), "step": row.step, "what": what,
            "coupon": row.code.code if row.code else None,
        })

    def skip(self, row, reason):
        row.state, row.reason, row.settled_at = "skipped", reason, self.now
        self.free(row)
        self.note(row)

    # Looking at the shop.

    def in_reach(self):
        """Idle carts that were touched late enough, and those at which someone is just now; touched last first."""
        config, now = self.config, self.now
        oldest = now - config.max_age + 1
        since = self.born_at if config.since is None else config.since
        begin = bisect.bisect_left(self.touched, (max(oldest, since), ""))
        idle, busy = [], []
        for touched_at, cart_id in reversed(self.touched[begin:]):
            cart = self.carts.get(cart_id)
            if cart is None or cart.touched_at != touched_at or self.is_left_out(cart):
                continue
            (busy if now - touched_at < config.idle else idle).append(cart)
        return idle, busy

    def is_left_out(self, cart):
        if not cart.items or not cart.consent or self.is_ordered(cart):
            return True
        least, most = self.config.min_value.get(cart.currency), self.config.max_value.get(cart.currency)
        value = cart.value or 0
        return (least is not None and value < least) or (most is not None and value > most)

    def is_ordered(self, cart, episode=None):
        since = cart.created_at
        if episode is not None and self.config.steps:
            since = min(since, episode.created_at - self.config.idle)
        since = max(since, cart.touched_at - MOST_BEFORE_AN_ORDER)
        return self.has_ordered(cart.cart_id, cart.address, since)

    def has_ordered(self, cart_id, address, since):
        return cart_id in self.ordered_carts or any(at >= since for at in self.ordered_by.get(address, []))

    def is_quiet(self, cart):
        quiet_since = self.now - self.config.quiet
        return bool(self.config.quiet) and any(at > quiet_since for at in self.ordered_by.get(cart.address, []))

    def rows_of(self, cart):
        """Every message of this person, by identity or address, with these contents; in the order of their making."""
        found = {id(row): row for row in self.by_identity.get((cart.identity, cart.hash), [])}
        found.update((id(row), row) for row in self.by_address.get((cart.address, cart.hash), []))
        return sorted(found.values(), key=lambda row: row.number)

    def look(self):
        idle, busy = self.in_reach()
        self.busy_at = {}
        for cart in busy:
            self.busy_at.setdefault(cart.address, set()).add(cart.cart_id)
            self.busy_at.setdefault(cart.identity, set()).add(cart.cart_id)
        # What is to be written: (cart, episode or None, [(step, what)]), and whom it is about.
        self.chosen, seen, to_write = {}, {}, []
        self.flowing = {}
        for cart in idle:
            twins = seen.setdefault(cart.identity, set()), seen.setdefault(cart.address, set())
            is_twin = any(cart.hash in hashes for hashes in twins)
            for hashes in twins:
                hashes.add(cart.hash)
            if self.config.steps:
                if is_twin:
                    continue
                decided = self.decide_step(cart)
            else:
                decided = self.decide_single(cart)
            if decided:
                to_write.append((cart, *decided))
        for cart, episode, decisions in reversed(to_write):
            self.write(cart, episode, decisions)

    def is_busy(self, cart_id, identity, address):
        return any(self.busy_at.get(name, set()) - {cart_id} for name in (identity, address))

    # Without steps: one message for each abandonment.

    def decide_single(self, cart):
        rows = self.rows_of(cart)
        if self.is_blocked(cart, rows):
            return None
        same = {(cart.identity, cart.hash), (cart.address, cart.hash)}
        if same & self.chosen.keys():
            return None
        chosen_other = self.chosen.get(cart.address)
        if not chosen_other and self.is_busy(cart.cart_id, cart.identity, cart.address):
            return None
        later_planned = any(
            row.address == cart.address and row.cart_id != cart.cart_id and row.touched_at >= cart.touched_at
            for row in self.planned()
        )
        if chosen_other or later_planned:
            return None, [(None, "superseded")]
        if self.is_ordered(cart) or self.is_quiet(cart):
            return None
        self.choose(cart)
        if self.holds_out(cart):
            return None, [(None, "holdout")]
        return None, [(None, "plan")]

    def choose(self, cart):
        for key in ((cart.identity, cart.hash), (cart.address, cart.hash), cart.address):
            self.chosen[key] = cart

    def is_blocked(self, cart, rows, apart_from=None):
        """Whether no new episode may begin: by the window, an open or doubtful message, the limit, the suppression."""
        if any(row.state in OPEN and row is not apart_from for row in rows) or any(row.state == "in_doubt" for row in rows):
            return True
        if any(row.blocking_at > self.now - self.config.window for row in rows):
            return True
        about = self.of_cart.get(cart.cart_id, [])
        for row in about:
            if row.touched_at >= cart.touched_at and (
                row.reason in ("ordered", "superseded") or (row.reason == "changed" and row.hash != cart.hash)
            ):
                return True
        episodes = {
            id(row.episode) for row in about
            if row.counts and row is not apart_from and (row.identity == cart.identity or row.address == cart.address)
        }
        return len(episodes) >= self.config.max_per_cart or cart.address in self.suppressed

    def holds_out(self, cart):
        holdout = self.config.holdout
        return bool(holdout) and "cart" in holdout.get("kinds", ["cart"]) and is_held_out(
            holdout.get("salt", ""), holdout["percent"], cart.address
        )

    # With steps.

    def episode_of(self, cart, rows):
        """The episode that goes on with this cart, or None when a new one would begin; and whether it may."""
        if not rows:
            return None, True
        episode = rows[-1].episode
        ending = episode.ending_row(self.config)
        if ending is not None:
            return (None, True) if cart.touched_at > ending.touched_at else (episode, False)
        heard = episode.last_heard
        if heard is not None and cart.touched_at > heard + self.config.window:
            return None, True
        return episode, True

    def next_step(self, episode):
        """The first step in order that the episode lacks and that lies behind all it has."""
        steps = self.config.steps
        if episode is None:
            return steps[0]
        names = {row.step if row.step is not None else steps[0].name for row in episode.rows}
        farthest = max(row.step_after if row.step is not None else steps[0].after for row in episode.rows)
        return next((step for step in steps if step.name not in names and step.after > farthest), None)

    def step_after(self, row):
        return row.step_after if row.step is not None else (self.config.steps[0].after if self.config.steps else 0)

    def due_at(self, episode, after, touched_at, apart_from=None):
        """When a step is due: its time since the touch, and its whole distance from the step that went before it."""
        due = touched_at + after
        armed = [row for row in episode.rows if row.state in COUNTS_AS_SENT and row is not apart_from] if episode else []
        if armed:
            due = max(due, armed[-1].armed_at + after - self.step_after(armed[-1]))
        return due

    def limit_of(self, step, touched_at):
        until = step.until if step and step.until is not None else self.config.max_age
        return touched_at + min(until, self.config.max_age)

    def opening(self, at, cart, key):
        window = self.config.send_window
        if window is None:
            return at
        return window.next_open(self.zone_of(cart), at, key)

    def zone_of(self, cart):
        try:
            return ZoneInfo(cart.timezone) if cart.timezone else self.config.zone
        except (ZoneInfoNotFoundError, ValueError):
            return self.config.zone

    def key_of(self, cart, episode, step):
        if episode is not None:
            return f"{episode.key}/{step.name}"
        return f"cart/{cart.identity}/{cart.hash}/{text_of(self.free_second(cart))}"

    def free_second(self, cart):
        at = self.now
        while (cart.identity, cart.hash, at) in self.seconds_taken:
            at += 1
        return at

    def decide_step(self, cart):
        rows = self.rows_of(cart)
        open_row = next((row for row in rows if row.state in OPEN), None)
        episode, may_go_on = self.episode_of(cart, rows)
        self.remember_flow(cart, episode)
        if not may_go_on:
            return None
        if open_row is not None and (episode is not None or open_row.state != "planned"):
            if open_row.state == "planned" and self.moves_in_look:
                self.move_along(open_row, cart)
            return None
        if episode is None and self.is_blocked(cart, rows, apart_from=open_row):
            return None
        step = self.next_step(episode)
        if step is None or self.now < cart.touched_at + step.after:
            return None
        if self.is_busy(cart.cart_id, cart.identity, cart.address) or cart.address in self.suppressed:
            return None
        if self.is_ordered(cart, episode) or self.is_quiet(cart):
            return None
        decisions = []
        began = episode
        names = set()
        while step is not None and self.now >= cart.touched_at + step.after:
            due = self.due_at(episode, step.after, cart.touched_at)
            limit = self.limit_of(step, cart.touched_at)
            opens = self.opening(max(due, self.now), cart, self.key_of(cart, began, step))
            is_late = opens >= limit
            if self.now < due and not is_late:
                break
            if self.is_superseded(cart):
                decisions.append((step, "superseded"))
                break
            if is_late:
                decisions.append((step, "expired"))
                names.add(step.name)
                step = self.next_behind(episode, names, step)
                continue
            self.choose(cart)
            is_first = episode is None and not decisions
            decisions.append((step, "holdout" if is_first and self.holds_out(cart) else "plan"))
            break
        return (episode, decisions) if decisions else None

    def next_behind(self, episode, names, step):
        names = names | ({row.step for row in episode.rows} if episode else set())
        return next((s for s in self.config.steps if s.name not in names and s.after > step.after), None)

    def remember_flow(self, cart, episode):
        if episode is not None and any(row.counts for row in episode.rows):
            self.flowing.setdefault(cart.address, []).append(cart)

    def is_superseded(self, cart):
        """Whether another cart of this address, touched later, is what its shopper is to be written about."""
        for other in self.flowing.get(cart.address, []):
            if other.cart_id != cart.cart_id and other.hash != cart.hash and other.touched_at > cart.touched_at:
                return True
        chosen = self.chosen.get(cart.address)
        if chosen is not None and chosen.hash != cart.hash and chosen.cart_id != cart.cart_id:
            return True
        for row in self.to_address.get(cart.address, []):
            if row.counts and row.cart_id != cart.cart_id and row.hash != cart.hash and row.touched_at > cart.touched_at:
                return True
        return False

    def move_along(self, row, cart):
        """A touch while a step waits moves the step, and nothing else."""
        if cart.touched_at <= row.touched_at or row.address != cart.address:
            return
        step = self.config.step_named(row.step) if row.step is not None else self.config.steps[0]
        row.touched_at, row.moved_at = cart.touched_at, self.now
        row.cart_id = cart.cart_id
        row.expires_at = self.limit_of(step, cart.touched_at)
        due = self.due_at(row.episode, self.step_after(row), cart.touched_at, apart_from=row)
        row.not_before = self.opening(max(row.not_before, due, self.now), cart, row.key)

    # Writing what was decided.

    def write(self, cart, episode, decisions):
        for step, what in decisions:
            code = None
            if what == "plan" and step is not None and step.coupon:
                what, code = self.claim_for(cart, episode, step)
                if what == "wait":
                    return
            if what == "plan":
                for row in list(self.planned()):
                    if row.address == cart.address or row.cart_id == cart.cart_id:
                        self.skip(row, "superseded")
            if episode is None:
                episode = Episode(cart, self.free_second(cart))
                self.seconds_taken.add((cart.identity, cart.hash, episode.created_at))
            state, reason = ("planned", None) if what == "plan" else ("skipped", what)
            row = Row(episode, step.name if step else None, step.after if step else None, cart, self.now, state, reason)
            self.add(row)
            row.expires_at = self.limit_of(step, cart.touched_at)
            if what == "plan":
                due = self.due_at(episode, step.after if step else 0, cart.touched_at)
                row.not_before = self.opening(max(due, self.now) if step else self.now, cart, row.key)
                if code is not None:
                    code.row, code.claimed_at, row.code = row, self.now, code
                self.waiting.append(row)
            else:
                self.note(row)

    def add(self, row):
        row.number = len(self.rows)
        self.rows.append(row)
        row.episode.rows.append(row)
        self.by_identity.setdefault((row.identity, row.hash), []).append(row)
        self.by_address.setdefault((row.address, row.hash), []).append(row)
        self.of_cart.setdefault(row.cart_id, []).append(row)
        self.to_address.setdefault(row.address, []).append(row)

    # Coupons.

    def claim_for(self, cart, episode, step):
        """What becomes of a step with a coupon: plan, wait or capped; and the code."""
        pool = self.config.pools[step.coupon]
        if pool.per_person and self.had_code(cart, pool):
            return ("plan", None) if pool.when_empty == "without" else ("capped", None)
        due = max(self.due_at(episode, step.after, cart.touched_at), self.now)
        leaves = self.opening(due, cart, self.key_of(cart, episode, step))
        code = self.free_code(pool, leaves)
        if code is None and pool.when_empty == "wait":
            return "wait", None
        return "plan", code

    def had_code(self, cart, pool):
        return any(
            code.row is not None and code.pool == pool.name and code.claimed_at > self.now - pool.per_person
            and (code.row.identity == cart.identity or code.row.address == cart.address)
            for code in self.codes.values()
        )

    def free_code(self, pool, at):
        """The code of the pool that ends first among those that last long enough."""
        free = [
            code for code in self.codes.values() if code.pool == pool.name and code.row is None
            and (code.expires_at is None or code.expires_at >= at + pool.min_validity)
        ]
        return min(free, key=lambda code: (code.expires_at is None, code.expires_at or 0, code.code), default=None)

    def free(self, row):
        """Gives a code back, if no body with it may have left."""
        if row.code is not None and not row.was_armed:
            row.code.row = row.code.claimed_at = None
            row.code = None

    def renew_code(self, row):
        """Just before the dialogue: whether the message may go with the code it has, or with another one."""
        code, now = row.code, self.now
        if code is None or code.expires_at is None:
            return True
        pool = self.config.pools.get(code.pool)
        least = pool.min_validity if pool else 0
        if code.expires_at >= now + least:
            return True
        if row.was_armed:
            if now < code.expires_at:
                return True
            self.skip(row, "expired")
            return False
        other = self.free_code(pool, now) if pool else None
        if other is None and (pool is None or pool.when_empty == "wait"):
            row.not_before = now + self.config.retry_after
            return False
        self.free(row)
        if other is not None:
            other.row, other.claimed_at, row.code = row, now, other
        return True

    # Delivery.

    def deliver(self, server):
        due = [row for row in self.planned() if row.not_before <= self.now and row.expires_at > self.now]
        for row in sorted(due, key=lambda row: (row.not_before, row.number)):
            if row.state != "planned" or not self.last_look(row):
                continue
            if server == "away":
                row.not_before = self.now + self.config.retry_after
                return
            answer = self.mailboxes.get(row.address, "accept") if server == "accept" else server
            self.talk(row, answer)

    def talk(self, row, answer):
        if answer == "defer":
            row.deferrals += 1
            wait = max(self.config.retry_after, min(self.config.retry_after * 2 ** (row.deferrals - 1), LONGEST_WAIT))
            row.not_before = self.now + wait
        elif answer == "refuse":
            row.state, row.settled_at = "refused", self.now
            self.note(row)
        else:
            row.state = "in_doubt" if answer == "doubt" else "sent"
            row.armed_at = row.settled_at = self.now
            row.was_armed = True
            self.armings.setdefault(row.address, []).append((self.now, row))
            self.note(row)

    def last_look(self, row):
        """Whether a due message is still right; if not, it is skipped or put off."""
        now, config = self.now, self.config
        cart = self.carts.get(row.cart_id)
        if row.address in self.suppressed:
            self.skip(row, "suppressed")
            return False
        if not self.is_the_same(row, cart):
            return False
        row.missing_since = None
        if row.step is not None and not config.step_named(row.step):
            self.skip(row, "cancelled")
            return False
        if config.steps and cart.touched_at > row.touched_at:
            self.move_along(row, cart)
            if row.not_before > now:
                return False
        if config.steps:
            due = self.due_at(row.episode, self.step_after(row), row.touched_at, apart_from=row)
            if due > now:
                row.not_before = self.opening(due, cart, row.key)
                return False
        opens = self.opening(now, cart, row.key)
        if opens > now:
            return self.put_off(row, opens, "expired")
        if self.is_busy(row.cart_id, row.identity, row.address):
            row.not_before = now + config.retry_after
            return False
        if self.is_quiet(cart):
            return self.put_off(row, now + HOUR, "capped")
        allowed = self.cap_ends(row)
        if allowed > now:
            return self.put_off(row, self.opening(allowed, cart, row.key), "capped")
        if config.steps:
            near = [at for at, other in self.armings.get(row.address, []) if other is not None and at > now - LEAST_GAP]
            if near:
                return self.put_off(row, self.opening(max(near) + LEAST_GAP, cart, row.key), "expired")
        return self.renew_code(row)

    def is_the_same(self, row, cart):
        """Whether the cart is what the message was planned for; a row of another is skipped or looked for again."""
        now, config = self.now, self.config
        with_steps = bool(config.steps)
        if cart is None:
            if self.has_ordered(row.cart_id, row.address, row.touched_at - DAY):
                self.skip(row, "ordered")
            else:
                self.look_for_it_again(row, "empty")
            return False
        if self.is_ordered(cart, row.episode if with_steps else None):
            self.skip(row, "ordered")
            return False
        is_other = cart.hash != row.hash
        if with_steps and is_other and cart.touched_at == row.touched_at:
            self.look_for_it_again(row, "changed" if cart.items else "empty")
            return False
        if not cart.items:
            self.skip(row, "empty")
            return False
        same_person = cart.address == row.address and (with_steps or cart.identity == row.identity)
        is_touched = cart.touched_at > row.touched_at
        if with_steps and is_touched:
            heard = row.episode.last_heard
            is_touched = heard is not None and cart.touched_at > heard + config.window
        if is_other or not same_person or not cart.consent or is_touched:
            self.skip(row, "changed")
            return False
        return True

    def look_for_it_again(self, row, reason):
        since = row.missing_since if row.missing_since is not None else self.now
        if self.now - since >= GONE_AFTER:
            self.skip(row, reason)
            return
        row.missing_since, row.not_before = since, self.now + self.config.retry_after

    def put_off(self, row, until, reason_if_too_late):
        if until >= row.expires_at:
            self.skip(row, reason_if_too_late)
        else:
            row.not_before = until
        return False

    def cap_ends(self, row):
        """From when on the caps let a body to this address begin."""
        armed = sorted(
            (at for at, other in self.armings.get(row.address, []) if other is None or other.state in COUNTS_AS_SENT),
            reverse=True,
        )
        ends = 0
        for number, length in self.config.caps:
            if len(armed) >= number:
                ends = max(ends, armed[number - 1] + length)
        return ends

    # What a driver tells, and asks.

    def doubt(self, row):
        """A run was killed, or a reply was lost: what the model took for sent is in doubt."""
        row.state = "in_doubt"

    def not_yet(self, row):
        """A step that a touch moved in this run may as well leave in the next one."""
        if row.state == "sent":
            self.armings[row.address].remove((row.armed_at, row))
            row.state, row.armed_at, row.settled_at, row.was_armed = "planned", None, None, False
            self.waiting.append(row)
        row.not_before = self.now

    def exchange(self, row, code):
        """Another code of the pool: who gets which depends on those who are no longer compared."""
        row.code.row = row.code.claimed_at = None
        mine = self.codes[code.strip().upper()]
        mine.row, mine.claimed_at, row.code = row, self.now, mine

    def instants(self, after, before):
        """Every instant in (after, before) at which something can change by the clock alone."""
        config = self.config
        found = set()
        for row in self.planned():
            found.update((row.not_before, row.expires_at))
        offsets = {config.idle, *(step.after for step in config.steps), *(step.until or 0 for step in config.steps)}
        begin = bisect.bisect_left(self.touched, (after - config.max_age, ""))
        for touched_at, cart_id in self.touched[begin:]:
            cart = self.carts.get(cart_id)
            if cart is None or cart.touched_at != touched_at:
                continue
            found.update(touched_at + offset for offset in offsets)
            for row in self.rows_of(cart)[-3:]:
                if row.armed_at:
                    found.add(row.armed_at + config.window)
                    found.update(row.armed_at + step.after - self.step_after(row) for step in config.steps)
        return sorted(at for at in found if after < at < before)


def play(scenario):
    """Plays a whole scenario, one run at each of its `runs`, and returns every decision in order."""
    model = Model(scenario)
    events = scenario["events"]
    position = 0
    for run in scenario["runs"]:
        now = instant(run)
        while position < len(events) and instant(events[position]["at"]) <= now:
            model.apply(events[position])
            position += 1
        model.run(now, **circumstances(scenario, run))
    return model.decisions


def circumstances(scenario, run):
    """How shop and server are at an instant."""

    def within(name):
        return any(begin <= run < end for begin, end in scenario.get(name, []))

    server = "away" if within("server_away") else "defer" if within("server_defers") else "accept"
    return {"shop_answers": not within("shop_away"), "server": server}


def by_shopper(decisions):
    """The decisions of each identity, in order."""
    result = {}
    for decision in decisions:
        result.setdefault(decision["identity"], []).append(decision)
    return result


if __name__ == "__main__":
    json.dump(by_shopper(play(json.load(sys.stdin))), sys.stdout, indent=1)
