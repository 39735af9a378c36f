"""A month of a shop, by seed: what happens in it, and when `mailonce detect` runs.

A scenario is a dictionary (JSON):

- `start`, `days`, `seed`;
- `config`: the sections of mailonce.toml that the rules need, with its keys (`detect` with `step`, `send_window`, `caps`,
  `holdout`, `coupon`, `shop.timezone`); values of money are whole units of the currency;
- `events`, in order of time: each has `at` and `type`:
  `cart` (put as given, touched now: `cart_id user_id email items value currency timezone consent`), `delete` (`cart_id`),
  `order` (`cart_id`, `email`, either may be missing), `suppress` and `unsuppress` (`email`), `mailbox` (`email`, `answer`:
  accept, defer, refuse), `coupons` (`pool`, `codes`: [code, end or null]), `config` (`set`: sections, or keys of detect);
- `shop_away`, `server_away`, `server_defers`: [from, to) in which it is so;
- `runs`: the instants at which `detect` runs.
"""

import argparse
import json
import random
import sys

from model import text_of, instant

MINUTE, HOUR, DAY = 60, 3600, 86400
# Both leave summer time within the month: Berlin on 25 October, New York on 1 November.
START = "2026-10-10T00:00:00Z"
ZONES = [None] * 6 + ["Europe/Berlin", "America/New_York", "Asia/Tokyo", "Asia/Kolkata", "Not/AZone"]
SKUS = [f"S-{n}" for n in range(12)]

STEPS = [
    {"name": "reminder", "after": "60m"},
    {"name": "second", "after": "24h", "until": "3d"},
    {"name": "last", "after": "72h", "coupon": "comeback"},
]

CONFIGS = {
    # Today's rules, every key as it is without being said.
    "none": {"detect": {}},
    "steps": {"detect": {"max_age": "5d", "step": [{k: v for k, v in step.items() if k != "coupon"} for step in STEPS]}},
    "hours": {
        "shop": {"timezone": "Europe/Berlin"},
        "detect": {
            "max_age": "5d", "min_value": {"EUR": 20},
            "step": [{k: v for k, v in step.items() if k != "coupon"} for step in STEPS],
        },
        "send_window": {"hours": "08:00-21:00", "days": ["mon", "tue", "wed", "thu", "fri", "sat"], "spread": "30m"},
        "caps": {"per_person": ["1 in 20h", "3 in 7d"], "quiet_after_order": "24h"},
        "holdout": {"percent": 5, "salt": "2026"},
    },
    "all": {
        "shop": {"timezone": "Europe/Berlin"},
        "detect": {"max_age": "5d", "min_value": {"EUR": 20}, "step": STEPS},
        "send_window": {"hours": "08:00-21:00", "days": ["mon", "tue", "wed", "thu", "fri", "sat"], "spread": "30m"},
        "caps": {"per_person": ["1 in 20h", "3 in 7d"], "quiet_after_order": "24h"},
        "holdout": {"percent": 5, "salt": "2026"},
        "coupon": [{"name": "comeback", "min_validity": "48h", "per_person": "30d", "when_empty": "wait"}],
    },
}


