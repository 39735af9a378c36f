-- What an order comes to is worked out from its parts, and in none of the tables that are read.
SELECT o.id AS order_id, x.cart_id, o.customer_id AS user_id, o.email, o.created_at AS ordered_at, NULL AS total,
       upper(o.currency_code) AS currency, CASE WHEN o.canceled_at IS NOT NULL THEN 'cancelled' ELSE 'placed' END AS status
  FROM "order" o
  LEFT JOIN order_cart x ON x.order_id = o.id AND x.deleted_at IS NULL
 WHERE o.created_at >= :since AND o.deleted_at IS NULL AND NOT o.is_draft_order
