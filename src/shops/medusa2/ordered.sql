SELECT 1 AS found FROM order_cart x JOIN "order" o ON o.id = x.order_id
 WHERE x.cart_id = :cart_id AND x.deleted_at IS NULL AND o.canceled_at IS NULL
UNION ALL
SELECT 1 FROM "order" o
 WHERE lower(o.email) = :email AND o.created_at >= :since AND o.canceled_at IS NULL AND o.deleted_at IS NULL
   AND NOT o.is_draft_order
