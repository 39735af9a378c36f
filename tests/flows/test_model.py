"""The rules at their edges: `python3 -m unittest` in this folder."""

import unittest
from zoneinfo import ZoneInfo

import model
from model import Model, SendWindow, instant, text_of

STEPS = [
    {"name": "reminder", "after": "60m"},
    {"name": "second", "after": "24h", "until": "3d"},
    {"name": "last", "after": "72h"},
]
START = "2026-10-10T00:00:00Z"
NINE = "2026-10-12T09:00:00Z"  # A Monday.


def at(days=0, hours=0, minutes=0, seconds=0, since=NINE):
    return instant(since) + days * 86400 + hours * 3600 + minutes * 60 + seconds


class Shop:
    """A model with a short hand for what happens in it; time only goes forward."""

    def __init__(self, steps=STEPS, **config):
        detect = {"max_age": "5d", "step": steps, **config.pop("detect", {})}
        self.model = Model({"start": START, "config": {"detect": detect, **config}})
        self.seen = 0

    def cart(self, when, cart_id="c1", items=None, email="ada@example.com", user_id="u1", **more):
        event = {"cart_id": cart_id, "items": {"A": 1} if items is None else items, "email": email, "user_id": user_id}
        return self.do(when, "cart", **event, **more)

    def do(self, when, type_, **event):
        self.model.apply({"type": type_, "at": text_of(when), **event})
        return self

    def run(self, when, **how):
        """What this run decided: (cart, step, what) in order."""
        self.model.run(when, **how)
        new, self.seen = self.model.decisions[self.seen :], len(self.model.decisions)
        return [(d["cart_id"], d["step"], d["what"]) for d in new]

    def run_every(self, begin, end, every=600, **how):
        """All that happened in runs from begin to end: (at, cart, step, what)."""
        found = []
        for now in range(begin, end, every):
            found += [(now, *what) for what in self.run(now, **how)]
        return found


