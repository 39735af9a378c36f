-- "closed" is what an order becomes once all of it was refunded.
SELECT o.entity_id AS order_id, o.quote_id AS cart_id, o.customer_id AS user_id, o.customer_email AS email,
       o.created_at AS ordered_at, o.grand_total AS total, o.order_currency_code AS currency,
       CASE o.state WHEN 'canceled' THEN 'cancelled' WHEN 'closed' THEN 'refunded' ELSE 'placed' END AS status
  FROM {prefix}sales_order o
 WHERE o.updated_at >= :since AND {stores:o.store_id}
