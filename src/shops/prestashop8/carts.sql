-- A cart has no prices: they are worked out anew at each page. Here that is done only where nothing but the catalogue and
-- one rate of tax have a say; a line with a special price, a shop with reductions for a group, or goods with an eco-tax or
-- with different rates by country have none.
SELECT c.id_cart AS cart_id, c.id_customer AS user_id, c.email, c.firstname AS name, c.iso_code AS currency,
       c.date_add AS created_at, c.date_upd AS updated_at,
       CONCAT(c.base_url, '/index.php?controller=cart&action=show') AS recovery_url, c.newsletter AS consent,
       COALESCE(NULLIF(a.reference, ''), NULLIF(p.reference, ''), CONCAT(l.id_product, '-', l.id_product_attribute)) AS sku,
       n.name AS item_name, l.quantity,
       CASE WHEN s.ecotax = 0 AND COALESCE(t.lowest, 0) = COALESCE(t.highest, 0)
             AND NOT EXISTS (SELECT 1 FROM {prefix}specific_price r WHERE r.id_product IN (0, l.id_product))
             AND NOT EXISTS (SELECT 1 FROM `{prefix}group` g WHERE g.reduction <> 0)
            THEN ROUND((s.price + COALESCE(v.price, 0)) * (1 + COALESCE(t.highest, 0) / 100) * c.conversion_rate, 10)
       END AS unit_price,
       CONCAT(c.base_url, '/', i.id_image, '-home_default/', n.link_rewrite, '.jpg') AS image_url,
       CONCAT(c.base_url, '/index.php?controller=product&id_product=', l.id_product,
              '&id_product_attribute=', l.id_product_attribute) AS url
  FROM (SELECT b.id_cart, b.id_customer, b.id_lang, b.date_add, b.date_upd,
               u.email, u.firstname, u.newsletter, m.iso_code, m.conversion_rate,
               {base_url:TRIM(TRAILING '/' FROM CONCAT('https://', h.domain_ssl, h.physical_uri, h.virtual_uri))} AS base_url
          FROM {prefix}cart b
          STRAIGHT_JOIN {prefix}customer u ON u.id_customer = b.id_customer AND u.active = 1 AND u.deleted = 0 AND u.email <> ''
          JOIN {prefix}currency m ON m.id_currency = b.id_currency
          JOIN {prefix}shop_url h ON h.id_shop = b.id_shop AND h.main = 1 AND h.active = 1
         WHERE {stores:b.id_shop} AND {which}
           AND NOT EXISTS (SELECT 1 FROM {prefix}orders o WHERE o.id_cart = b.id_cart)) c
  JOIN {prefix}cart_product l ON l.id_cart = c.id_cart AND l.quantity > 0
  JOIN {prefix}product p ON p.id_product = l.id_product
  JOIN {prefix}product_shop s ON s.id_product = l.id_product AND s.id_shop = l.id_shop AND s.active = 1
  LEFT JOIN {prefix}product_attribute a ON a.id_product_attribute = l.id_product_attribute
  LEFT JOIN {prefix}product_attribute_shop v
    ON v.id_product_attribute = l.id_product_attribute AND v.id_shop = l.id_shop
  LEFT JOIN {prefix}product_lang n ON n.id_product = l.id_product AND n.id_lang = c.id_lang AND n.id_shop = l.id_shop
  LEFT JOIN {prefix}image i ON i.id_product = l.id_product AND i.cover = 1
  LEFT JOIN (SELECT r.id_tax_rules_group, MIN(x.rate) AS lowest, MAX(x.rate) AS highest
               FROM {prefix}tax_rule r JOIN {prefix}tax x ON x.id_tax = r.id_tax AND x.active = 1 AND x.deleted = 0
              GROUP BY r.id_tax_rules_group) t ON t.id_tax_rules_group = s.id_tax_rules_group