class Month:
    def __init__(self, seed, carts, days, config, every):
        self.every = every
        self.random = random.Random(seed)
        self.seed, self.carts, self.days, self.kind = seed, carts, days, config
        self.start = instant(START)
        self.end = self.start + days * DAY
        self.events = []
        # No two touches share a second, so that the one that is later is so for everyone.
        self.seconds = set()

    def moment(self, at):
        at = int(at)
        while at in self.seconds:
            at += 1
        self.seconds.add(at)
        return at

    def add(self, at, kind, **what):
        at = self.moment(at)
        if at < self.end:
            self.events.append({"at": text_of(at), "type": kind, **what})
        return at

    def contents(self):
        return {sku: self.random.randint(1, 3) for sku in self.random.sample(SKUS, self.random.randint(1, 2))}

    def put(self, at, shopper, cart_id, items, **more):
        value = 9 * sum(items.values())
        known = {key: shopper[key] for key in ("email", "user_id", "timezone") if shopper.get(key)}
        return self.add(at, "cart", cart_id=cart_id, items=items, value=value, currency="EUR", **known, **more)

    def make(self):
        made, shopper_number = 0, 0
        while made < self.carts:
            # Most have one cart; some several, so that they get in each other's way.
            several = self.random.choices((1, 2, 3), (55, 28, 17))[0]
            self.shopper(shopper_number, several)
            made, shopper_number = made + several, shopper_number + 1
        if self.kind == "all":
            self.coupons()
        if self.kind != "none":
            self.edits()
        self.events.sort(key=lambda event: event["at"])
        return {
            "seed": self.seed, "start": START, "days": self.days, "config": CONFIGS[self.kind], "events": self.events,
            **self.outages(), "runs": self.runs(),
        }

    def shopper(self, number, carts):
        chance = self.random.random
        user_id = f"u{number}" if chance() < 0.5 else None
        email = f"person{number}@example.com"
        if chance() < 0.1:
            email = email.title()
        shopper = {"email": email, "user_id": user_id, "timezone": self.random.choice(ZONES)}
        alike = self.contents() if chance() < 0.2 else None
        for index in range(carts):
            at = self.start + self.random.random() * (self.days - 1) * DAY
            if index and chance() < 0.6:
                # Soon after the one before.
                at = min(self.last_at + chance() * self.random.choice((HOUR, 6 * HOUR, 2 * DAY)), self.end - DAY)
            self.last_at = at
            self.life(at, shopper, f"c{number}-{index}", dict(alike or self.contents()))
        if chance() < 0.06:
            # Often while something waits for the morning.
            begin = self.last_at + chance() * 30 * HOUR
            self.add(begin, "suppress", email=email)
            if chance() < 0.4:
                self.add(begin + chance() * 3 * DAY, "unsuppress", email=email)
        if chance() < 0.03:
            self.add(self.start, "mailbox", email=email, answer=self.random.choice(("refuse", "defer")))

    def life(self, at, shopper, cart_id, items):
        """What a shopper does with one cart, until they leave it, buy it or let it be deleted."""
        shopper = dict(shopper)
        chosen = [items]
        at = self.put(at, shopper, cart_id, items)
        for _ in range(self.random.choices((0, 1, 2, 4, 7), (35, 25, 20, 12, 8))[0]):
            at += self.pause()
            act = self.random.choices(
                ("touch", "change", "back", "empty", "log in", "order", "order elsewhere", "delete", "no consent", "new address"),
                (30, 14, 12, 6, 12, 10, 5, 5, 3, 3),
            )[0]
            if act == "change":
                items = self.contents()
                chosen.append(items)
            elif act == "back":
                items = self.random.choice(chosen)
            elif act == "log in" and not shopper["user_id"]:
                shopper["user_id"] = "late-" + cart_id
            elif act == "new address" and shopper["user_id"]:
                shopper["email"] = f"new-{cart_id}@example.com"
            if act == "order":
                self.add(at, "order", cart_id=cart_id)
                return
            if act == "order elsewhere":
                self.add(at, "order", email=shopper["email"].lower())
            elif act == "delete":
                self.add(at, "delete", cart_id=cart_id)
                return
            else:
                known = {"consent": False} if act == "no consent" else {}
                at = self.put(at, shopper, cart_id, {} if act == "empty" else items, **known)

    def pause(self):
        """Mostly minutes or hours; often just around an hour, a day or the distance of two steps."""
        near = self.random.choice((HOUR, 23 * HOUR, 24 * HOUR, 25 * HOUR, 48 * HOUR, 72 * HOUR))
        if self.random.random() < 0.5:
            return max(1, near + self.random.randint(-5 * MINUTE, 5 * MINUTE))
        return 1 + int(self.random.expovariate(1 / self.random.choice((10 * MINUTE, 5 * HOUR, 2 * DAY))))

    def coupons(self):
        # Few, so that the pool is empty for a while; some end soon.
        at, number = self.start, 0
        while at < self.end:
            codes = []
            for _ in range(max(1, self.carts * 2 // 100)):
                ends = None if self.random.random() < 0.3 else text_of(int(at) + self.random.randint(1, 14) * DAY)
                codes.append([f"CB-{self.seed}-{number}", ends])
                number += 1
            self.add(at, "coupons", pool="comeback", codes=codes)
            at += self.random.uniform(1, 4) * DAY

    def edits(self):
        """Steps put in, renamed, moved; and back."""
        def steps(edit):
            return edit([dict(step) for step in CONFIGS[self.kind]["detect"]["step"]])

        def renamed(all_steps):
            all_steps[1]["name"] = "zweite"
            return all_steps

        def moved(all_steps):
            all_steps[1].update(after="30h", until="4d")
            return all_steps

        edits = [
            steps(lambda all_steps: all_steps[:1] + [{"name": "between", "after": "12h"}] + all_steps[1:]),
            steps(lambda all_steps: all_steps[:2]), steps(renamed), steps(moved), steps(lambda all_steps: all_steps),
        ]
        for day in range(4, self.days, 5):
            at = self.start + day * DAY + self.random.random() * DAY
            self.add(at, "config", set={"detect": {"step": self.random.choice(edits)}})
            if self.kind in ("hours", "all") and self.random.random() < 0.5:
                caps = self.random.choice((["1 in 20h", "3 in 7d"], ["2 in 20h"], ["1 in 30h"]))
                self.add(at + HOUR, "config", set={"caps": {"per_person": caps, "quiet_after_order": "24h"}})
            if self.kind in ("hours", "all") and self.random.random() < 0.3:
                self.add(at + 2 * HOUR, "config", set={"holdout": {"percent": self.random.choice((0, 5, 20)), "salt": "2026"}})

    def outages(self):
        def some(count, longest):
            found = []
            for _ in range(count):
                begin = self.start + self.random.random() * self.days * DAY
                found.append([text_of(int(begin)), text_of(int(begin + self.random.random() * longest))])
            return sorted(found)

        return {
            "shop_away": some(self.days // 8, 12 * HOUR) + some(self.days // 15, 60 * HOUR),
            "server_away": some(self.days // 5, 6 * HOUR) + some(self.days // 15, 40 * HOUR),
            "server_defers": some(self.days // 6, 3 * HOUR),
        }

    def runs(self):
        """Every so often, as cron would every minute; each minute around the changes of the clocks and some mornings."""
        found = set(range(self.start + self.every, self.end, self.every))
        for at in ("2026-10-25T00:30:00Z", "2026-11-01T05:30:00Z", "2026-10-25T06:55:00Z", "2026-10-26T06:55:00Z"):
            begin = instant(at)
            found.update(now for now in range(begin, begin + HOUR, MINUTE) if self.start < now < self.end)
        return [text_of(now) for now in sorted(found)]


def month(seed, carts=2000, days=31, config="all", every=10, one_zone=False):
    """A scenario; `every` is the minutes between two runs, and in `one_zone` all live where the shop is."""
    made = Month(seed, carts, days, config, every * MINUTE).make()
    if one_zone:
        for event in made["events"]:
            event.pop("timezone", None)
    return made


def parser():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--carts", type=int, default=2000)
    arguments.add_argument("--days", type=int, default=31)
    arguments.add_argument("--config", choices=sorted(CONFIGS), default="all")
    arguments.add_argument("--every", type=int, default=10, help="minutes between two runs")
    arguments.add_argument("--one-zone", action="store_true", help="all shoppers live in the shop's zone")
    return arguments


if __name__ == "__main__":
    given = parser().parse_args()
    json.dump(month(given.seed, given.carts, given.days, given.config, given.every, given.one_zone), sys.stdout, indent=1)
