-- An order of this very cart counts in any state; of others, 6 is "Canceled" in a fresh shop. A guest's order makes a
-- customer of its own with the same address.
SELECT o.id_order FROM {prefix}orders o WHERE o.id_cart = :cart_id
UNION ALL
SELECT o.id_order FROM {prefix}customer u JOIN {prefix}orders o ON o.id_customer = u.id_customer
 WHERE u.email = :email AND o.date_add >= :since AND o.current_state <> 6
