-- `items` is what PHP serialized; mailonce reads its lines. created_at is written anew each time a cart is saved, so it
-- is the last activity; when the cart began is not kept.
SELECT c.token AS cart_id, LOWER(HEX(u.id)) AS user_id, u.email, u.first_name AS name, m.iso_code AS currency,
       NULL AS created_at, c.created_at AS updated_at,
       CONCAT({base_url:(SELECT TRIM(TRAILING '/' FROM MIN(d.url)) FROM sales_channel_domain d
                WHERE d.sales_channel_id = x.sales_channel_id)}, '/checkout/cart') AS recovery_url,
       (SELECT CASE WHEN MAX(n.status = 'optOut') THEN 0 WHEN MAX(n.status IN ('optIn', 'direct')) THEN 1 END
          FROM newsletter_recipient n WHERE n.email = u.email) AS consent,
       HEX(c.payload) AS items
  FROM cart c
  JOIN sales_channel_api_context x ON x.token = c.token
  JOIN customer u ON u.id = x.customer_id AND u.active = 1 AND u.email <> ''
  JOIN sales_channel s ON s.id = x.sales_channel_id
  JOIN currency m ON m.id = COALESCE(UNHEX(JSON_UNQUOTE(JSON_EXTRACT(x.payload, '$.currencyId'))), s.currency_id)
 WHERE {which}
