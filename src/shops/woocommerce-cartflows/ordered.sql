-- Carts are kept in the site's time, orders in UTC; :since is the earlier of the two.
SELECT c.id FROM {prefix}cartflows_ca_cart_abandonment c WHERE c.session_id = :cart_id AND c.order_status = 'completed'
UNION ALL
SELECT o.id FROM {prefix}wc_orders o
 WHERE o.billing_email = :email AND o.type = 'shop_order' AND o.date_created_gmt >= :since
   AND o.status NOT IN ('wc-pending', 'wc-checkout-draft', 'wc-failed', 'wc-cancelled', 'auto-draft', 'trash')
