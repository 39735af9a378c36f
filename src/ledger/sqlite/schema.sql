-- The ledger, schema 11. The constraints and triggers repeat the promise: a slip in the code meets one of these by name.
-- What is looked at for every message is a chain of OR: SQLite makes a table for each IN of three or more, each time.

CREATE TABLE ledger (
    one            INTEGER PRIMARY KEY CONSTRAINT only_one CHECK (one = 1),
    ledger_id      TEXT NOT NULL,
    kind           TEXT NOT NULL CONSTRAINT ledger_kind CHECK (kind IN ('live', 'rehearsal')),
    born_at        TEXT NOT NULL,
    -- Raised by every run: only the newest may arm.
    epoch          INTEGER NOT NULL,
    -- The newest instant recorded as done, and the newest attempt it covers; the clock is compared with them.
    newest_at      TEXT NOT NULL,
    newest_attempt INTEGER NOT NULL DEFAULT 0,
    -- Set when an old copy was put back: carts touched before are left alone.
    held_back_at   TEXT,
    -- How long one cart message keeps the next for the same shopper and contents away; the triggers use it.
    window_seconds INTEGER NOT NULL CONSTRAINT window_is_positive CHECK (window_seconds > 0),
    -- The shortest it ever was: `audit` holds the whole history to this one. NULL: as it is.
    least_window_seconds INTEGER,
    -- The machine that wrote last (NULL: one without an identity), its name for people, and since which run it does.
    host_id        TEXT,
    host_name      TEXT,
    host_since     INTEGER,
    -- Two steps never leave within so long of each other.
    step_gap_seconds INTEGER NOT NULL DEFAULT 3600,
    -- Up to when the shop's orders were read, to be held against the mail; where they are many, before when not all of the last
    -- two days are read again; and for how many seconds after a message an order counts.
    orders_read_to   TEXT,
    orders_all_from  TEXT,
    orders_count_for INTEGER,
    -- Up to when the shop's own list of those who want no mail was read.
    opt_outs_read_to TEXT,
    -- What was settled before this may be deleted, and no cart touched before it is written to.
    pruned_to TEXT
) STRICT;

CREATE TRIGGER ledger_is_kept BEFORE DELETE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'ledger_is_kept: what the ledger says of itself is never deleted');
END;

CREATE TABLE run (
    epoch          INTEGER PRIMARY KEY,
    command        TEXT NOT NULL,
    started_at     TEXT NOT NULL,
    -- NULL while it runs, and still when it died.
    ended_at       TEXT,
    ending         TEXT,
    accepted_clock INTEGER NOT NULL DEFAULT 0,
    -- The newest attempt when it started: its own come after.
    attempt_after  INTEGER NOT NULL
) STRICT;

-- Runs that found nothing to do: a count and the latest, so that a cron line adds no row a minute.
CREATE TABLE idle_run (
    command           TEXT PRIMARY KEY,
    runs              INTEGER NOT NULL,
    first_started_at  TEXT NOT NULL,
    latest_epoch      INTEGER NOT NULL,
    latest_started_at TEXT NOT NULL,
    latest_ended_at   TEXT NOT NULL
) STRICT;

CREATE TABLE message (
    id               INTEGER PRIMARY KEY,
    message_key      TEXT NOT NULL CONSTRAINT message_key_once UNIQUE,
    kind             TEXT NOT NULL CONSTRAINT message_kind CHECK (kind IN ('cart', 'campaign')),
    state            TEXT NOT NULL CONSTRAINT message_state_known
                     CHECK (state = 'planned' OR state = 'armed' OR state = 'sent'
                            OR state = 'refused' OR state = 'skipped' OR state = 'in_doubt'),
    reason           TEXT CONSTRAINT skipped_has_reason CHECK (
                         (state = 'skipped') = (reason IS NOT NULL) AND (reason IS NULL OR reason IN
                         ('ordered', 'changed', 'empty', 'superseded', 'suppressed', 'expired', 'cancelled', 'held_back', 'capped', 'holdout'))),
    recipient        TEXT NOT NULL,
    folded_address   TEXT NOT NULL,
    message_id       TEXT NOT NULL,
    planned_at       TEXT NOT NULL,
    not_before       TEXT NOT NULL,
    expires_at       TEXT NOT NULL,
    armed_at         TEXT,
    settled_at       TEXT,
    -- From when the window counts: it was armed, refused, suppressed, cancelled, held back or held out then.
    blocking_at      TEXT GENERATED ALWAYS AS (
                         max(coalesce(armed_at, ''), CASE WHEN state = 'refused' OR reason IN ('suppressed', 'cancelled', 'held_back', 'holdout')
                                                          THEN coalesce(settled_at, '') ELSE '' END)) VIRTUAL,
    -- The run that armed it.
    epoch            INTEGER,
    last_reply       TEXT,
    -- A cart message: which cart, what was in it, and when it had been touched last.
    identity         TEXT,
    cart_id          TEXT,
    cart_hash        TEXT,
    cart_touched_at  TEXT,
    -- A campaign message: which opening it belongs to, and its row of the audience (JSON).
    occurrence       INTEGER REFERENCES campaign_occurrence (id),
    recipient_values TEXT,
    -- A cart message: since when the shop has not shown its cart; NULL while it does.
    missing_since    TEXT,
    -- A cart message: the key of the first one of its episode, which step of it this is, and how long after the last touch that
    -- step comes, in seconds. NULL: from before there were steps, or without any; it is the first then.
    episode          TEXT,
    step             TEXT,
    step_after       INTEGER,
    -- Which variant of the step it is, and in which language: fixed when it is planned. NULL: there are none; it is not known.
    variant          TEXT,
    locale           TEXT,
    CONSTRAINT cart_has_episode CHECK ((kind = 'cart') = (episode IS NOT NULL)),
    CONSTRAINT step_has_its_place CHECK ((step IS NULL) = (step_after IS NULL) AND (step IS NULL OR episode IS NOT NULL)),
    CONSTRAINT armed_has_epoch CHECK (state <> 'armed' OR (epoch IS NOT NULL AND armed_at IS NOT NULL)),
    CONSTRAINT planned_is_unarmed CHECK (state <> 'planned' OR armed_at IS NULL),
    CONSTRAINT sent_was_armed CHECK (state NOT IN ('sent', 'in_doubt') OR armed_at IS NOT NULL),
    CONSTRAINT settled_has_instant CHECK ((state IN ('planned', 'armed')) = (settled_at IS NULL)),
    CONSTRAINT cart_or_campaign CHECK (
        (kind = 'cart' AND occurrence IS NULL AND identity IS NOT NULL AND cart_id IS NOT NULL
            AND cart_hash IS NOT NULL AND cart_touched_at IS NOT NULL)
        OR (kind = 'campaign' AND occurrence IS NOT NULL AND cart_id IS NULL AND cart_hash IS NULL))
) STRICT;

