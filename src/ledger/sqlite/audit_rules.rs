//! The rules that span rows. Each has a name, and a query that yields one text, without an address, for each row that
//! breaks it.

pub(super) const RULES: &[(&str, &str)] = &[
    (
        // The table's own constraints: SQLite's check of the file does not look at them.
        "states",
        "SELECT message_id || ' is ' || state || ' and breaks a rule of its state' FROM message
         WHERE state NOT IN ('planned', 'armed', 'sent', 'refused', 'skipped', 'in_doubt')
             OR (state = 'skipped') <> (reason IS NOT NULL) OR (state = 'planned' AND armed_at IS NOT NULL)
             OR (state IN ('armed', 'sent', 'in_doubt') AND armed_at IS NULL) OR (state = 'armed' AND epoch IS NULL)
             OR (state IN ('planned', 'armed')) <> (settled_at IS NULL)",
    ),
    (
        "sent_was_accepted",
        "SELECT message_id || ' is sent, but neither a try nor a resolution says so' FROM message AS m WHERE state = 'sent'
             AND NOT EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND outcome = 'sent')
             AND NOT EXISTS (SELECT 1 FROM resolution WHERE message = m.id AND decision = 'sent')",
    ),
    (
        "accepted_is_sent",
        "SELECT m.message_id || ' is ' || m.state || ', but a try of it was accepted at ' || a.ended_at
         FROM attempt AS a JOIN message AS m ON m.id = a.message WHERE a.outcome = 'sent' AND m.state <> 'sent'",
    ),
    (
        "accepted_once",
        "SELECT m.message_id || ' was tried again after it was accepted at ' || a.ended_at
         FROM attempt AS a JOIN message AS m ON m.id = a.message WHERE a.outcome = 'sent'
             AND EXISTS (SELECT 1 FROM attempt AS later WHERE later.message = a.message AND later.id > a.id)",
    ),
    (
        "doubt_is_settled_on_record",
        "SELECT m.message_id || ' is ' || m.state || ', but its try of ' || a.armed_at || ' was in doubt and nothing settled it'
         FROM attempt AS a JOIN message AS m ON m.id = a.message
         WHERE a.outcome = 'in_doubt' AND NOT (m.state = 'in_doubt' AND m.armed_at = a.armed_at)
             AND NOT EXISTS (SELECT 1 FROM resolution AS r WHERE r.message = m.id AND r.armed_at = a.armed_at)",
    ),
    (
        "doubt_has_its_try",
        "SELECT message_id || ' is in doubt, but no try of it says so' FROM message AS m WHERE state = 'in_doubt'
             AND NOT EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND armed_at = m.armed_at AND outcome = 'in_doubt')",
    ),
    (
        // What is planned or skipped has no begun body; what is armed has no ended try yet.
        "armed_as_tried",
        "SELECT message_id || ' is ' || state || ', begun ' || coalesce('at ' || armed_at || ' by run ' || coalesce(epoch, '(none)'), 'never')
             || ', but its newest try says ' || coalesce('at ' || tried_at || ' by run ' || tried_by, 'never')
         FROM (SELECT m.message_id, m.state, m.armed_at, m.epoch, a.armed_at AS tried_at, a.epoch AS tried_by
               FROM message AS m LEFT JOIN attempt AS a ON a.id = (SELECT max(id) FROM attempt WHERE message = m.id)
               WHERE m.state IN ('sent', 'refused', 'in_doubt'))
         WHERE armed_at IS NOT tried_at OR (armed_at IS NOT NULL AND epoch IS NOT tried_by)
         UNION ALL
         SELECT message_id || ' is skipped, yet begun at ' || armed_at FROM message WHERE state = 'skipped' AND armed_at IS NOT NULL
         UNION ALL
         SELECT message_id || ' was begun at ' || armed_at || ', before the run that began it, of ' || started_at
         FROM message JOIN run USING (epoch) WHERE state = 'armed' AND unixepoch(armed_at) < unixepoch(started_at) - 300",
    ),
    (
        "settled_as_tried",
        "SELECT message_id || ' is ' || state || ', settled at ' || settled_at || ', but no try and no resolution of it is of then'
         FROM message AS m WHERE state IN ('sent', 'refused', 'in_doubt')
             AND NOT EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND ended_at = m.settled_at)
             AND NOT EXISTS (SELECT 1 FROM resolution WHERE message = m.id AND decided_at = m.settled_at)",
    ),
    (
        "resolution_has_its_try",
        "SELECT 'the resolution ' || r.id || ' is about a try that no one made' FROM resolution AS r
         WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE message = r.message AND armed_at = r.armed_at)",
    ),
    (
        "planned_is_delivered",
        "SELECT 'campaign ' || c.campaign_id || ' is ' || c.status || ' and has planned messages, which no run would send'
         FROM scheduled_campaign AS c WHERE c.status IN ('pending', 'completed')
             AND EXISTS (SELECT 1 FROM campaign_occurrence AS o JOIN message AS m ON m.occurrence = o.id AND m.state = 'planned'
                         WHERE o.campaign_id = c.campaign_id)",
    ),
    (
        "armed_by_the_newest_run",
        "SELECT message_id || ' is armed by run ' || message.epoch || ', but run ' || ledger.epoch || ' has ended since'
         FROM message, ledger WHERE state = 'armed' AND message.epoch < ledger.epoch
             AND NOT EXISTS (SELECT 1 FROM run WHERE run.epoch = ledger.epoch AND ended_at IS NULL)",
    ),
    (
        "cart_message_has_its_episode",
        "SELECT message_id || ' has no row in cart_abandonment_log' FROM message AS m WHERE kind = 'cart'
             AND NOT EXISTS (SELECT 1 FROM cart_abandonment_log AS l WHERE l.message_key = m.episode)",
    ),
    (
        "email_sent_means_sent",
        "SELECT m.message_id || ' is ' || m.state || ', but its email_sent is ' || l.email_sent
         FROM cart_abandonment_log AS l JOIN message AS m ON m.message_key = l.message_key
         WHERE l.email_sent <> EXISTS (SELECT 1 FROM message AS s WHERE s.episode = m.episode AND s.state = 'sent')
             OR (l.email_sent = 1 AND l.last_sent_at IS NULL)
         UNION ALL
         SELECT m.message_id || ' was begun at ' || m.armed_at || ' and settled at ' || m.settled_at || ', but its last_sent_at is ' || l.last_sent_at
         FROM cart_abandonment_log AS l JOIN message AS m ON m.message_key = l.message_key
         WHERE l.email_sent = 1 AND NOT EXISTS (SELECT 1 FROM message AS s WHERE s.episode = m.episode AND s.state = 'sent'
             AND (l.last_sent_at = s.settled_at OR l.last_sent_at = s.armed_at))",
    ),
    (
        "episode_is_its_messages",
        "SELECT 'the episode ' || l.id || ' is not that of its message' FROM cart_abandonment_log AS l
         JOIN message AS m ON m.message_key = l.message_key
         WHERE (l.identity, l.cart_id, l.cart_hash) IS NOT (m.identity, m.cart_id, m.cart_hash)
             OR m.message_key <> 'cart/' || l.identity || '/' || l.cart_hash || '/' || l.created_at",
    ),
    (
        "books_of_an_opening",
        "SELECT 'the opening ' || o.campaign_id || ' ' || o.planned_at || ' counts recipients: ' || o.recipients
             || ', but has messages: ' || count(m.id)
         FROM campaign_occurrence AS o LEFT JOIN message AS m ON m.kind = 'campaign' AND m.occurrence = o.id
         WHERE o.state = 'opened' GROUP BY o.id
         HAVING count(m.id) + (SELECT coalesce(sum(pruned), 0) FROM message_tally AS t WHERE t.occurrence = o.id) <> o.recipients",
    ),
    (
        "tally",
        "SELECT coalesce(t.messages, 0) || ' messages are counted as ' || coalesce(t.state, c.state) || ' ' || coalesce(t.reason, c.reason)
             || ', ' || coalesce(t.pruned, 0) || ' of them pruned, but there are ' || coalesce(c.messages, 0)
             || iif(coalesce(t.occurrence, c.occurrence) = 0, '', ' in the opening ' || coalesce(t.occurrence, c.occurrence))
         FROM message_tally AS t FULL JOIN (
             SELECT coalesce(occurrence, 0) AS occurrence, state, coalesce(reason, '') AS reason, count(*) AS messages FROM message
             GROUP BY 1, 2, 3) AS c ON c.occurrence = t.occurrence AND c.state = t.state AND c.reason = t.reason
         WHERE coalesce(t.messages, 0) - coalesce(t.pruned, 0) <> coalesce(c.messages, 0)
         UNION ALL
         SELECT coalesce(t.number, 0) || ' rows are counted as ' || coalesce(t.counted, c.counted) || ' ' || coalesce(t.part, c.part)
             || ', ' || coalesce(t.pruned, 0) || ' of them pruned, but there are ' || coalesce(c.number, 0)
         FROM (SELECT * FROM tally WHERE counted IN ('attempt', 'report', 'suppressed address')) AS t FULL JOIN (
             SELECT 'attempt' AS counted, outcome AS part, count(*) AS number FROM attempt GROUP BY outcome
             UNION ALL SELECT 'report', class, count(*) FROM report GROUP BY class
             UNION ALL SELECT 'suppressed address', '', count(DISTINCT folded_address) FROM suppression) AS c
             ON c.counted = t.counted AND c.part = t.part
         WHERE coalesce(t.number, 0) - coalesce(t.pruned, 0) <> coalesce(c.number, 0)",
    ),
    (
        "total_runs",
        "SELECT 'the campaign ' || c.campaign_id || ' counts runs: ' || c.total_runs || ', but was opened: ' || count(*)
         FROM scheduled_campaign AS c JOIN campaign_occurrence AS o ON o.campaign_id = c.campaign_id AND o.state = 'opened'
         GROUP BY c.campaign_id HAVING count(*) > c.total_runs",
    ),
    (
        // Steps of one episode have rules of their own.
        "window_of_a_shopper",
        "SELECT m.message_id || ' was begun at ' || m.armed_at || ', within the window of another for the same shopper and cart, of ' || other.armed_at
         FROM message AS m JOIN message AS other ON other.identity = m.identity AND other.cart_hash = m.cart_hash
             AND other.episode <> m.episode AND (other.armed_at, other.id) < (m.armed_at, m.id), ledger
         WHERE m.cart_hash IS NOT NULL
             AND unixepoch(m.armed_at) - unixepoch(other.armed_at) < coalesce(least_window_seconds, window_seconds)",
    ),
    (
        "window_of_an_address",
        "SELECT m.message_id || ' was begun at ' || m.armed_at || ', within the window of another for the same address and cart, of ' || other.armed_at
         FROM message AS m JOIN message AS other ON other.folded_address = m.folded_address AND other.cart_hash = m.cart_hash
             AND other.episode <> m.episode AND (other.armed_at, other.id) < (m.armed_at, m.id), ledger
         WHERE m.cart_hash IS NOT NULL
             AND unixepoch(m.armed_at) - unixepoch(other.armed_at) < coalesce(least_window_seconds, window_seconds)",
    ),
    (
        "one_open_at_a_time",
        "SELECT message_id || ' was planned at ' || planned_at || ', while another for the same shopper and cart was open'
         FROM (SELECT message_id, planned_at, episode,
                      lag(CASE WHEN state IN ('sent', 'refused', 'skipped') THEN settled_at ELSE '9' END)
                          OVER (PARTITION BY identity, cart_hash ORDER BY planned_at, id) AS until,
                      lag(episode) OVER (PARTITION BY identity, cart_hash ORDER BY planned_at, id) AS before
               FROM message WHERE cart_hash IS NOT NULL AND reason IS NOT 'superseded')
         WHERE planned_at < until AND episode <> before",
    ),
    (
        "steps_in_order",
        "SELECT later.message_id || ', step ' || later.step || ', was begun at ' || later.armed_at || ', and an earlier step, '
             || earlier.message_id || ', at ' || earlier.armed_at
         FROM message AS later JOIN message AS earlier ON earlier.episode = later.episode
             AND coalesce(earlier.step_after, -1) < coalesce(later.step_after, -1) AND earlier.armed_at > later.armed_at
         UNION ALL
         SELECT later.message_id || ', step ' || later.step || ', was begun after ' || earlier.message_id || ' ended its flow: '
             || earlier.reason
         FROM message AS later JOIN message AS earlier ON earlier.episode = later.episode
             AND coalesce(earlier.step_after, -1) < coalesce(later.step_after, -1)
         WHERE later.armed_at IS NOT NULL AND earlier.state = 'skipped' AND earlier.reason NOT IN ('expired', 'capped', 'cancelled')",
    ),
    (
        "held_out_gets_nothing",
        "SELECT m.message_id || ' was begun at ' || m.armed_at || ', and its episode is held out by ' || held.message_id
         FROM message AS held JOIN message AS m ON m.episode = held.episode
         WHERE held.reason = 'holdout' AND m.armed_at IS NOT NULL
         UNION ALL
         SELECT m.message_id || ' is held out, and was tried at ' || a.ended_at
         FROM message AS m JOIN attempt AS a ON a.message = m.id WHERE m.reason = 'holdout'",
    ),
    (
        // By the tries: what was resolved may have left again since.
        "recovery_follows_its_message",
        "SELECT 'the order of ' || r.ordered_at || ' counts for ' || m.message_id || ', which was not begun before it within its window'
         FROM recovery AS r JOIN message AS m ON m.id = r.message
         WHERE NOT EXISTS (SELECT 1 FROM attempt AS a WHERE a.message = m.id AND a.armed_at < r.ordered_at
             AND unixepoch(r.ordered_at) - unixepoch(a.armed_at) <= r.window_seconds)",
    ),
    (
        "one_order_one_message",
        "SELECT 'an order counts for ' || count(DISTINCT message) || ' messages, one of them ' || min(message)
         FROM recovery GROUP BY order_id HAVING count(*) > 1",
    ),
    (
        "steps_keep_distance",
        "SELECT m.message_id || ', step ' || m.step || ', was begun at ' || m.armed_at || ', right after another for the same address, of '
             || other.armed_at
         FROM message AS m JOIN message AS other ON other.folded_address = m.folded_address AND other.cart_hash IS NOT NULL
             AND (other.armed_at, other.id) < (m.armed_at, m.id), ledger
         WHERE m.step IS NOT NULL AND unixepoch(m.armed_at) - unixepoch(other.armed_at) < step_gap_seconds",
    ),
    (
        "cap_on_arming",
        "SELECT message_id || ' was begun at ' || armed_at || ', and the address had got as many as a cap allows by then'
         FROM (SELECT message_id, armed_at, seconds, since, unixepoch(armed_at)
                   - lag(unixepoch(armed_at), messages) OVER (PARTITION BY seconds, folded_address ORDER BY armed_at, id) AS apart
               FROM message CROSS JOIN cap WHERE armed_at IS NOT NULL)
         WHERE apart < seconds AND armed_at > since",
    ),
    (
        "coupon_is_free_again",
        "SELECT 'a code of the pool ' || pool || ' is kept by ' || message_id || ', which was decided against'
         FROM coupon_code JOIN message AS m ON m.id = message
         WHERE m.state = 'skipped' AND m.reason <> 'held_back'
             AND NOT EXISTS (SELECT 1 FROM attempt WHERE message = m.id AND armed_at IS NOT NULL)
         UNION ALL
         SELECT 'a code of the pool ' || pool || ' is not of the address that ' || message_id || ' is for'
         FROM coupon_code AS c JOIN message AS m ON m.id = message WHERE c.folded_address <> m.folded_address",
    ),
    (
        "step_is_of_its_episode",
        "SELECT message_id || ' belongs to no episode' FROM message AS m WHERE kind = 'cart' AND (
             NOT EXISTS (SELECT 1 FROM message WHERE message_key = m.episode)
             OR (message_key <> episode AND message_key IS NOT episode || '/' || step))",
    ),
    (
        "message_id_once",
        "SELECT message_id || ' stands for ' || count(*) || ' messages' FROM message GROUP BY message_id HAVING count(*) > 1",
    ),
    (
        "never_to_a_suppressed_address",
        "SELECT message_id || ' was begun at ' || armed_at || ', and its address was suppressed at ' || added_at
         FROM suppression AS s JOIN message USING (folded_address) WHERE armed_at > added_at
             AND (s.list = '' OR s.list = CASE WHEN occurrence IS NULL THEN 'cart'
                  ELSE (SELECT coalesce(o.list, 'news') FROM campaign_occurrence AS o WHERE o.id = occurrence) END)",
    ),
    (
        "report_is_of_its_message",
        "SELECT 'a report of ' || received_at || ' is not of the address that ' || message_id || ' went to'
         FROM report AS r JOIN message AS m ON m.id = r.message WHERE r.folded_address <> m.folded_address
         UNION ALL
         SELECT 'a report of ' || received_at || ' is about ' || message_id || ', of which no body was ever begun'
         FROM report AS r JOIN message AS m ON m.id = r.message WHERE m.armed_at IS NULL AND m.state <> 'refused'
             AND NOT EXISTS (SELECT 1 FROM attempt AS a WHERE a.message = m.id)",
    ),
    (
        "epochs_only_rise",
        "SELECT 'run ' || newest || ' is newer than the ledger, which stands at run ' || ledger.epoch
         FROM ledger, (SELECT max(epoch) AS newest FROM (
             SELECT max(epoch) AS epoch FROM run UNION ALL SELECT max(latest_epoch) FROM idle_run
             UNION ALL SELECT max(epoch) FROM message UNION ALL SELECT max(epoch) FROM attempt))
         WHERE newest > ledger.epoch",
    ),
    (
        "runs_follow_each_other",
        "SELECT 'run ' || epoch || ' began after attempt ' || attempt_after || ', the run before it after attempt ' || before
         FROM (SELECT epoch, attempt_after, lag(attempt_after) OVER (ORDER BY epoch) AS before FROM run)
         WHERE attempt_after < before",
    ),
    (
        "instants_are_instants",
        "SELECT message_id || ' holds a time that is none' FROM message
         WHERE planned_at NOT GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z'
            OR coalesce(armed_at, planned_at) NOT GLOB '????-[01]?-[0-3]?T[0-2]?:[0-5]?:[0-5]?Z'
            OR coalesce(settled_at, planned_at) NOT GLOB '????-[01]?-[0-3]?T[0-2]?:[0-5]?:[0-5]?Z'
            OR not_before NOT GLOB '????-[01]?-[0-3]?T[0-2]?:[0-5]?:[0-5]?Z'
            OR expires_at NOT GLOB '????-[01]?-[0-3]?T[0-2]?:[0-5]?:[0-5]?Z'",
    ),
];

