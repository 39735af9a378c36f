SELECT o.id FROM sylius_order o WHERE o.id = :cart_id AND o.state NOT IN ('cart', 'cancelled')
UNION ALL
SELECT o.id FROM sylius_customer c JOIN sylius_order o ON o.customer_id = c.id
 WHERE c.email_canonical = :email AND o.state NOT IN ('cart', 'cancelled') AND o.checkout_completed_at >= :since