-- By state, each for who reads it: a message on its way costs a page of one each time it moves, so it leaves the first,
-- passes through the second, and is in none once it is sent. The count of the sent is what remains of all.
-- What is due.
CREATE INDEX message_planned ON message (occurrence, not_before) WHERE state = 'planned';
-- What a dead run left.
CREATE INDEX message_armed ON message (id) WHERE state = 'armed';
CREATE INDEX message_in_doubt ON message (id) WHERE state = 'in_doubt';
-- What can be planned again.
CREATE INDEX message_refused ON message (occurrence) WHERE state = 'refused';
CREATE INDEX message_skipped ON message (occurrence, reason) WHERE state = 'skipped';
CREATE INDEX message_of_shopper ON message (identity, cart_hash) WHERE cart_hash IS NOT NULL;
CREATE INDEX message_of_address ON message (folded_address, cart_hash) WHERE cart_hash IS NOT NULL;
CREATE INDEX message_of_cart ON message (cart_id, identity) WHERE cart_id IS NOT NULL;
CREATE UNIQUE INDEX step_once ON message (episode, step) WHERE episode IS NOT NULL;
CREATE UNIQUE INDEX one_planned_per_address ON message (folded_address) WHERE kind = 'cart' AND state = 'planned';
CREATE UNIQUE INDEX one_planned_per_cart ON message (cart_id) WHERE kind = 'cart' AND state = 'planned';
CREATE UNIQUE INDEX one_per_occurrence_and_address ON message (occurrence, folded_address) WHERE kind = 'campaign';

CREATE TABLE attempt (
    id       INTEGER PRIMARY KEY,
    message  INTEGER NOT NULL REFERENCES message (id),
    epoch    INTEGER NOT NULL,
    -- NULL when it ended before the body.
    armed_at TEXT,
    ended_at TEXT NOT NULL,
    outcome  TEXT NOT NULL CONSTRAINT attempt_outcome
             CHECK (outcome = 'sent' OR outcome = 'deferred' OR outcome = 'refused' OR outcome = 'in_doubt'),
    reply    TEXT NOT NULL
) STRICT;
CREATE INDEX attempt_of_message ON attempt (message);

-- How each doubt was settled: by whom, when, why, and on which lines of a mail log.
CREATE TABLE resolution (
    id         INTEGER PRIMARY KEY,
    message    INTEGER NOT NULL REFERENCES message (id),
    -- Which try it is about.
    armed_at   TEXT NOT NULL,
    decided_at TEXT NOT NULL,
    decision   TEXT NOT NULL CONSTRAINT resolution_decision CHECK (decision IN ('sent', 'planned', 'refused')),
    who        TEXT NOT NULL CONSTRAINT resolution_has_who CHECK (who <> ''),
    reason     TEXT NOT NULL CONSTRAINT resolution_has_reason CHECK (reason <> ''),
    evidence   TEXT
) STRICT;
CREATE INDEX resolution_of_message ON resolution (message);

-- One row for each abandonment of a cart; rows without a message key come from an older system.
CREATE TABLE cart_abandonment_log (
    id           INTEGER PRIMARY KEY,
    identity     TEXT NOT NULL,
    user_id      TEXT,
    email        TEXT,
    cart_id      TEXT,
    cart_hash    TEXT NOT NULL,
    cart_value   TEXT,
    currency     TEXT,
    created_at   TEXT NOT NULL,
    email_sent   INTEGER NOT NULL DEFAULT 0 CONSTRAINT email_sent_is_a_flag CHECK (email_sent IN (0, 1)),
    last_sent_at TEXT,
    message_key  TEXT CONSTRAINT episode_has_one_message UNIQUE REFERENCES message (message_key),
    origin       TEXT NOT NULL,
    -- The row's id in an older system, and its columns that mean nothing here (JSON; import log).
    old_id       TEXT,
    extra        TEXT
) STRICT;
CREATE UNIQUE INDEX idx_user_cart_unique ON cart_abandonment_log (user_id, cart_hash, created_at);
-- The same for guests, who have no user_id; it also finds what is known of an identity.
CREATE UNIQUE INDEX episode_once ON cart_abandonment_log (identity, cart_hash, created_at);
CREATE INDEX episode_of_address ON cart_abandonment_log (lower(trim(email)));

-- Rows of an older system that another row stands for. They still count as history: see the window's triggers.
CREATE TABLE removed_duplicate (
    identity     TEXT NOT NULL,
    user_id      TEXT,
    email        TEXT,
    cart_id      TEXT,
    cart_hash    TEXT NOT NULL,
    cart_value   TEXT,
    currency     TEXT,
    created_at   TEXT NOT NULL,
    email_sent   INTEGER NOT NULL,
    last_sent_at TEXT,
    origin       TEXT NOT NULL,
    old_id       TEXT,
    extra        TEXT,
    -- Its id in cart_abandonment_log, if it was ever there; that of the row that stands for it; and when it was moved.
    removed_row  INTEGER,
    kept_row     INTEGER NOT NULL,
    moved_aside_at   TEXT NOT NULL
) STRICT;
CREATE INDEX removed_duplicate_of_identity ON removed_duplicate (identity, cart_hash, created_at);
CREATE INDEX removed_duplicate_of_address ON removed_duplicate (lower(trim(email)));

-- `list` is the kind of mail that this is about: 'cart', or the list of a campaign; '' is all of it.
CREATE TABLE suppression (
    folded_address TEXT NOT NULL,
    reason         TEXT NOT NULL,
    added_at       TEXT NOT NULL,
    origin         TEXT NOT NULL,
    list           TEXT NOT NULL DEFAULT ''
) STRICT;
-- A bounce does not stand in for a wish that comes later, or that one would go when the bounce is taken back.
CREATE UNIQUE INDEX suppressed_once ON suppression (folded_address, list, origin);

-- What was taken off that list, and why: it is the answer when someone asks why they get mail again.
CREATE TABLE removed_suppression (
    folded_address TEXT NOT NULL,
    reason         TEXT NOT NULL,
    added_at       TEXT NOT NULL,
    origin         TEXT NOT NULL,
    list           TEXT NOT NULL,
    removed_at     TEXT NOT NULL,
    removed_why    TEXT NOT NULL
) STRICT;

-- What came back about a message: bounces, complaints, requests to get no more. `digest` is of the mail that says so, or of
-- the click or the reply that does, so that the same one counts once.
CREATE TABLE report (
    id          INTEGER PRIMARY KEY,
    digest      BLOB NOT NULL CONSTRAINT report_once UNIQUE,
    received_at TEXT NOT NULL,
    -- NULL: it is not known which.
    message     INTEGER REFERENCES message (id),
    class       TEXT NOT NULL,
    action      TEXT,
    status      TEXT,
    -- In the words of whoever reported it, at most 300 characters.
    diagnostic  TEXT,
    reporter    TEXT,
    -- It returned the message's own headers: the server had taken it over.
    proves      INTEGER NOT NULL DEFAULT 0 CONSTRAINT proves_is_a_flag CHECK (proves IN (0, 1)),
    -- Of its message.
    folded_address TEXT
) STRICT;
CREATE INDEX report_of_message ON report (message) WHERE message IS NOT NULL;
CREATE INDEX report_of_address ON report (folded_address) WHERE folded_address IS NOT NULL;
CREATE INDEX report_by_time ON report (received_at);

