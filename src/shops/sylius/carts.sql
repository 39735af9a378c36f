-- Amounts are hundredths in every currency, also in those that have no hundredths. Written so that MySQL, MariaDB and
-- PostgreSQL all take it.
SELECT o.id AS cart_id, o.customer_id AS user_id, o.email, o.first_name AS name, o.currency_code AS currency,
       o.created_at, o.updated_at, CASE WHEN o.base_url IS NOT NULL THEN CONCAT(o.base_url, '/cart/') END AS recovery_url,
       CASE WHEN o.subscribed_to_newsletter THEN 1 END AS consent,
       v.code AS sku, COALESCE(NULLIF(i.product_name, ''), t.name, v.code) AS item_name, i.quantity,
       i.unit_price / 100.0 AS unit_price,
       (SELECT CONCAT(o.base_url, '/media/image/', MIN(m.path)) FROM sylius_product_image m
         WHERE m.owner_id = v.product_id HAVING MIN(m.path) IS NOT NULL) AS image_url,
       CASE WHEN t.slug IS NOT NULL THEN CONCAT(o.base_url, '/', o.locale_code, '/products/', t.slug) END AS url
  FROM (SELECT c.id, c.customer_id, c.currency_code, c.locale_code, c.created_at, c.updated_at,
               p.email, p.first_name, p.subscribed_to_newsletter, {base_url:CASE WHEN h.hostname <> '' THEN CONCAT('https://', h.hostname) END} AS base_url
          FROM sylius_order c
          JOIN sylius_customer p ON p.id = c.customer_id
          JOIN sylius_channel h ON h.id = c.channel_id
         WHERE c.state = 'cart' AND {stores:c.channel_id} AND {which}) o
  JOIN sylius_order_item i ON i.order_id = o.id AND i.quantity > 0
  JOIN sylius_product_variant v ON v.id = i.variant_id AND v.enabled
  LEFT JOIN sylius_product_translation t ON t.translatable_id = v.product_id AND t.locale = o.locale_code
