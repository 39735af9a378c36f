-- 7 is "Canceled" in a fresh shop.
SELECT o.order_id FROM `{prefix}order` o WHERE o.order_id = :cart_id AND o.order_status_id NOT IN (0, 7)
UNION ALL
SELECT o.order_id FROM `{prefix}order` o
 WHERE o.email = :email AND o.date_added >= :since AND o.order_status_id NOT IN (0, 7)