-- How many messages are in each state, kept by the triggers below. Occurrence 0: carts. Reason '': none. `entered`: how often
-- one came to be so, which never falls. `pruned` of them have no row any more.
CREATE TABLE message_tally (
    occurrence INTEGER NOT NULL,
    state      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    messages   INTEGER NOT NULL,
    entered    INTEGER NOT NULL,
    pruned     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (occurrence, state, reason)
) STRICT, WITHOUT ROWID;

-- The same of all else that is counted for people and their monitoring: 'attempt' by outcome, 'report' by class, 'suppressed' by
-- origin (how often) and 'suppressed address' (how many now), 'order' by step and 'order value' by step and currency, as first
-- recorded, in ten thousandths.
CREATE TABLE tally (
    counted TEXT NOT NULL,
    part    TEXT NOT NULL,
    number  INTEGER NOT NULL,
    pruned  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (counted, part)
) STRICT, WITHOUT ROWID;

-- People who are forgotten: a keyed hash stands where their address stood. One who was taken back is written to about what
-- came after.
CREATE TABLE forgotten (
    pseudonym     TEXT PRIMARY KEY,
    forgotten_at  TEXT NOT NULL,
    taken_back_at TEXT
) STRICT, WITHOUT ROWID;

-- No more than so many bodies are begun to one address within so many seconds, since then. As the configuration says.
CREATE TABLE cap (
    seconds  INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL CONSTRAINT cap_is_positive CHECK (messages > 0),
    since    TEXT NOT NULL
) STRICT;

-- Codes that are given away, each to one message. They are secrets: no log shows them.
CREATE TABLE coupon_code (
    id             INTEGER PRIMARY KEY,
    pool           TEXT NOT NULL,
    code           TEXT NOT NULL,
    -- In small letters: one code in two spellings would be given twice.
    folded_code    TEXT NOT NULL,
    expires_at     TEXT,
    imported_at    TEXT NOT NULL,
    -- Since when it is held: an old copy of the ledger was put back, and it may have been given away since.
    held_at        TEXT,
    -- Whose it is, and since when; NULL: it is free.
    message        INTEGER REFERENCES message (id),
    folded_address TEXT,
    claimed_at     TEXT,
    CONSTRAINT coupon_claim_is_complete CHECK (
        (message IS NULL) = (folded_address IS NULL) AND (message IS NULL) = (claimed_at IS NULL))
) STRICT;
CREATE UNIQUE INDEX coupon_code_once ON coupon_code (folded_code);
CREATE UNIQUE INDEX message_has_one_coupon ON coupon_code (message) WHERE message IS NOT NULL;
CREATE INDEX coupon_free ON coupon_code (pool, coalesce(expires_at, '9'), code) WHERE message IS NULL AND held_at IS NULL;
CREATE INDEX coupon_of_person ON coupon_code (pool, folded_address, claimed_at) WHERE message IS NOT NULL;

-- What a person has been told and what still stands; `status` lists it. What was not told yet has no instant of it.
CREATE TABLE notice (
    notice_key  TEXT PRIMARY KEY,
    kind        TEXT NOT NULL,
    line        TEXT NOT NULL,
    first_at    TEXT NOT NULL,
    reported_at TEXT NOT NULL
) STRICT;

-- Bodies begun in each second of the real clock, for the limits; an hour is kept.
CREATE TABLE pace (
    second   INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL
) STRICT;

CREATE TABLE scheduled_campaign (
    campaign_id   TEXT PRIMARY KEY,
    next_run      TEXT,
    last_run      TEXT,
    total_runs    INTEGER NOT NULL DEFAULT 0,
    status        TEXT NOT NULL CONSTRAINT campaign_status
                  CHECK (status IN ('pending', 'running', 'completed', 'paused', 'cancelled')),
    enabled       INTEGER NOT NULL CONSTRAINT enabled_is_a_flag CHECK (enabled IN (0, 1)),
    -- When the ledger first saw it: nothing that fell due before ever opens.
    first_seen_at TEXT NOT NULL,
    -- Its schedule as last read, and whether it is in the definitions at all.
    schedule      TEXT NOT NULL,
    defined       INTEGER NOT NULL DEFAULT 1 CONSTRAINT defined_is_a_flag CHECK (defined IN (0, 1)),
    -- Anything more that is known of it, from an import.
    notes         TEXT,
    -- When it was cancelled: from then on nothing opens, also while messages that were planned again are sent.
    cancelled_at  TEXT,
    -- It is paused only because its definition was gone: when that is back, it goes on.
    paused_by_absence INTEGER NOT NULL DEFAULT 0 CONSTRAINT paused_by_absence_is_a_flag CHECK (paused_by_absence IN (0, 1)),
    -- Rows of the audience that was held to be cut short, when it was seen last; NULL after an opening.
    short_audience_rows INTEGER
) STRICT;

-- The instants a schedule yielded: opened, once each, or left because their time had passed.
CREATE TABLE campaign_occurrence (
    id           INTEGER PRIMARY KEY,
    campaign_id  TEXT NOT NULL REFERENCES scheduled_campaign (campaign_id),
    planned_at   TEXT NOT NULL,
    state        TEXT NOT NULL CONSTRAINT occurrence_state CHECK (state IN ('opened', 'not_in_time')),
    decided_at   TEXT NOT NULL,
    -- What the opening fixed; later edits touch later occurrences only.
    schedule     TEXT NOT NULL,
    subject      TEXT,
    template     TEXT,
    template_name TEXT,
    sender       TEXT,
    expires_at   TEXT,
    -- Rows of the audience, and how many of them were bad or repeated an address.
    audience_rows INTEGER,
    bad_rows     INTEGER,
    repeated     INTEGER,
    -- Messages planned when it opened: the counts by state add up to this.
    recipients   INTEGER,
    -- Which list its recipients are on; NULL, from before there were lists: news.
    list         TEXT,
    -- When it was stopped for what came back about its messages. It is stopped so once: a person may have let it go on.
    stopped_at   TEXT,
    CONSTRAINT occurrence_opens_once UNIQUE (campaign_id, planned_at),
    CONSTRAINT opened_is_complete CHECK (state <> 'opened' OR (subject IS NOT NULL AND template IS NOT NULL
        AND sender IS NOT NULL AND expires_at IS NOT NULL AND recipients IS NOT NULL))
) STRICT;

-- For the caps: which openings may have sent something within one.
CREATE INDEX occurrence_of_expiry ON campaign_occurrence (expires_at) WHERE state = 'opened';

CREATE TRIGGER occurrence_is_kept BEFORE DELETE ON campaign_occurrence WHEN OLD.state = 'opened'
BEGIN
    SELECT RAISE(ABORT, 'occurrence_is_kept: an opened occurrence is never deleted');
END;

CREATE TRIGGER occurrence_is_decided_once BEFORE UPDATE OF id, campaign_id, planned_at, state ON campaign_occurrence
BEGIN
    SELECT RAISE(ABORT, 'occurrence_is_decided_once: what was decided about an occurrence stands');
END;

