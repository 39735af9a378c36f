-- Every status counts that does not say otherwise: plugins bring their own.
SELECT o.id FROM {prefix}wc_orders o
 WHERE o.id = :cart_id
   AND o.status NOT IN ('wc-pending', 'wc-checkout-draft', 'wc-failed', 'wc-cancelled', 'auto-draft', 'trash')
UNION ALL
SELECT o.id FROM {prefix}wc_orders o
 WHERE o.billing_email = :email AND o.type = 'shop_order' AND o.date_created_gmt >= :since
   AND o.status NOT IN ('wc-pending', 'wc-checkout-draft', 'wc-failed', 'wc-cancelled', 'auto-draft', 'trash')
