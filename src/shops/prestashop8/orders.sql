-- In a fresh shop 6 is "Canceled", 7 "Refunded" and 8 "Payment error".
SELECT o.id_order AS order_id, o.id_cart AS cart_id, o.id_customer AS user_id, u.email, o.date_add AS ordered_at,
       o.total_paid AS total, m.iso_code AS currency,
       CASE WHEN o.current_state IN (6, 8) THEN 'cancelled' WHEN o.current_state = 7 THEN 'refunded'
            ELSE 'placed' END AS status
  FROM {prefix}orders o
  JOIN {prefix}customer u ON u.id_customer = o.id_customer
  LEFT JOIN {prefix}currency m ON m.id_currency = o.id_currency
 WHERE o.date_add >= :since AND {stores:o.id_shop}