CREATE TRIGGER message_begins_planned BEFORE INSERT ON message
WHEN NOT (NEW.state = 'planned' OR (NEW.state = 'skipped' AND (NEW.reason = 'superseded' OR NEW.reason = 'holdout'))
    OR (NEW.state = 'skipped' AND (NEW.reason = 'expired' OR NEW.reason = 'capped') AND NEW.step IS NOT NULL))
BEGIN
    SELECT RAISE(ABORT, 'message_begins_planned: a message begins as planned, as superseded, as held out, or as a step that came too late');
END;

CREATE TRIGGER message_moves BEFORE UPDATE OF state ON message
WHEN NOT (
    (OLD.state = 'planned'
        AND (NEW.state = 'planned' OR NEW.state = 'armed' OR NEW.state = 'refused' OR NEW.state = 'skipped'))
    OR (OLD.state = 'armed'
        AND (NEW.state = 'sent' OR NEW.state = 'planned' OR NEW.state = 'refused' OR NEW.state = 'in_doubt'))
    OR (OLD.state = 'refused' AND NEW.state = 'planned')
    OR (OLD.state = 'skipped' AND OLD.reason IN ('expired', 'cancelled') AND NEW.state = 'planned')
    OR (OLD.state = 'in_doubt' AND NEW.state IN ('sent', 'planned', 'refused')))
BEGIN
    SELECT RAISE(ABORT, 'message_moves: this move between states is not allowed');
END;

CREATE TRIGGER doubt_is_settled_on_record BEFORE UPDATE OF state ON message
WHEN OLD.state = 'in_doubt' AND NEW.state IN ('sent', 'planned', 'refused') AND NOT EXISTS (
    SELECT 1 FROM resolution WHERE message = OLD.id AND armed_at = OLD.armed_at AND decision = NEW.state)
BEGIN
    SELECT RAISE(ABORT, 'doubt_is_settled_on_record: what is in doubt moves only with a resolution of this try');
END;

CREATE TRIGGER resolution_is_kept BEFORE DELETE ON resolution
WHEN NOT EXISTS (SELECT 1 FROM message AS m, ledger WHERE m.id = OLD.message AND m.state IN ('sent', 'refused', 'skipped') AND m.settled_at < pruned_to)
BEGIN
    SELECT RAISE(ABORT, 'resolution_is_kept: resolutions are never deleted');
END;

CREATE TRIGGER resolution_stands BEFORE UPDATE ON resolution
WHEN NOT EXISTS (SELECT 1 FROM message AS m JOIN forgotten ON pseudonym = m.folded_address WHERE m.id = OLD.message)
    OR (NEW.id, NEW.message, NEW.armed_at, NEW.decided_at, NEW.decision, NEW.who) IS NOT (OLD.id, OLD.message, OLD.armed_at, OLD.decided_at, OLD.decision, OLD.who)
BEGIN
    SELECT RAISE(ABORT, 'resolution_stands: a resolution is never changed');
END;

-- Only a running campaign is delivered: one that was done runs again when any of its messages is planned again.
CREATE TRIGGER planned_again_runs_again AFTER UPDATE OF state ON message
WHEN NEW.state = 'planned' AND NEW.occurrence IS NOT NULL
BEGIN
    UPDATE scheduled_campaign SET status = 'running'
    WHERE status IN ('pending', 'completed')
      AND campaign_id = (SELECT campaign_id FROM campaign_occurrence WHERE id = NEW.occurrence);
END;

-- Held back, because an old copy of the ledger was put back: it may have gone out, so that nothing plans it again.
CREATE TRIGGER held_back_for_good BEFORE UPDATE OF reason ON message
WHEN OLD.reason = 'held_back' AND NEW.state = 'skipped' AND NEW.reason IS NOT 'held_back'
BEGIN
    SELECT RAISE(ABORT, 'held_back_for_good: a message that was held back may have gone out');
END;

-- Held out: nothing is sent instead, or the comparison would count mail as none.
CREATE TRIGGER held_out_for_good BEFORE UPDATE OF reason ON message
WHEN OLD.reason = 'holdout' AND NEW.reason IS NOT 'holdout'
BEGIN
    SELECT RAISE(ABORT, 'held_out_for_good: a message that was held out is not sent after all');
END;

-- Whether an episode is held out is decided where its first message would have been planned; what came too late was none.
CREATE TRIGGER holdout_comes_first BEFORE INSERT ON message
WHEN NEW.kind = 'cart' AND NEW.reason = 'holdout'
BEGIN
    SELECT RAISE(ABORT, 'holdout_comes_first: a message of this episode was planned, or is held out already')
    WHERE EXISTS (SELECT 1 FROM message AS other WHERE other.episode = NEW.episode
                  AND NOT (other.reason IS 'expired' AND other.settled_at = other.planned_at));
END;

-- REPLACE deletes the row in its way, and no trigger on DELETE hears of it. So a row whose place is taken is refused before.
-- Not on idle_run, notice and pace, which mailonce itself writes over; removed_duplicate has no key that could be taken.
CREATE TRIGGER ledger_is_not_replaced BEFORE INSERT ON ledger
WHEN EXISTS (SELECT 1 FROM ledger)
BEGIN
    SELECT RAISE(ABORT, 'ledger_is_not_replaced: a ledger says one thing of itself');
END;

CREATE TRIGGER run_is_not_replaced BEFORE INSERT ON run
WHEN EXISTS (SELECT 1 FROM run WHERE epoch = NEW.epoch)
BEGIN
    SELECT RAISE(ABORT, 'run_is_not_replaced: there is a run of this epoch');
END;

CREATE TRIGGER run_is_itself BEFORE UPDATE OF epoch ON run
BEGIN
    SELECT RAISE(ABORT, 'run_is_itself: the epoch of a run never changes');
END;

CREATE TRIGGER message_is_not_replaced BEFORE INSERT ON message
WHEN EXISTS (SELECT 1 FROM message WHERE message_key = NEW.message_key)
    OR EXISTS (SELECT 1 FROM message WHERE id = NEW.id)
    OR EXISTS (SELECT 1 FROM message AS other WHERE other.episode = NEW.episode AND other.step = NEW.step)
    OR (NEW.kind = 'campaign' AND EXISTS (SELECT 1 FROM message AS other WHERE other.kind = 'campaign'
            AND other.occurrence = NEW.occurrence AND other.folded_address = NEW.folded_address))
    OR (NEW.kind = 'cart' AND NEW.state = 'planned' AND (
            EXISTS (SELECT 1 FROM message AS other WHERE other.kind = 'cart' AND other.state = 'planned'
                    AND other.folded_address = NEW.folded_address)
            OR EXISTS (SELECT 1 FROM message AS other WHERE other.kind = 'cart' AND other.state = 'planned'
                       AND other.cart_id = NEW.cart_id)))
BEGIN
    SELECT RAISE(ABORT, 'message_is_not_replaced: there is a message with this key, or in this place');
END;

