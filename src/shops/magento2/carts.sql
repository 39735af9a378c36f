-- A line that belongs to another one (the parts of a bundle, the variant behind a configurable product) has a price of 0
-- or of a part only, so the outer line stands for it. A guest's address is often in quote_address alone.
SELECT q.entity_id AS cart_id, q.customer_id AS user_id, q.email, q.name, q.quote_currency_code AS currency,
       q.created_at, q.updated_at, CONCAT(q.base_url, '/checkout/cart/') AS recovery_url,
       (SELECT CASE WHEN MAX(n.subscriber_status = 3) THEN 0 WHEN MAX(n.subscriber_status = 1) THEN 1 END
          FROM {prefix}newsletter_subscriber n
         WHERE n.subscriber_email = q.email AND n.store_id = q.store_id) AS consent,
       i.sku, i.name AS item_name, i.qty AS quantity, COALESCE(i.price_incl_tax, i.price) AS unit_price,
       NULL AS image_url, NULL AS url
  FROM (SELECT c.entity_id, c.store_id, c.customer_id, c.quote_currency_code, c.created_at, c.updated_at,
               COALESCE(NULLIF(c.customer_email, ''),
                        (SELECT MAX(a.email) FROM {prefix}quote_address a
                          WHERE a.quote_id = c.entity_id AND a.email <> '')) AS email,
               COALESCE(NULLIF(c.customer_firstname, ''),
                        (SELECT MAX(a.firstname) FROM {prefix}quote_address a WHERE a.quote_id = c.entity_id)) AS name,
               {base_url:(SELECT TRIM(TRAILING '/' FROM v.value)
                  FROM {prefix}core_config_data v JOIN {prefix}store s ON s.store_id = c.store_id
                 WHERE v.path = 'web/secure/base_url'
                   AND (v.scope = 'default' OR (v.scope = 'websites' AND v.scope_id = s.website_id)
                        OR (v.scope = 'stores' AND v.scope_id = s.store_id))
                 ORDER BY FIELD(v.scope, 'stores', 'websites', 'default') LIMIT 1)} AS base_url
          FROM {prefix}quote c
         WHERE c.is_active = 1 AND c.items_count > 0 AND {stores:c.store_id} AND {which}) q
  STRAIGHT_JOIN {prefix}quote_item i ON i.quote_id = q.entity_id AND i.parent_item_id IS NULL AND i.qty > 0
 WHERE q.email IS NOT NULL
