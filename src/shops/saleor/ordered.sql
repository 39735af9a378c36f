-- A checkout's row goes when it becomes an order, which keeps its token.
SELECT 1 AS found FROM order_order o
 WHERE o.checkout_token = :cart_id AND o.status NOT IN ('canceled', 'expired', 'draft')
UNION ALL
SELECT 1 FROM order_order o
 WHERE o.created_at >= :since AND lower(o.user_email) = :email AND o.status NOT IN ('canceled', 'expired', 'draft')