CREATE TRIGGER planned_again_replaces_none BEFORE UPDATE OF state ON message
WHEN NEW.state = 'planned' AND NEW.kind = 'cart' AND (
    EXISTS (SELECT 1 FROM message AS other WHERE other.kind = 'cart' AND other.state = 'planned'
            AND other.folded_address = NEW.folded_address AND other.id <> OLD.id)
    OR EXISTS (SELECT 1 FROM message AS other WHERE other.kind = 'cart' AND other.state = 'planned'
               AND other.cart_id = NEW.cart_id AND other.id <> OLD.id))
BEGIN
    SELECT RAISE(ABORT, 'planned_again_replaces_none: another message to this address, or about this cart, is planned');
END;

CREATE TRIGGER attempt_is_not_replaced BEFORE INSERT ON attempt
WHEN EXISTS (SELECT 1 FROM attempt WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'attempt_is_not_replaced: there is a try with this id');
END;

CREATE TRIGGER attempt_is_kept BEFORE DELETE ON attempt
WHEN NOT EXISTS (SELECT 1 FROM message AS m, ledger WHERE m.id = OLD.message AND m.state IN ('sent', 'refused', 'skipped') AND m.settled_at < pruned_to)
BEGIN
    SELECT RAISE(ABORT, 'attempt_is_kept: tries are never deleted');
END;

-- The words of a server may hold the address of someone who is forgotten.
CREATE TRIGGER attempt_stands BEFORE UPDATE ON attempt
WHEN NOT EXISTS (SELECT 1 FROM message AS m JOIN forgotten ON pseudonym = m.folded_address WHERE m.id = OLD.message)
    OR (NEW.id, NEW.message, NEW.epoch, NEW.armed_at, NEW.ended_at, NEW.outcome) IS NOT (OLD.id, OLD.message, OLD.epoch, OLD.armed_at, OLD.ended_at, OLD.outcome)
BEGIN
    SELECT RAISE(ABORT, 'attempt_stands: a try is never changed');
END;

CREATE TRIGGER resolution_is_not_replaced BEFORE INSERT ON resolution
WHEN EXISTS (SELECT 1 FROM resolution WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'resolution_is_not_replaced: there is a resolution with this id');
END;

CREATE TRIGGER episode_is_not_replaced BEFORE INSERT ON cart_abandonment_log
WHEN EXISTS (SELECT 1 FROM cart_abandonment_log WHERE id = NEW.id)
    OR EXISTS (SELECT 1 FROM cart_abandonment_log WHERE message_key = NEW.message_key)
    OR EXISTS (SELECT 1 FROM cart_abandonment_log
               WHERE user_id = NEW.user_id AND cart_hash = NEW.cart_hash AND created_at = NEW.created_at)
    OR EXISTS (SELECT 1 FROM cart_abandonment_log
               WHERE identity = NEW.identity AND cart_hash = NEW.cart_hash AND created_at = NEW.created_at)
BEGIN
    SELECT RAISE(ABORT, 'episode_is_not_replaced: there is a row with this id, or of this shopper, cart and second');
END;

CREATE TRIGGER episode_is_kept BEFORE DELETE ON cart_abandonment_log
WHEN OLD.message_key IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM message AS m, ledger WHERE m.message_key = OLD.message_key AND m.state IN ('sent', 'refused', 'skipped') AND m.settled_at < pruned_to)
BEGIN
    SELECT RAISE(ABORT, 'episode_is_kept: the row of a message is never deleted');
END;

CREATE TRIGGER episode_is_itself BEFORE UPDATE OF id, identity, user_id, cart_id, cart_hash, created_at, message_key ON cart_abandonment_log
WHEN (OLD.message_key IS NOT NULL OR NEW.message_key IS NOT NULL
    OR EXISTS (SELECT 1 FROM cart_abandonment_log AS other WHERE other.id <> OLD.id AND (other.id = NEW.id
               OR (other.user_id = NEW.user_id AND other.cart_hash = NEW.cart_hash AND other.created_at = NEW.created_at)))
    OR EXISTS (SELECT 1 FROM cart_abandonment_log AS other WHERE other.id <> OLD.id
               AND other.identity = NEW.identity AND other.cart_hash = NEW.cart_hash AND other.created_at = NEW.created_at))
    AND NOT (EXISTS (SELECT 1 FROM forgotten WHERE pseudonym = NEW.email) AND (NEW.id, NEW.cart_hash, NEW.created_at) IS (OLD.id, OLD.cart_hash, OLD.created_at))
BEGIN
    SELECT RAISE(ABORT, 'episode_is_itself: what identifies the row of a message never changes, and none takes the place of another');
END;

CREATE TRIGGER suppression_is_not_replaced BEFORE INSERT ON suppression
WHEN EXISTS (SELECT 1 FROM suppression WHERE folded_address = NEW.folded_address AND list = NEW.list AND origin = NEW.origin)
BEGIN
    SELECT RAISE(ABORT, 'suppression_is_not_replaced: this address is on the list, with its first reason and date');
END;

CREATE TRIGGER suppression_is_itself BEFORE UPDATE OF folded_address, list, origin ON suppression
WHEN NOT EXISTS (SELECT 1 FROM forgotten WHERE pseudonym = NEW.folded_address) OR (NEW.list, NEW.origin) IS NOT (OLD.list, OLD.origin)
BEGIN
    SELECT RAISE(ABORT, 'suppression_is_itself: remove the address and add the other');
END;

CREATE TRIGGER report_is_not_replaced BEFORE INSERT ON report
WHEN EXISTS (SELECT 1 FROM report WHERE id = NEW.id) OR EXISTS (SELECT 1 FROM report WHERE digest = NEW.digest)
BEGIN
    SELECT RAISE(ABORT, 'report_is_not_replaced: this report is known');
END;

CREATE TRIGGER report_stands BEFORE UPDATE ON report
WHEN NOT EXISTS (SELECT 1 FROM forgotten WHERE pseudonym = NEW.folded_address)
    OR (NEW.id, NEW.digest, NEW.received_at, NEW.message, NEW.class, NEW.proves) IS NOT (OLD.id, OLD.digest, OLD.received_at, OLD.message, OLD.class, OLD.proves)
BEGIN
    SELECT RAISE(ABORT, 'report_stands: a report is never changed');
END;

CREATE TRIGGER report_is_kept BEFORE DELETE ON report
WHEN OLD.received_at >= (SELECT coalesce(pruned_to, '') FROM ledger)
    OR (OLD.message IS NOT NULL AND NOT EXISTS (SELECT 1 FROM message AS m, ledger WHERE m.id = OLD.message AND m.state IN ('sent', 'refused', 'skipped') AND m.settled_at < pruned_to))
BEGIN
    SELECT RAISE(ABORT, 'report_is_kept: reports are never deleted');
END;

CREATE TRIGGER coupon_is_not_replaced BEFORE INSERT ON coupon_code
WHEN EXISTS (SELECT 1 FROM coupon_code WHERE id = NEW.id) OR EXISTS (SELECT 1 FROM coupon_code WHERE folded_code = NEW.folded_code)
    OR EXISTS (SELECT 1 FROM coupon_code WHERE message = NEW.message)
BEGIN
    SELECT RAISE(ABORT, 'coupon_is_not_replaced: this code is known, or its message has one');
