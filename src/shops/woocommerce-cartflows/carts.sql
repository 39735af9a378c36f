-- `items` is what PHP serialized; its lines are read by mailonce, and named by the query `product`.
SELECT c.session_id AS cart_id, NULL AS user_id, c.email, NULL AS name,
       (SELECT MAX(o.option_value) FROM {prefix}options o WHERE o.option_name = 'woocommerce_currency') AS currency,
       NULL AS created_at, c.time AS updated_at,
       CONCAT({base_url:(SELECT MAX(o.option_value) FROM {prefix}options o WHERE o.option_name = 'home')},
              '/?page_id=', c.checkout_id, '&wcf_ac_token=',
              REPLACE(REPLACE(TO_BASE64(CONCAT('wcf_session_id=', c.session_id)), '=', '%3D'), '\n', '')) AS recovery_url,
       CASE WHEN gone.email IS NOT NULL THEN 0 END AS consent, HEX(c.cart_contents) AS items
  FROM {prefix}cartflows_ca_cart_abandonment c
  LEFT JOIN (SELECT DISTINCT u.email FROM {prefix}cartflows_ca_cart_abandonment u WHERE u.unsubscribed = 1) gone
    ON gone.email = c.email
 WHERE c.order_status IN ('normal', 'abandoned') AND c.email <> '' AND {which}
