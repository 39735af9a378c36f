-- The order is there before it is paid: it was the cart. So it counts from its payment, where that is known.
SELECT o.id AS order_id, o.id AS cart_id, NULLIF(o.customer_id, 0) AS user_id, o.billing_email AS email,
       COALESCE(d.date_paid_gmt, o.date_created_gmt) AS ordered_at, o.total_amount AS total, o.currency,
       CASE o.status WHEN 'wc-cancelled' THEN 'cancelled' WHEN 'wc-refunded' THEN 'refunded' ELSE 'placed' END AS status
  FROM {prefix}wc_orders o
  LEFT JOIN {prefix}wc_order_operational_data d ON d.order_id = o.id
 WHERE o.type = 'shop_order' AND o.date_updated_gmt >= :since
   AND o.status NOT IN ('wc-pending', 'wc-checkout-draft', 'wc-failed', 'auto-draft', 'trash')