class Steps(unittest.TestCase):
    def test_each_step_leaves_when_it_is_due_and_not_a_second_before(self):
        shop = Shop().cart(at())
        for hours, step in [(1, "reminder"), (24, "second"), (72, "last")]:
            self.assertEqual(shop.run(at(hours=hours) - 1), [])
            self.assertEqual(shop.run(at(hours=hours)), [("c1", step, "sent")])
            self.assertEqual(shop.run(at(hours=hours) + 1), [])
        self.assertEqual(shop.run_every(at(4), at(9)), [])

    def test_keys_of_the_first_and_later_steps(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.run(at(hours=24))
        first, second = shop.model.rows
        digest = model.contents_hash({"A": 1})
        self.assertEqual(first.key, f"cart/u:u1/{digest}/2026-10-12T10:00:00Z")
        self.assertEqual(second.key, first.key + "/second")

    def test_late_runs_keep_the_whole_distance(self):
        shop = Shop().cart(at())
        self.assertEqual(shop.run(at(hours=40)), [("c1", "reminder", "sent")])
        self.assertEqual(shop.run(at(hours=63) - 1), [])
        self.assertEqual(shop.run(at(hours=63)), [("c1", "second", "sent")])
        self.assertEqual(shop.run(at(hours=111) - 1), [])
        self.assertEqual(shop.run(at(hours=111)), [("c1", "last", "sent")])

    def test_a_step_past_until_is_expired_and_the_flow_goes_on(self):
        shop = Shop().cart(at())
        # 50 h late: the second could leave at 73 h, after its `until`.
        self.assertEqual(shop.run(at(hours=50)), [("c1", "reminder", "sent")])
        self.assertEqual(shop.run(at(hours=50, minutes=10)), [("c1", "second", "skipped expired")])
        # So could the last, at 121 h, after max_age.
        self.assertEqual(shop.run_every(at(hours=51), at(hours=119)), [(at(hours=72), "c1", "last", "skipped expired")])

    def test_until_is_the_first_instant_too_late(self):
        for late, expected in [(-1, "sent"), (0, "skipped expired")]:
            shop = Shop([{"name": "one", "after": "1h", "until": "6h"}]).cart(at())
            self.assertEqual(shop.run(at(hours=6, seconds=late)), [("c1", "one", expected)])

    def test_nothing_later_than_max_age(self):
        shop = Shop([{"name": "one", "after": "1h"}]).cart(at())
        self.assertEqual(shop.run(at(days=5)), [])
        shop = Shop([{"name": "one", "after": "1h"}]).cart(at())
        self.assertEqual(shop.run(at(days=5, seconds=-1)), [("c1", "one", "sent")])

    def test_several_steps_expire_in_one_run_and_the_next_goes(self):
        steps = [{"name": "a", "after": "1h", "until": "2h"}, {"name": "b", "after": "3h", "until": "4h"}, {"name": "c", "after": "5h"}]
        shop = Shop(steps).cart(at())
        expected = [("c1", "a", "skipped expired"), ("c1", "b", "skipped expired"), ("c1", "c", "sent")]
        self.assertEqual(shop.run(at(hours=5)), expected)

    def test_deferred_until_it_expires_then_the_flow_goes_on(self):
        steps = [{"name": "a", "after": "1h", "until": "3h"}, {"name": "b", "after": "4h"}]
        shop = Shop(steps).cart(at())
        self.assertEqual(shop.run_every(at(hours=1), at(hours=3), 60, server="defer"), [])
        self.assertEqual(shop.run(at(hours=3)), [("c1", "a", "skipped expired")])
        self.assertEqual(shop.run(at(hours=4)), [("c1", "b", "sent")])

    def test_refused_ends_the_flow_and_doubt_does_not(self):
        for answer, later in [("refuse", []), ("doubt", [(at(hours=24), "c1", "second", "sent")])]:
            shop = Shop().cart(at()).do(at(), "mailbox", email="ada@example.com", answer=answer)
            shop.run(at(hours=1))
            shop.do(at(hours=2), "mailbox", email="ada@example.com", answer="accept")
            self.assertEqual(shop.run_every(at(hours=2), at(hours=48)), later)

    def test_an_order_by_cart_or_person_ends_it(self):
        for order in [{"cart_id": "c1"}, {"email": "ADA@example.com"}]:
            shop = Shop().cart(at())
            shop.run(at(hours=1))
            shop.do(at(hours=20), "order", **order)
            self.assertEqual(shop.run_every(at(hours=21), at(5)), [])

    def test_an_order_while_a_step_waits_is_seen_by_the_last_look(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1), server="away")
        shop.do(at(hours=1, minutes=1), "order", cart_id="c1")
        self.assertEqual(shop.run(at(hours=1, minutes=2)), [("c1", "reminder", "skipped ordered")])

    def test_without_an_answer_of_the_shop_nothing_moves(self):
        shop = Shop().cart(at())
        self.assertEqual(shop.run_every(at(hours=1), at(hours=30), shop_answers=False), [])
        self.assertEqual(shop.run(at(hours=30)), [("c1", "reminder", "sent")])


