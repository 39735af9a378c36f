SELECT o.id AS order_id, o.id AS cart_id, o.user_id, o.email, o.completed_at AS ordered_at, o.total, o.currency,
       CASE WHEN o.canceled_at IS NOT NULL OR o.state = 'canceled' THEN 'cancelled'
            WHEN o.state = 'returned' THEN 'refunded' ELSE 'placed' END AS status
  FROM spree_orders o
 WHERE o.completed_at IS NOT NULL AND o.updated_at >= :since AND {stores:o.store_id}
