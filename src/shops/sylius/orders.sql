-- Amounts are hundredths in every currency. Written so that MySQL, MariaDB and PostgreSQL all take it.
SELECT o.id AS order_id, o.id AS cart_id, o.customer_id AS user_id, c.email_canonical AS email,
       o.checkout_completed_at AS ordered_at, o.total / 100.0 AS total, o.currency_code AS currency,
       CASE WHEN o.state = 'cancelled' THEN 'cancelled' WHEN o.payment_state = 'refunded' THEN 'refunded'
            ELSE 'placed' END AS status
  FROM sylius_order o
  LEFT JOIN sylius_customer c ON c.id = o.customer_id
 WHERE o.state <> 'cart' AND o.checkout_completed_at IS NOT NULL AND o.updated_at >= :since AND {stores:o.channel_id}
