-- An order takes its cart's row away. 0FA91CE3… is the version of an order that is live.
SELECT LOWER(HEX(o.id)) AS order_id, NULL AS cart_id, LOWER(HEX(k.customer_id)) AS user_id, k.email,
       o.created_at AS ordered_at, o.amount_total AS total, m.iso_code AS currency,
       CASE z.technical_name WHEN 'cancelled' THEN 'cancelled' ELSE 'placed' END AS status
  FROM `order` o
  JOIN order_customer k ON k.order_id = o.id AND k.order_version_id = o.version_id
  JOIN state_machine_state z ON z.id = o.state_id
  LEFT JOIN currency m ON m.id = o.currency_id
 WHERE o.created_at >= :since AND o.version_id = UNHEX('0FA91CE3E96A4BC2BE4BD9CE752C3425')