END;

CREATE TRIGGER coupon_is_itself BEFORE UPDATE OF id, pool, code, folded_code ON coupon_code
BEGIN
    SELECT RAISE(ABORT, 'coupon_is_itself: a code and its pool never change');
END;

CREATE TRIGGER coupon_is_kept BEFORE DELETE ON coupon_code WHEN OLD.message IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'coupon_is_kept: a code that was given to a message is never deleted');
END;

-- Once a body may have left with it, it is that message's for good.
CREATE TRIGGER coupon_is_burnt BEFORE UPDATE OF message ON coupon_code
WHEN OLD.message IS NOT NULL AND NEW.message IS NOT OLD.message
    AND (EXISTS (SELECT 1 FROM attempt WHERE message = OLD.message AND armed_at IS NOT NULL)
         OR EXISTS (SELECT 1 FROM message WHERE id = OLD.message AND armed_at IS NOT NULL))
BEGIN
    SELECT RAISE(ABORT, 'coupon_is_burnt: a body may have left with this code');
END;

-- A message that is decided against gives back its code, if no body was ever begun with it. Of what is held back that is not
-- known.
CREATE TRIGGER coupon_is_free_again AFTER UPDATE OF state ON message
WHEN OLD.state = 'planned' AND NEW.state = 'skipped' AND NEW.reason <> 'held_back'
    AND NOT EXISTS (SELECT 1 FROM attempt WHERE message = NEW.id AND armed_at IS NOT NULL)
BEGIN
    UPDATE coupon_code SET message = NULL, folded_address = NULL, claimed_at = NULL WHERE message = NEW.id;
END;

CREATE TRIGGER campaign_is_not_replaced BEFORE INSERT ON scheduled_campaign
WHEN EXISTS (SELECT 1 FROM scheduled_campaign WHERE campaign_id = NEW.campaign_id)
BEGIN
    SELECT RAISE(ABORT, 'campaign_is_not_replaced: there is a campaign with this id');
END;

CREATE TRIGGER campaign_is_itself BEFORE UPDATE OF campaign_id ON scheduled_campaign
BEGIN
    SELECT RAISE(ABORT, 'campaign_is_itself: the id of a campaign never changes');
END;

CREATE TRIGGER campaign_is_kept BEFORE DELETE ON scheduled_campaign
BEGIN
    SELECT RAISE(ABORT, 'campaign_is_kept: what is known of a campaign is never deleted');
END;

CREATE TRIGGER occurrence_is_not_replaced BEFORE INSERT ON campaign_occurrence
WHEN EXISTS (SELECT 1 FROM campaign_occurrence WHERE campaign_id = NEW.campaign_id AND planned_at = NEW.planned_at)
    OR EXISTS (SELECT 1 FROM campaign_occurrence WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'occurrence_is_not_replaced: something was decided about this occurrence already');
END;

-- What goes with a message goes before it, and only when that may be pruned.
CREATE TRIGGER message_is_kept BEFORE DELETE ON message
WHEN OLD.state NOT IN ('sent', 'refused', 'skipped') OR OLD.settled_at >= (SELECT coalesce(pruned_to, '') FROM ledger)
BEGIN
    SELECT RAISE(ABORT, 'message_is_kept: messages are never deleted but by pruning what was settled long ago');
END;

CREATE TRIGGER message_is_itself BEFORE UPDATE OF id, message_key, kind, message_id, identity, cart_hash, folded_address, occurrence, episode, step, step_after, variant ON message
WHEN NOT EXISTS (SELECT 1 FROM forgotten WHERE pseudonym = NEW.folded_address)
    OR (NEW.id, NEW.kind, NEW.message_id, NEW.cart_hash, NEW.occurrence, NEW.step, NEW.step_after, NEW.variant)
        IS NOT (OLD.id, OLD.kind, OLD.message_id, OLD.cart_hash, OLD.occurrence, OLD.step, OLD.step_after, OLD.variant)
BEGIN
    SELECT RAISE(ABORT, 'message_is_itself: what identifies a message never changes');
END;

CREATE TRIGGER arming_is_of_the_newest_run BEFORE UPDATE OF state ON message
WHEN NEW.state = 'armed' AND NEW.epoch IS NOT (SELECT epoch FROM ledger)
BEGIN
    SELECT RAISE(ABORT, 'arming_is_of_the_newest_run: a newer run has taken over');
END;

CREATE TRIGGER settling_is_of_the_arming_run BEFORE UPDATE OF state ON message
WHEN OLD.state = 'armed' AND NEW.state <> 'in_doubt' AND NEW.epoch IS NOT OLD.epoch
BEGIN
    SELECT RAISE(ABORT, 'settling_is_of_the_arming_run: another run armed it');
END;

-- The window: nothing for the same shopper (or address) and contents while one of another episode is open or in doubt, nor
-- within the window of one that was armed, refused, suppressed, cancelled, held back or held out; nor within it of an older system's row, whatever the
-- contents, unless its hash is one of ours.
CREATE TRIGGER window_on_planning BEFORE INSERT ON message
WHEN NEW.cart_hash IS NOT NULL AND NEW.state = 'planned'
BEGIN
    SELECT RAISE(ABORT, 'window_on_planning: a message for this shopper and cart is open or was sent within the window')
    WHERE EXISTS (SELECT 1 FROM message AS other
                  WHERE other.identity = NEW.identity AND other.cart_hash = NEW.cart_hash AND other.episode <> NEW.episode
                    AND (other.state IN ('planned', 'armed', 'in_doubt') OR other.blocking_at > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.planned_at, '-' || window_seconds || ' seconds') FROM ledger)))
       OR EXISTS (SELECT 1 FROM message AS other
                  WHERE other.folded_address = NEW.folded_address AND other.cart_hash = NEW.cart_hash AND other.episode <> NEW.episode
                    AND (other.state IN ('planned', 'armed', 'in_doubt') OR other.blocking_at > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.planned_at, '-' || window_seconds || ' seconds') FROM ledger)))
       OR EXISTS (SELECT 1 FROM cart_abandonment_log AS old
                  WHERE old.identity = NEW.identity AND +old.message_key IS NULL
                    AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.planned_at, '-' || window_seconds || ' seconds') FROM ledger))
       OR EXISTS (SELECT 1 FROM cart_abandonment_log AS old
                  WHERE lower(trim(old.email)) = NEW.folded_address AND +old.message_key IS NULL
                    AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.planned_at, '-' || window_seconds || ' seconds') FROM ledger))
       OR EXISTS (SELECT 1 FROM removed_duplicate AS old
                  WHERE old.identity = NEW.identity AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.planned_at, '-' || window_seconds || ' seconds') FROM ledger))
       OR EXISTS (SELECT 1 FROM removed_duplicate AS old
                  WHERE lower(trim(old.email)) = NEW.folded_address AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.planned_at, '-' || window_seconds || ' seconds') FROM ledger));
END;

