"""What must hold of a ledger whatever the rules decided in detail: looked at once, at the end, beside the model.

Each function takes the scenario and the cart messages of the ledger (rows by column name) and yields a line for each message
that breaks the promise. `broken` gathers them.
"""

import bisect
import collections
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from model import COUNTS_AS_SENT, LEAST_GAP, Config, fold, instant, merged


class Past:
    """What was so at any instant of a scenario."""

    def __init__(self, scenario):
        self.configs = [(instant(scenario["start"]), Config(scenario["config"]))]
        self.created, self.zones = {}, {}
        self.orders_of_cart, self.orders_of_address = collections.defaultdict(list), collections.defaultdict(list)
        self.suppressions = collections.defaultdict(list)
        raw = scenario["config"]
        for event in scenario["events"]:
            at, kind = instant(event["at"]), event["type"]
            if kind == "config":
                raw = merged(raw, event["set"])
                self.configs.append((at, Config(raw)))
            elif kind == "cart":
                self.created.setdefault(event["cart_id"], at)
                self.zones[event["cart_id"]] = event.get("timezone")
            elif kind == "delete":
                self.created.pop(event["cart_id"], None)
            elif kind == "order":
                if event.get("cart_id"):
                    self.orders_of_cart[event["cart_id"]].append(at)
                if event.get("email"):
                    self.orders_of_address[fold(event["email"])].append(at)
            elif kind in ("suppress", "unsuppress"):
                self.suppressions[fold(event["email"])].append((at, kind == "suppress"))

    def config(self, at):
        return self.configs[bisect.bisect_right([since for since, _ in self.configs], at) - 1][1]

    def is_suppressed(self, address, at):
        return next((on for since, on in reversed(self.suppressions[address]) if since <= at), False)


def armed(lines):
    """The messages whose body may have left, in order."""
    return sorted((line for line in lines if line["state"] in COUNTS_AS_SENT), key=lambda line: line["armed_at"])


def ordered_or_suppressed(past, lines):
    for line in armed(lines):
        at, cart_id, address = instant(line["armed_at"]), line["cart_id"], line["folded_address"]
        if any(ordered <= at for ordered in past.orders_of_cart[cart_id]):
            yield f"{line['message_key']}: armed {line['armed_at']}, after its cart was ordered"
        created = past.created.get(cart_id)
        if created is not None and any(created <= ordered <= at for ordered in past.orders_of_address[address]):
            yield f"{line['message_key']}: armed {line['armed_at']}, after its shopper ordered"
        if past.is_suppressed(address, at):
            yield f"{line['message_key']}: armed {line['armed_at']}, while the address was suppressed"


def steps(past, lines):
    """No step twice in an episode, none out of order, none bunched."""
    episodes = collections.defaultdict(list)
    for line in lines:
        episodes["/".join(line["message_key"].split("/")[:4])].append(line)
    for key, rows in episodes.items():
        for name, times in collections.Counter(row["step"] for row in rows).items():
            if times > 1:
                yield f"{key}: step {name} {times} times"
        went = armed(rows)
        for before, after in zip(went, went[1:]):
            if (before["step_after"] or 0) >= (after["step_after"] or 0):
                yield f"{key}: {after['step']} after {before['step']}"
            if instant(after["armed_at"]) - instant(before["armed_at"]) < LEAST_GAP:
                yield f"{key}: {after['step']} too soon after {before['step']}"


def same_contents(past, lines):
    """No first step for the same shopper and contents within the window of another episode's message."""
    last = {}
    for line in armed(lines):
        at, episode = instant(line["armed_at"]), "/".join(line["message_key"].split("/")[:4])
        for name in (line["identity"], line["folded_address"]):
            key = (name, line["cart_hash"])
            before = last.get(key)
            if before and before[1] != episode and at - before[0] < past.config(at).window:
                yield f"{line['message_key']}: armed {line['armed_at']}, within the window of {before[1]}"
            last[key] = (at, episode)


def gaps_and_caps(past, lines):
    by_address = collections.defaultdict(list)
    for line in armed(lines):
        at, earlier = instant(line["armed_at"]), by_address[line["folded_address"]]
        config = past.config(at)
        if config.steps and earlier and at - earlier[-1] < LEAST_GAP:
            yield f"{line['message_key']}: armed {line['armed_at']}, too soon after another to this address"
        for number, length in config.caps:
            counted = sum(1 for before in earlier if before > at - length)
            if counted >= number:
                yield f"{line['message_key']}: armed {line['armed_at']}, {counted} within {length} s before, {number} allowed"
        earlier.append(at)


def hours(past, lines):
    for line in armed(lines):
        at = instant(line["armed_at"])
        config = past.config(at)
        if config.send_window is None:
            continue
        name = past.zones.get(line["cart_id"])
        try:
            zone = ZoneInfo(name) if name else config.zone
        except (ZoneInfoNotFoundError, ValueError):
            zone = config.zone
        if config.send_window.next_open(zone, at, "") != at:
            yield f"{line['message_key']}: armed {line['armed_at']}, outside the hours in {zone.key}"


def holdouts(past, lines):
    """Nothing went in an episode that is held out."""
    held = {line["message_key"] for line in lines if line["reason"] == "holdout"}
    for line in armed(lines):
        if "/".join(line["message_key"].split("/")[:4]) in held:
            yield f"{line['message_key']}: sent, though its episode is held out"


def coupons(codes, lines):
    """One code a message, one message a code; `codes` are the rows of coupon_code."""
    by_id = {line["id"]: line for line in lines}
    for code, times in collections.Counter(row["code"].strip().upper() for row in codes).items():
        if times > 1:
            yield f"a code is there {times} times"
    for message, times in collections.Counter(row["message"] for row in codes if row["message"] is not None).items():
        line = by_id.get(message)
        if times > 1:
            yield f"message {message}: {times} codes"
        if line is not None and line["state"] == "skipped" and line["reason"] != "held_back":
            if not line["was_armed"]:
                yield f"{line['message_key']}: skipped ({line['reason']}), and keeps its code"


def broken(scenario, lines, codes=()):
    """Every promise that is broken, one line each."""
    past = Past(scenario)
    rules = [ordered_or_suppressed, same_contents, gaps_and_caps, hours, holdouts]
    if lines and "step" in lines[0]:
        rules.append(steps)
    found = [line for rule in rules for line in rule(past, lines)]
    return found + list(coupons(codes, lines))