/// The rules that need a mail log; between `?1` and `?2` it surely has everything.
pub(super) const LOG_RULES: &[(&str, &str)] = &[
    (
        "accepted_once_by_the_server",
        "SELECT m.message_id || ' was accepted ' || count(*) || ' times, as ' || group_concat(a.queue_id, ', ')
         FROM temp.known AS k JOIN message AS m ON m.id = k.id JOIN temp.accepted AS a ON a.token = k.token
         WHERE coalesce(?1, ?2) IS NOT NULL
             AND NOT EXISTS (SELECT 1 FROM temp.passed_on AS p WHERE p.token = a.token AND p.queue_id = a.queue_id)
         GROUP BY m.id HAVING count(*) > 1",
    ),
    (
        "accepted_by_the_server_is_sent",
        "SELECT m.message_id || ' is ' || m.state || coalesce(': ' || m.reason, '') || ', but the mail server accepted it at ' || min(a.at)
         FROM temp.known AS k JOIN message AS m ON m.id = k.id JOIN temp.accepted AS a ON a.token = k.token
         WHERE coalesce(?1, ?2) IS NOT NULL AND m.state NOT IN ('sent', 'in_doubt', 'armed') GROUP BY m.id",
    ),
    (
        "sent_is_accepted_by_the_server",
        "SELECT message_id || ' is sent, begun at ' || armed_at || ', but the mail server''s log does not have it accepted'
         FROM message WHERE state = 'sent' AND armed_at >= ?1 AND armed_at <= ?2
             AND id NOT IN (SELECT id FROM temp.known) AND EXISTS (SELECT 1 FROM temp.known)",
    ),
];
