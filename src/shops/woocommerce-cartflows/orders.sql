-- Orders are kept in UTC, carts in the site's time. Nothing in an order names its cart.
SELECT o.id AS order_id, NULL AS cart_id, NULL AS user_id, o.billing_email AS email,
       DATE_FORMAT(o.date_created_gmt, '%Y-%m-%dT%H:%i:%sZ') AS ordered_at, o.total_amount AS total, o.currency,
       CASE o.status WHEN 'wc-cancelled' THEN 'cancelled' WHEN 'wc-refunded' THEN 'refunded' ELSE 'placed' END AS status
  FROM {prefix}wc_orders o
 WHERE o.type = 'shop_order' AND o.date_updated_gmt >= :since
   AND o.status NOT IN ('wc-pending', 'wc-checkout-draft', 'wc-failed', 'auto-draft', 'trash')
