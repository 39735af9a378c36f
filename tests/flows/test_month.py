"""A month of the model itself against what must hold whatever the rules are in detail; no binary is needed."""

import unittest

import promises
import scenario
from model import Model, by_shopper, circumstances, instant, play, text_of


def lines_of(played):
    """The model's messages as rows of the ledger's table."""
    def text(at):
        return None if at is None else text_of(at)

    return [
        {
            "id": row.number, "message_key": row.key, "state": row.state, "reason": row.reason, "identity": row.identity,
            "folded_address": row.address, "cart_id": row.cart_id, "cart_hash": row.hash, "armed_at": text(row.armed_at),
            "step": row.step, "step_after": row.step_after, "was_armed": row.was_armed,
        }
        for row in played.rows
    ]


def played(month):
    shop, position = Model(month), 0
    for run in month["runs"]:
        while position < len(month["events"]) and month["events"][position]["at"] <= run:
            shop.apply(month["events"][position])
            position += 1
        shop.run(instant(run), **circumstances(month, run))
    return shop


class AMonth(unittest.TestCase):
    def test_no_promise_is_broken_in_any_configuration(self):
        for config in sorted(scenario.CONFIGS):
            for seed in (1, 2):
                month = scenario.month(seed, carts=100, config=config, every=60)
                shop = played(month)
                codes = [{"code": code.code, "message": code.row.number if code.row else None} for code in shop.codes.values()]
                self.assertEqual(promises.broken(month, lines_of(shop), codes), [], f"{config}, seed {seed}")

    def test_it_has_everything_in_it(self):
        month = scenario.month(1, carts=700, config="all", every=60)
        found = {decision["what"] for decision in play(month)}
        reasons = ("ordered", "changed", "empty", "superseded", "suppressed", "expired", "cancelled", "capped", "holdout")
        self.assertEqual({"sent", "refused", *(f"skipped {reason}" for reason in reasons)} - found, set())

    def test_the_same_seed_is_the_same_month(self):
        first, second = (scenario.month(3, carts=50, days=10) for _ in range(2))
        self.assertEqual(first, second)
        self.assertEqual(by_shopper(play(first)), by_shopper(play(second)))
        self.assertNotEqual(scenario.month(4, carts=50, days=10)["events"], first["events"])

    def test_a_broken_promise_is_seen(self):
        month = scenario.month(1, carts=100, config="all", every=60)
        shop = played(month)
        lines = lines_of(shop)
        went = [line for line in lines if line["state"] == "sent"]
        night = {**went[0], "armed_at": "2026-10-12T01:00:00Z"}
        self.assertTrue(list(promises.hours(promises.Past(month), [night])))
        twice = [went[0], {**went[0], "message_key": went[0]["message_key"] + "/again"}]
        self.assertTrue(list(promises.steps(promises.Past(month), twice)))
        self.assertTrue(list(promises.gaps_and_caps(promises.Past(month), twice)))


if __name__ == "__main__":
    unittest.main()
