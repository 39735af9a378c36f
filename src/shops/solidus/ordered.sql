SELECT o.id FROM spree_orders o WHERE o.id = :cart_id AND o.completed_at IS NOT NULL
UNION ALL
SELECT o.id FROM spree_orders o WHERE lower(o.email) = :email AND o.completed_at >= :since AND o.canceled_at IS NULL