CREATE TRIGGER window_on_arming BEFORE UPDATE OF state ON message
WHEN NEW.cart_hash IS NOT NULL AND NEW.state = 'armed'
BEGIN
    SELECT RAISE(ABORT, 'window_on_arming: a message for this shopper and cart is open or was sent within the window')
    WHERE EXISTS (SELECT 1 FROM message AS other
                  WHERE other.identity = NEW.identity AND other.cart_hash = NEW.cart_hash AND other.episode <> NEW.episode
                    AND (other.state IN ('armed', 'in_doubt') OR other.blocking_at > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || window_seconds || ' seconds') FROM ledger)))
       OR EXISTS (SELECT 1 FROM message AS other
                  WHERE other.folded_address = NEW.folded_address AND other.cart_hash = NEW.cart_hash AND other.episode <> NEW.episode
                    AND (other.state IN ('armed', 'in_doubt') OR other.blocking_at > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || window_seconds || ' seconds') FROM ledger)))
       OR EXISTS (SELECT 1 FROM cart_abandonment_log AS old
                  WHERE old.identity = NEW.identity AND +old.message_key IS NULL
                    AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || window_seconds || ' seconds') FROM ledger))
       OR EXISTS (SELECT 1 FROM cart_abandonment_log AS old
                  WHERE lower(trim(old.email)) = NEW.folded_address AND +old.message_key IS NULL
                    AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || window_seconds || ' seconds') FROM ledger))
       OR EXISTS (SELECT 1 FROM removed_duplicate AS old
                  WHERE old.identity = NEW.identity AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || window_seconds || ' seconds') FROM ledger))
       OR EXISTS (SELECT 1 FROM removed_duplicate AS old
                  WHERE lower(trim(old.email)) = NEW.folded_address AND (old.cart_hash = NEW.cart_hash OR old.cart_hash NOT GLOB 'v1:*')
                    AND max(coalesce(old.last_sent_at, ''), old.created_at) > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || window_seconds || ' seconds') FROM ledger));
END;

-- An episode begins with the message that names it; its steps follow in their order, one at a time, and only while nothing has
-- ended it.
CREATE TRIGGER step_is_of_its_episode BEFORE INSERT ON message
WHEN NEW.kind = 'cart' AND NEW.message_key <> NEW.episode
    AND NOT (NEW.message_key IS NEW.episode || '/' || NEW.step AND EXISTS (SELECT 1 FROM message WHERE message_key = NEW.episode))
BEGIN
    SELECT RAISE(ABORT, 'step_is_of_its_episode: a step follows the first message of its episode');
END;

CREATE TRIGGER steps_in_order BEFORE INSERT ON message
WHEN NEW.kind = 'cart' AND NEW.message_key <> NEW.episode
BEGIN
    SELECT RAISE(ABORT, 'steps_in_order: a step of this episode is open, comes later, or has ended it')
    WHERE EXISTS (SELECT 1 FROM message AS other WHERE other.episode = NEW.episode
                  AND (other.state = 'planned' OR other.state = 'armed' OR other.state = 'refused'
                       OR coalesce(other.step_after, -1) >= NEW.step_after
                       OR (other.state = 'skipped' AND other.reason NOT IN ('expired', 'capped', 'cancelled'))));
END;

CREATE TRIGGER steps_keep_their_order BEFORE UPDATE OF state ON message
WHEN NEW.kind = 'cart' AND (NEW.state = 'planned' OR NEW.state = 'armed')
BEGIN
    SELECT RAISE(ABORT, 'steps_keep_their_order: a later step of this episode was begun')
    WHERE EXISTS (SELECT 1 FROM message AS other WHERE other.episode = NEW.episode AND other.id <> NEW.id
                  AND other.armed_at IS NOT NULL AND coalesce(other.step_after, -1) > coalesce(NEW.step_after, -1));
END;

-- Also of two carts: a shopper gets no two steps at once.
CREATE TRIGGER steps_keep_distance BEFORE UPDATE OF state ON message
WHEN NEW.step IS NOT NULL AND NEW.state = 'armed'
BEGIN
    SELECT RAISE(ABORT, 'steps_keep_distance: another message about a cart was begun for this shopper just before')
    WHERE EXISTS (SELECT 1 FROM message AS other
                  WHERE other.folded_address = NEW.folded_address AND other.cart_hash IS NOT NULL AND other.id <> NEW.id
                    AND other.armed_at > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || step_gap_seconds || ' seconds') FROM ledger))
       OR EXISTS (SELECT 1 FROM message AS other
                  WHERE other.episode = NEW.episode AND other.id <> NEW.id
                    AND other.armed_at > (SELECT strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || step_gap_seconds || ' seconds') FROM ledger));
END;

-- Over carts and campaigns together. Nothing of an opening is begun after it expires, so that few of them are looked into.
CREATE TRIGGER cap_on_arming BEFORE UPDATE OF state ON message
WHEN NEW.state = 'armed' AND EXISTS (SELECT 1 FROM cap)
BEGIN
    SELECT RAISE(ABORT, 'cap_on_arming: this address has got as many as a cap allows')
    FROM (SELECT messages, strftime('%Y-%m-%dT%H:%M:%SZ', NEW.armed_at, '-' || seconds || ' seconds') AS began FROM cap)
    WHERE messages <= (SELECT count(*) FROM message AS other
                       WHERE other.folded_address = NEW.folded_address AND other.cart_hash IS NOT NULL
                         AND other.id <> NEW.id AND other.armed_at > began)
                    + (SELECT count(*) FROM campaign_occurrence AS o
                       CROSS JOIN message AS other INDEXED BY one_per_occurrence_and_address
                           ON other.kind = 'campaign' AND other.occurrence = o.id AND other.folded_address = NEW.folded_address
                       WHERE o.state = 'opened' AND o.expires_at > began AND other.id <> NEW.id AND other.armed_at > began);
END;

-- The row of an episode stands for all of its steps.
CREATE TRIGGER email_sent_means_sent BEFORE UPDATE OF email_sent ON cart_abandonment_log
WHEN NEW.email_sent = 1 AND NEW.message_key IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM message WHERE episode = NEW.message_key AND state = 'sent')
BEGIN
    SELECT RAISE(ABORT, 'email_sent_means_sent: only a sent message counts as mailed');
END;

-- Orders that followed a message: one order, one message, the last one begun before it. No sending rule reads this.
CREATE TABLE recovery (
    order_id       TEXT PRIMARY KEY,
    message        INTEGER NOT NULL REFERENCES message (id),
    how            TEXT NOT NULL CONSTRAINT recovery_how CHECK (how IN ('cart', 'person')),
    ordered_at     TEXT NOT NULL,
    -- As the shop has it now, in the currency's own decimals; NULL where it does not say.
    value          TEXT,
    currency       TEXT,
    status         TEXT NOT NULL CONSTRAINT recovery_status CHECK (status IN ('placed', 'cancelled', 'refunded')),
    -- For how long after a message an order counted when this was recorded.
    window_seconds INTEGER NOT NULL,
    recorded_at    TEXT NOT NULL
) STRICT;
CREATE INDEX recovery_by_time ON recovery (ordered_at);

