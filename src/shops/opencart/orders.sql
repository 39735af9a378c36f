-- Numbers as in a fresh shop: 7 canceled, 8 denied, 10 failed, 14 expired, 16 voided; 11 refunded, 12 reversed, 13 charged back.
SELECT o.order_id, o.order_id AS cart_id, NULLIF(o.customer_id, 0) AS user_id, o.email, o.date_added AS ordered_at,
       ROUND(o.total * o.currency_value, 10) AS total, o.currency_code AS currency,
       CASE WHEN o.order_status_id IN (7, 8, 10, 14, 16) THEN 'cancelled'
            WHEN o.order_status_id IN (11, 12, 13) THEN 'refunded' ELSE 'placed' END AS status
  FROM `{prefix}order` o
 WHERE o.order_status_id > 0 AND o.date_modified >= :since AND {stores:o.store_id}
