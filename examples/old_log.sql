-- The log of an older system, with what shops found in theirs: `sqlite3 old.db < old_log.sql` makes it.
-- Its times are wall times of Berlin. docs/adopting.md goes through it.
CREATE TABLE cart_abandonment_log (
    id         INTEGER PRIMARY KEY,
    user_id    INTEGER,
    email      TEXT,
    cart_hash  TEXT NOT NULL,
    email_sent BOOLEAN DEFAULT 0,
    created_at DATETIME,
    browser    TEXT
);
INSERT INTO cart_abandonment_log VALUES
    -- The same cart twice at 03:42: two runs at once, four seconds apart; two days later an abandonment of its own.
    (1, 7, 'ada@example.com', '5f2b7c1e90', 1, '2026-02-24 03:42:00', 'Firefox'),
    (2, 7, 'ada@example.com', '5f2b7c1e90', 1, '2026-02-24 03:42:04', 'Firefox'),
    (3, 7, 'ada@example.com', '5f2b7c1e90', 1, '2026-02-26 03:42:00', 'Firefox'),
    -- Four copies: a worker that was started four times.
    (4, 12, 'bob@example.com', 'c09d44a1f7', 1, '2026-02-25 09:00:00', NULL),
    (5, 12, 'bob@example.com', 'c09d44a1f7', 1, '2026-02-25 09:00:00', NULL),
    (6, 12, 'bob@example.com', 'c09d44a1f7', 1, '2026-02-25 09:00:01', NULL),
    (7, 12, 'bob@example.com', 'c09d44a1f7', 1, '2026-02-25 09:00:01', NULL),
    -- Retries: two tries that failed, each with a row, and the one that went through.
    (8, 21, 'cleo@example.com', '77e1aa02b3', 0, '2026-02-26 18:30:00', 'Safari'),
    (9, 21, 'cleo@example.com', '77e1aa02b3', 0, '2026-02-26 18:32:00', 'Safari'),
    (10, 21, 'cleo@example.com', '77e1aa02b3', 1, '2026-02-26 18:36:00', 'Safari'),
    -- A guest, spelled in two ways: a pending row beside a sent one.
    (11, NULL, 'eve@example.com', '0d4c9e6b21', 1, '2026-02-27 20:15:00', 'Chrome'),
    (12, NULL, ' Eve@Example.COM', '0d4c9e6b21', 0, '2026-02-27 20:45:00', 'Chrome'),
    -- Other contents are another cart.
    (13, 21, 'cleo@example.com', 'b8f0137d5c', 1, '2026-02-26 18:40:00', 'Safari'),
    -- No one that a mail could go to.
    (14, NULL, NULL, 'e2a95510cc', 0, '2026-02-27 22:00:00', 'Chrome');
