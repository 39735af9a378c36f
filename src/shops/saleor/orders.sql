SELECT o.id AS order_id, NULLIF(o.checkout_token, '') AS cart_id, o.user_id, o.user_email AS email,
       o.created_at AS ordered_at, o.total_gross_amount AS total, o.currency,
       CASE WHEN o.status IN ('canceled', 'expired') THEN 'cancelled' WHEN o.status = 'returned' THEN 'refunded'
            ELSE 'placed' END AS status
  FROM order_order o
 WHERE o.created_at >= :since AND o.status <> 'draft' AND {stores:o.channel_id}