CREATE TRIGGER recovery_follows_its_message BEFORE INSERT ON recovery
WHEN NOT EXISTS (SELECT 1 FROM message WHERE id = NEW.message AND (state = 'sent' OR state = 'in_doubt')
                 AND armed_at < NEW.ordered_at AND unixepoch(NEW.ordered_at) - unixepoch(armed_at) <= NEW.window_seconds)
BEGIN
    SELECT RAISE(ABORT, 'recovery_follows_its_message: an order counts for a message begun before it, within the window');
END;

CREATE TRIGGER recovery_is_not_replaced BEFORE INSERT ON recovery
WHEN EXISTS (SELECT 1 FROM recovery WHERE order_id = NEW.order_id)
BEGIN
    SELECT RAISE(ABORT, 'recovery_is_not_replaced: this order counts for a message already');
END;

CREATE TRIGGER recovery_stands BEFORE UPDATE OF order_id, message, how, ordered_at, window_seconds, recorded_at ON recovery
WHEN NOT EXISTS (SELECT 1 FROM message AS m JOIN forgotten ON pseudonym = m.folded_address WHERE m.id = OLD.message)
    OR (NEW.message, NEW.how, NEW.ordered_at, NEW.window_seconds, NEW.recorded_at) IS NOT (OLD.message, OLD.how, OLD.ordered_at, OLD.window_seconds, OLD.recorded_at)
BEGIN
    SELECT RAISE(ABORT, 'recovery_stands: an order counts for one message for good; only its value and status change');
END;

CREATE TRIGGER recovery_is_kept BEFORE DELETE ON recovery
WHEN NOT EXISTS (SELECT 1 FROM message AS m, ledger WHERE m.id = OLD.message AND m.state IN ('sent', 'refused', 'skipped') AND m.settled_at < pruned_to)
BEGIN
    SELECT RAISE(ABORT, 'recovery_is_kept: an order that was cancelled is marked, not deleted');
END;

-- Orders of people about whose cart a message was planned, or held out, at most the window before: for the comparison of the
-- two. `message` is the one that was planned or held out first in its episode.
CREATE TABLE episode_order (
    order_id   TEXT NOT NULL,
    message    INTEGER NOT NULL REFERENCES message (id),
    ordered_at TEXT NOT NULL,
    status     TEXT NOT NULL CONSTRAINT episode_order_status CHECK (status IN ('placed', 'cancelled', 'refunded')),
    PRIMARY KEY (message, order_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX episode_order_by_order ON episode_order (order_id);

CREATE TRIGGER episode_order_is_kept BEFORE DELETE ON episode_order
WHEN NOT EXISTS (SELECT 1 FROM message AS m, ledger WHERE m.id = OLD.message AND m.state IN ('sent', 'refused', 'skipped') AND m.settled_at < pruned_to)
BEGIN
    SELECT RAISE(ABORT, 'episode_order_is_kept: an order that was cancelled is marked, not deleted');
END;

-- A report that returns its header proves that a server took it over, whatever that said to the dot.
CREATE TRIGGER taken_over_already BEFORE UPDATE OF state ON message
WHEN NEW.state = 'armed' AND EXISTS (
    SELECT 1 FROM report WHERE report.message = NEW.id AND proves = 1
        AND NOT EXISTS (SELECT 1 FROM resolution AS r WHERE r.message = NEW.id AND r.decision = 'planned' AND r.decided_at >= received_at))
BEGIN
    SELECT RAISE(ABORT, 'taken_over_already: a report shows that a mail server has taken this message over');
END;

CREATE TRIGGER tally_message AFTER INSERT ON message
BEGIN
    INSERT INTO message_tally (occurrence, state, reason, messages, entered)
    VALUES (coalesce(NEW.occurrence, 0), NEW.state, coalesce(NEW.reason, ''), 1, 1)
    ON CONFLICT DO UPDATE SET messages = messages + 1, entered = entered + 1;
END;

CREATE TRIGGER tally_move AFTER UPDATE OF state, reason ON message
WHEN NEW.state <> OLD.state OR NEW.reason IS NOT OLD.reason
BEGIN
    UPDATE message_tally SET messages = messages - 1
    WHERE occurrence = coalesce(OLD.occurrence, 0) AND state = OLD.state AND reason = coalesce(OLD.reason, '');
    INSERT INTO message_tally (occurrence, state, reason, messages, entered)
    VALUES (coalesce(NEW.occurrence, 0), NEW.state, coalesce(NEW.reason, ''), 1, 1)
    ON CONFLICT DO UPDATE SET messages = messages + 1, entered = entered + 1;
END;

CREATE TRIGGER tally_pruned_message AFTER DELETE ON message
BEGIN
    UPDATE message_tally SET pruned = pruned + 1
    WHERE occurrence = coalesce(OLD.occurrence, 0) AND state = OLD.state AND reason = coalesce(OLD.reason, '');
END;

CREATE TRIGGER tally_attempt AFTER INSERT ON attempt
BEGIN
    INSERT INTO tally (counted, part, number) VALUES ('attempt', NEW.outcome, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER tally_pruned_attempt AFTER DELETE ON attempt
BEGIN
    UPDATE tally SET pruned = pruned + 1 WHERE counted = 'attempt' AND part = OLD.outcome;
END;

CREATE TRIGGER tally_report AFTER INSERT ON report
BEGIN
    INSERT INTO tally (counted, part, number) VALUES ('report', NEW.class, 1) ON CONFLICT DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER tally_pruned_report AFTER DELETE ON report
BEGIN
    UPDATE tally SET pruned = pruned + 1 WHERE counted = 'report' AND part = OLD.class;
END;

CREATE TRIGGER tally_suppression AFTER INSERT ON suppression
BEGIN
    INSERT INTO tally (counted, part, number) VALUES ('suppressed', NEW.origin, 1) ON CONFLICT DO UPDATE SET number = number + 1;
    INSERT INTO tally (counted, part, number)
    SELECT 'suppressed address', '', 1
    WHERE (SELECT count(*) FROM (SELECT 1 FROM suppression WHERE folded_address = NEW.folded_address LIMIT 2)) = 1
    ON CONFLICT DO UPDATE SET number = number + 1;
END;

CREATE TRIGGER tally_suppression_removed AFTER DELETE ON suppression
WHEN NOT EXISTS (SELECT 1 FROM suppression WHERE folded_address = OLD.folded_address)
BEGIN
    UPDATE tally SET number = number - 1 WHERE counted = 'suppressed address';
END;

CREATE TRIGGER tally_recovery AFTER INSERT ON recovery WHEN NEW.status = 'placed'
BEGIN
    INSERT INTO tally (counted, part, number)
    SELECT 'order', coalesce(step, ''), 1 FROM message WHERE id = NEW.message
    ON CONFLICT DO UPDATE SET number = number + 1;
    INSERT INTO tally (counted, part, number)
    SELECT 'order value', coalesce(step, '') || ' ' || coalesce(NEW.currency, ''), CAST(round(NEW.value * 10000) AS INTEGER)
    FROM message WHERE id = NEW.message AND NEW.value IS NOT NULL
    ON CONFLICT DO UPDATE SET number = number + excluded.number;
END;
