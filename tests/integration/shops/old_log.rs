//! An older system's log that the shop's own database holds.

use super::Shop;

const TABLE: &str = "
    CREATE TABLE cart_abandonment_log (id INTEGER PRIMARY KEY, user_id INTEGER, email VARCHAR(100), cart_hash VARCHAR(64),
        cart_value DECIMAL(12,2), email_sent SMALLINT, created_at TIMESTAMP_TYPE NULL, source VARCHAR(20));
    INSERT INTO cart_abandonment_log VALUES
        (1, 7, 'ada@example.com', 'a', 19.90, 1, '2026-02-27 10:00:00', 'web'),
        (2, 7, 'ada@example.com', 'a', 19.90, 1, '2026-02-27 10:00:04', 'web'),
        (3, NULL, 'bob@example.com', 'b', NULL, 0, '2026-02-28 10:00:00', NULL),
        (4, NULL, NULL, 'c', NULL, 0, '2026-02-28 10:00:00', NULL),
        (5, 8, 'eve@example.com', 'd', 5.00, 0, NULL, NULL);";

#[test]
fn it_is_read_from_there_by_the_rules_of_a_dump_and_each_row_once() {
    for (world, shop) in Shop::everywhere() {
        shop.run(&world, &TABLE.replace("TIMESTAMP_TYPE", shop.time_type()));
        let world = world.init();
        let import = ["import", "log", "--source", "--timezone", "UTC"];
        let ran = world.exits(1, import);
        ran.says("5 rows read: 3 added, 0 there already").says("row 5").says("1 bad row left out");
        ran.says("1 row with neither user nor address left out").says("next: `mailonce cleanup-duplicates`");
        world.exits(1, import).says("0 added, 3 there already");
        world.ok(["cleanup-duplicates", "--timezone", "UTC"]).says("1 duplicate");
        world.ok(["add-index"]);
        world.ok(["audit"]).is_silent();
        let kept = "SELECT extra FROM cart_abandonment_log WHERE user_id = '7' AND cart_value IN ('19.90', '19.9')";
        assert_eq!(world.list(kept), "{\"source\":\"web\"}");
        assert_eq!(
            world.list("SELECT DISTINCT created_at FROM cart_abandonment_log WHERE old_id = '3'"),
            "2026-02-28T10:00:00Z"
        );
    }
}

#[test]
fn a_table_that_is_not_there_or_no_name_imports_nothing() {
    for (world, _shop) in Shop::everywhere() {
        let world = world.init();
        world.exits(65, ["import", "log", "--source", "--table", "nothing_here"]).says("nothing_here");
        world.exits(65, ["import", "log", "--source", "--table", "basket"]).says("has no column created_at");
        assert_eq!(world.number("SELECT count(*) FROM cart_abandonment_log"), 0);
    }
    for (world, _shop) in Shop::on_servers() {
        let world = world.init();
        world.exits(2, ["import", "log", "--source", "--table", "a; DROP TABLE basket"]).says("is no name of a table");
    }
}
