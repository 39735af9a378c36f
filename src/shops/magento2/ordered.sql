-- By the cart itself first: an order whose payment is pending leaves the cart active for a while.
SELECT o.entity_id FROM {prefix}sales_order o
 WHERE o.quote_id = :cart_id AND COALESCE(o.state, '') <> 'canceled'
UNION ALL
SELECT o.entity_id FROM {prefix}sales_order o
 WHERE o.customer_email = :email AND o.created_at >= :since AND COALESCE(o.state, '') <> 'canceled'