class Touches(unittest.TestCase):
    def test_a_touch_within_the_window_only_moves_the_next_step(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=25))  # Exactly the window after the first was armed.
        self.assertEqual(shop.run_every(at(hours=26), at(hours=49)), [])
        self.assertEqual(shop.run(at(hours=49)), [("c1", "second", "sent")])

    def test_a_touch_a_second_later_begins_anew(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=25, seconds=1))
        self.assertEqual(shop.run(at(hours=26, seconds=1)), [("c1", "reminder", "sent")])
        self.assertEqual(len({id(row.episode) for row in shop.model.rows}), 2)

    def test_a_touch_while_a_step_waits_moves_it(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1), server="away")
        shop.cart(at(hours=1, minutes=1))
        self.assertEqual(shop.run_every(at(hours=1, minutes=2), at(hours=2, minutes=1), 60), [])
        self.assertEqual(shop.run(at(hours=2, minutes=1)), [("c1", "reminder", "sent")])
        self.assertEqual(len(shop.model.rows), 1)

    def test_a_touch_moves_the_end_too(self):
        shop = Shop([{"name": "one", "after": "1h", "until": "2h"}]).cart(at())
        shop.run(at(hours=1), server="away")
        shop.cart(at(minutes=61))
        self.assertEqual(shop.run_every(at(minutes=62), at(minutes=123), 60, server="away"), [])
        self.assertEqual(shop.run(at(hours=3, minutes=0)), [("c1", "one", "sent")])

    def test_an_untouched_cart_gets_one_episode(self):
        shop = Shop([{"name": "one", "after": "1h"}]).cart(at())
        self.assertEqual(len(shop.run_every(at(), at(5))), 1)

    def test_a_completed_flow_is_not_begun_by_a_refresh(self):
        shop = Shop([{"name": "one", "after": "1h"}]).cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=20))
        self.assertEqual(shop.run_every(at(hours=20), at(6)), [])
        shop.cart(at(6))
        self.assertEqual(len(shop.run_every(at(6), at(8))), 1)

    def test_a_touched_waiting_step_of_an_old_episode_gives_way_to_the_new(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.run(at(hours=24), server="away")
        shop.cart(at(hours=26))
        self.assertEqual(shop.run(at(hours=26, minutes=1)), [("c1", "second", "skipped changed")])
        self.assertEqual(shop.run(at(hours=27)), [("c1", "reminder", "sent")])

    def test_max_per_cart_counts_episodes(self):
        shop = Shop([{"name": "one", "after": "1h"}, {"name": "two", "after": "3h"}], detect={"max_per_cart": 2})
        sent = []
        for day in range(5):
            shop.cart(at(2 * day))
            sent += [step for _, _, step, _ in shop.run_every(at(2 * day), at(2 * day + 2))]
        self.assertEqual(sent, ["one", "two", "one", "two"])


class Contents(unittest.TestCase):
    def test_other_contents_begin_at_the_first_step(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=5), items={"B": 2})
        self.assertEqual(shop.run(at(hours=6)), [("c1", "reminder", "sent")])

    def test_there_and_back_goes_on_where_it_was(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=3), items={"B": 1})
        shop.run(at(hours=4))
        shop.cart(at(hours=6))
        self.assertEqual(shop.run_every(at(hours=7), at(hours=30)), [])
        self.assertEqual(shop.run(at(hours=30)), [("c1", "second", "sent")])

    def test_changed_while_a_step_waits_ends_it(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.run(at(hours=24), server="away")
        shop.cart(at(hours=24, minutes=1), items={"B": 1})
        self.assertEqual(shop.run(at(hours=24, minutes=2)), [("c1", "second", "skipped changed")])
        shop.cart(at(hours=24, minutes=10))
        # Touched after the end, but within the window of the first step: it waits for that.
        self.assertEqual(shop.run(at(hours=25) - 1), [])
        self.assertEqual(shop.run_every(at(hours=25), at(hours=26)), [(at(hours=25, minutes=10), "c1", "reminder", "sent")])

    def test_emptied_while_a_step_waits_ends_it_until_filled(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1), server="away")
        shop.cart(at(hours=1, minutes=1), items={})
        self.assertEqual(shop.run(at(hours=1, minutes=2)), [("c1", "reminder", "skipped empty")])
        shop.cart(at(hours=2))
        self.assertEqual(shop.run(at(hours=3)), [("c1", "reminder", "sent")])

    def test_a_cart_that_is_gone_is_looked_for_for_an_hour(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1), server="away")
        shop.do(at(hours=1, minutes=1), "delete", cart_id="c1")
        self.assertEqual(shop.run_every(at(hours=1, minutes=2), at(hours=2, minutes=2), 60), [])
        self.assertEqual(shop.run(at(hours=2, minutes=2)), [("c1", "reminder", "skipped empty")])


class People(unittest.TestCase):
    def test_a_guest_who_logs_in_keeps_the_episode(self):
        shop = Shop().cart(at(), user_id=None)
        shop.run(at(hours=1))
        shop.cart(at(hours=2))
        self.assertEqual(shop.run_every(at(hours=3), at(hours=26)), [])
        self.assertEqual(shop.run(at(hours=26)), [("c1", "second", "sent")])
        self.assertTrue(shop.model.rows[1].key.startswith("cart/e:ada@example.com/"))

    def test_a_guest_who_logs_in_while_a_step_waits_keeps_it(self):
        shop = Shop().cart(at(), user_id=None)
        shop.run(at(hours=1), server="away")
        shop.cart(at(hours=1, minutes=1))
        self.assertEqual(shop.run_every(at(hours=1, minutes=2), at(hours=2), 60), [])
        self.assertEqual(shop.run(at(hours=2, minutes=1)), [("c1", "reminder", "sent")])

    def test_equal_contents_on_another_cart_are_one_episode(self):
        shop = Shop().cart(at(), user_id=None)
        shop.run(at(hours=1))
        shop.cart(at(hours=2), cart_id="c2")
        self.assertEqual(shop.run_every(at(hours=3), at(hours=26)), [])
        self.assertEqual(shop.run(at(hours=26)), [("c2", "second", "sent")])

    def test_another_cart_touched_later_supersedes_the_next_step(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=5), cart_id="c2", items={"B": 1})
        self.assertEqual(shop.run(at(hours=6)), [("c2", "reminder", "sent")])
        self.assertEqual(shop.run(at(hours=24)), [("c1", "second", "skipped superseded")])
        self.assertEqual(shop.run(at(hours=29)), [("c2", "second", "sent")])
        # Ended until it is touched.
        self.assertEqual(shop.run_every(at(hours=30), at(hours=70)), [])
        shop.cart(at(hours=70))
        self.assertEqual(shop.run(at(hours=71)), [("c1", "reminder", "sent")])

    def test_touched_in_time_the_older_cart_becomes_the_newer(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=5), cart_id="c2", items={"B": 1})
        shop.run(at(hours=6))
        shop.cart(at(hours=7))
        self.assertEqual(shop.run(at(hours=29)), [("c2", "second", "skipped superseded")])
        self.assertEqual(shop.run(at(hours=31)), [("c1", "second", "sent")])

    def test_a_shopper_at_another_cart_is_waited_for(self):
        shop = Shop().cart(at()).cart(at(minutes=30), cart_id="c2", items={"B": 1})
        self.assertEqual(shop.run(at(minutes=89)), [])
        self.assertEqual(sorted(shop.run(at(minutes=90))), [("c1", "reminder", "skipped superseded"), ("c2", "reminder", "sent")])

    def test_two_carts_never_leave_within_the_least_gap(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1, minutes=50))
        shop.cart(at(hours=1, minutes=10), cart_id="c2", items={"B": 1})
        shop.run(at(hours=2, minutes=10))
        self.assertEqual(shop.run(at(hours=2, minutes=50) - 1), [])
        self.assertEqual(shop.run(at(hours=2, minutes=50)), [("c2", "reminder", "sent")])

    def test_suppressed_while_it_waits_ends_it(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1), server="away")
        shop.do(at(hours=1, minutes=1), "suppress", email="Ada@example.com")
        self.assertEqual(shop.run(at(hours=1, minutes=2)), [("c1", "reminder", "skipped suppressed")])
        shop.do(at(hours=2), "unsuppress", email="Ada@example.com")
        self.assertEqual(shop.run_every(at(hours=2), at(5)), [])

    def test_suppressed_between_steps_leaves_no_trace_once_lifted(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.do(at(hours=2), "suppress", email="ada@example.com")
        self.assertEqual(shop.run_every(at(hours=20), at(hours=30)), [])
        shop.do(at(hours=30), "unsuppress", email="ada@example.com")
        self.assertEqual(shop.run(at(hours=30)), [("c1", "second", "sent")])


class Edits(unittest.TestCase):
    def edit(self, shop, when, steps):
        shop.do(when, "config", set={"detect": {"step": steps}})

    def test_a_step_added_before_one_that_went_is_not_sent(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.run(at(hours=24))
        self.edit(shop, at(hours=25), STEPS[:1] + [{"name": "between", "after": "12h"}] + STEPS[1:])
        self.assertEqual(shop.run_every(at(hours=25), at(5)), [(at(hours=72), "c1", "last", "sent")])

    def test_a_renamed_step_is_cancelled_where_it_waits_and_not_sent_again(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.run(at(hours=24), server="away")
        self.edit(shop, at(hours=24, minutes=1), [STEPS[0], {"name": "zweite", "after": "24h"}, STEPS[2]])
        self.assertEqual(shop.run(at(hours=24, minutes=2)), [("c1", "second", "skipped cancelled")])
        self.assertEqual(shop.run_every(at(hours=25), at(hours=73)), [(at(hours=72), "c1", "last", "sent")])

    def test_a_bad_edit_of_a_minute_costs_nothing_that_waits(self):
        shop = Shop(send_window={"hours": "08:00-09:30"}).cart(at())
        shop.run(at(hours=1))
        self.edit(shop, at(hours=2), [])
        shop.run(at(hours=2))
        self.edit(shop, at(hours=3), STEPS)
        self.assertEqual(shop.run(at(hours=23)), [("c1", "reminder", "sent")])

    def test_after_changed_moves_only_what_is_not_planned(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        self.edit(shop, at(hours=2), [STEPS[0], {"name": "second", "after": "30h"}, STEPS[2]])
        self.assertEqual(shop.run_every(at(hours=24), at(hours=31)), [(at(hours=30), "c1", "second", "sent")])

    def test_what_went_without_steps_was_the_first_step(self):
        shop = Shop([]).cart(at())
        self.assertEqual(shop.run(at(hours=1)), [("c1", None, "sent")])
        self.edit(shop, at(hours=2), STEPS)
        self.assertEqual(shop.run_every(at(hours=2), at(hours=25)), [(at(hours=24), "c1", "second", "sent")])


class WithoutSteps(unittest.TestCase):
    def test_again_after_the_window_at_most_three_times(self):
        shop = Shop([]).cart(at())
        sent = [when for when, *_ in shop.run_every(at(), at(5))]
        self.assertEqual(sent, [at(hours=1), at(hours=25), at(hours=49)])

    def test_touched_while_it_waits_is_changed_and_planned_anew(self):
        shop = Shop([]).cart(at())
        shop.run(at(hours=1), server="away")
        shop.cart(at(hours=1, minutes=1))
        self.assertEqual(shop.run(at(hours=1, minutes=2)), [("c1", None, "skipped changed")])
        self.assertEqual(shop.run(at(hours=2, minutes=1)), [("c1", None, "sent")])

    def test_a_holdout_is_written_once_a_window(self):
        shop = Shop([], holdout={"percent": 100, "salt": "x"}).cart(at())
        found = shop.run_every(at(), at(2))
        self.assertEqual([(when, what) for when, *_, what in found], [(at(hours=1), "skipped holdout"), (at(hours=25), "skipped holdout")])


class Windows(unittest.TestCase):
    BERLIN = ZoneInfo("Europe/Berlin")

    def test_open_from_the_first_second_and_closed_at_the_last(self):
        window = SendWindow({"hours": "08:00-21:00"})
        opens, closes = instant("2026-10-12T06:00:00Z"), instant("2026-10-12T19:00:00Z")
        self.assertEqual(window.next_open(self.BERLIN, opens - 1, "k"), opens)
        self.assertEqual(window.next_open(self.BERLIN, opens, "k"), opens)
        self.assertEqual(window.next_open(self.BERLIN, closes - 1, "k"), closes - 1)
        self.assertEqual(window.next_open(self.BERLIN, closes, "k"), opens + 86400)

    def test_days_are_those_on_which_it_opens(self):
        window = SendWindow({"hours": "22:00-02:00", "days": ["sat"]})
        saturday = instant("2026-10-17T20:00:00Z")
        self.assertEqual(window.next_open(self.BERLIN, instant("2026-10-12T09:00:00Z"), "k"), saturday)
        self.assertEqual(window.next_open(self.BERLIN, saturday + 4 * 3600 - 1, "k"), saturday + 4 * 3600 - 1)
        self.assertEqual(window.next_open(self.BERLIN, saturday + 4 * 3600, "k"), instant("2026-10-24T20:00:00Z"))

    def test_an_edge_that_is_skipped_is_the_first_instant_after(self):
        window = SendWindow({"hours": "02:30-06:00"})
        self.assertEqual(window.next_open(self.BERLIN, instant("2027-03-28T00:00:00Z"), "k"), instant("2027-03-28T01:00:00Z"))
        york = ZoneInfo("America/New_York")
        self.assertEqual(window.next_open(york, instant("2027-03-14T06:00:00Z"), "k"), instant("2027-03-14T07:00:00Z"))

    def test_an_edge_that_comes_twice_is_the_first_to_open_and_the_last_to_close(self):
        opening = SendWindow({"hours": "02:30-06:00"})
        self.assertEqual(opening.next_open(self.BERLIN, instant("2026-10-24T22:00:00Z"), "k"), instant("2026-10-25T00:30:00Z"))
        closing = SendWindow({"hours": "00:30-02:30"})
        last = instant("2026-10-25T01:30:00Z")
        self.assertEqual(closing.next_open(self.BERLIN, last - 1, "k"), last - 1)
        self.assertGreater(closing.next_open(self.BERLIN, last, "k"), last)

    def test_the_spread_stays_within_what_is_open(self):
        window = SendWindow({"hours": "08:00-08:10", "spread": "30m"})
        opens = instant("2026-10-12T06:00:00Z")
        offsets = {window.next_open(self.BERLIN, opens - 60, f"k{n}") - opens for n in range(500)}
        self.assertTrue(min(offsets) >= 0 and max(offsets) < 600 and len(offsets) > 250)

    def test_the_night_waits_for_the_morning_in_the_shoppers_zone(self):
        window = {"hours": "08:00-21:00"}
        for zone, opens in [("America/New_York", "2026-10-13T12:00:00Z"), (None, "2026-10-13T06:00:00Z"), ("Mars/Base", "2026-10-13T06:00:00Z")]:
            shop = Shop(send_window=window, shop={"timezone": "Europe/Berlin"})
            touched = instant("2026-10-13T01:30:00Z") if zone else instant("2026-10-12T22:00:00Z")
            shop.cart(touched, timezone=zone)
            found = shop.run_every(touched, instant("2026-10-13T14:00:00Z"))
            self.assertEqual(found, [(instant(opens), "c1", "reminder", "sent")], zone)

    def test_an_opening_past_the_end_is_expired_at_once(self):
        shop = Shop([{"name": "one", "after": "1h", "until": "4h"}], send_window={"hours": "08:00-10:00"}).cart(at())
        self.assertEqual(shop.run(at(hours=1)), [("c1", "one", "skipped expired")])


class Caps(unittest.TestCase):
    def test_waits_until_the_cap_ends_to_the_second(self):
        shop = Shop(caps={"per_person": ["1 in 20h"]}).cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=2), items={"B": 1})
        self.assertEqual(shop.run_every(at(hours=3), at(hours=21)), [])
        self.assertEqual(shop.run(at(hours=21) - 1), [])
        self.assertEqual(shop.run(at(hours=21)), [("c1", "reminder", "sent")])

    def test_capped_at_once_when_it_can_never_be(self):
        steps = [{"name": "one", "after": "1h", "until": "10h"}, {"name": "two", "after": "30h"}]
        shop = Shop(steps, caps={"per_person": ["1 in 20h"]}).cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=2), items={"B": 1})
        self.assertEqual(shop.run(at(hours=3)), [("c1", "one", "skipped capped")])
        self.assertEqual(shop.run(at(hours=32)), [("c1", "two", "sent")])

    def test_counts_campaigns_and_doubt(self):
        shop = Shop(caps={"per_person": ["2 in 7d"]}).cart(at())
        shop.do(at(), "campaign_mail", email="ada@example.com")
        shop.do(at(), "mailbox", email="ada@example.com", answer="doubt")
        self.assertEqual(shop.run(at(hours=1)), [("c1", "reminder", "in_doubt")])
        self.assertEqual(shop.run(at(hours=24)), [("c1", "second", "skipped capped")])

    def test_a_lowered_cap_waits_for_the_right_one(self):
        shop = Shop(caps={"per_person": ["2 in 30h"]}).cart(at())
        for hours in (0, 10, 20):
            shop.do(at(hours=hours - 20), "campaign_mail", email="ada@example.com")
        shop.run(at(hours=1))
        self.assertEqual(shop.model.rows[0].not_before, at(hours=20))

    def test_quiet_after_an_order(self):
        shop = Shop(caps={"quiet_after_order": "24h"})
        shop.do(at(hours=-1), "order", email="ada@example.com")
        shop.cart(at())
        self.assertEqual(shop.run(at(hours=23) - 1), [])
        self.assertEqual(shop.run(at(hours=23)), [("c1", "reminder", "sent")])


class Holdouts(unittest.TestCase):
    def test_written_where_step_one_would_be_planned_and_once(self):
        shop = Shop(holdout={"percent": 100, "salt": "2026"}).cart(at())
        self.assertEqual(shop.run_every(at(), at(5)), [(at(hours=1), "c1", "reminder", "skipped holdout")])

    def test_a_touch_makes_another_row_only_past_the_window(self):
        shop = Shop(holdout={"percent": 100, "salt": "2026"}).cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=20))
        self.assertEqual(shop.run_every(at(hours=20), at(hours=25)), [])

    def test_decided_at_the_first_step_alone(self):
        shop = Shop().cart(at())
        shop.run(at(hours=1))
        shop.do(at(hours=2), "config", set={"holdout": {"percent": 100, "salt": "2026"}})
        self.assertEqual(shop.run(at(hours=24)), [("c1", "second", "sent")])

    def test_the_share_is_about_right(self):
        held = sum(model.is_held_out("2026", 5, f"a{n}@example.com") for n in range(20000))
        self.assertTrue(900 < held < 1100, held)


class Coupons(unittest.TestCase):
    STEPS = [{"name": "one", "after": "1h", "coupon": "pool"}, {"name": "two", "after": "24h"}]

    def shop(self, codes, **pool):
        shop = Shop(self.STEPS, coupon=[{"name": "pool", **pool}])
        return shop.do(at(), "coupons", pool="pool", codes=codes)

    def code(self, shop, n=0):
        return shop.model.rows[n].code.code if shop.model.rows[n].code else None

    def test_the_code_that_ends_first_but_is_valid_long_enough(self):
        end = [text_of(at(hours=hours)) for hours in (48, 49, 100)]
        shop = self.shop([["A", end[0]], ["B", end[2]], ["C", end[1]], ["D", None]], min_validity="48h").cart(at())
        shop.run(at(hours=1))
        self.assertEqual(self.code(shop), "C")

    def test_an_empty_pool_waits_or_goes_without(self):
        for when_empty, expected in [("wait", []), ("without", [("c1", "one", "sent")])]:
            shop = self.shop([], when_empty=when_empty).cart(at())
            self.assertEqual(shop.run(at(hours=1)), expected)
        shop = self.shop([]).cart(at())
        shop.run(at(hours=1))
        shop.do(at(hours=2), "coupons", pool="pool", codes=[["A", None]])
        self.assertEqual(shop.run(at(hours=2)), [("c1", "one", "sent")])

    def test_freed_when_skipped_before_a_body_and_kept_when_refused(self):
        shop = self.shop([["A", None]]).cart(at())
        shop.run(at(hours=1), server="away")
        shop.do(at(hours=1, minutes=1), "order", cart_id="c1")
        shop.run(at(hours=1, minutes=2))
        self.assertIsNone(shop.model.codes["A"].row)
        shop = self.shop([["A", None]]).cart(at())
        shop.do(at(), "mailbox", email="ada@example.com", answer="refuse")
        shop.run(at(hours=1))
        self.assertEqual(self.code(shop), "A")

    def test_the_same_code_twice_is_one(self):
        shop = self.shop([["save-1", None], [" SAVE-1 ", None]])
        self.assertEqual(len(shop.model.codes), 1)

    def test_swapped_when_it_ends_too_soon_at_last(self):
        shop = self.shop([["A", text_of(at(hours=50))], ["B", text_of(at(hours=90))]], min_validity="48h").cart(at())
        shop.run(at(hours=1), server="away")
        self.assertEqual(self.code(shop), "A")
        self.assertEqual(shop.run(at(hours=3)), [("c1", "one", "sent")])
        self.assertEqual(self.code(shop), "B")
        self.assertIsNone(shop.model.codes["A"].row)

    def test_no_second_code_for_one_person(self):
        shop = self.shop([["A", None], ["B", None]], per_person="30d").cart(at())
        shop.run(at(hours=1))
        shop.cart(at(hours=2), items={"B": 1})
        self.assertEqual(shop.run(at(hours=3)), [("c1", "one", "skipped capped")])


class Filters(unittest.TestCase):
    def test_value_by_currency(self):
        for value, currency, sent in [(1999, "EUR", 0), (2000, "EUR", 1), (5, "USD", 1)]:
            shop = Shop(detect={"min_value": {"EUR": 2000}}).cart(at(), value=value, currency=currency)
            self.assertEqual(len(shop.run(at(hours=1))), sent)


if __name__ == "__main__":
    unittest.main()
