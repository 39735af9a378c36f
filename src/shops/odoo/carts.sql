-- The last activity is the newest write of a line: jobs write orders too, and nobody has touched those carts. The module
-- `delivery` adds the column is_delivery, so it is read by name and may be missing.
SELECT o.id AS cart_id, o.partner_id AS user_id, p.email_normalized AS email, p.name, c.name AS currency,
       o.create_date AS created_at, o.touched_at AS updated_at,
       {base_url:rtrim(w.domain, '/')} || '/shop/cart' || COALESCE('?access_token=' || o.access_token, '') AS recovery_url,
       CASE WHEN b.id IS NOT NULL THEN 0 END AS consent,
       COALESCE(NULLIF(g.default_code, ''), l.product_id::text) AS sku,
       COALESCE(t.name ->> p.lang, t.name ->> {language:'en_US'}, t.name ->> 'en_US') AS item_name,
       l.product_uom_qty AS quantity, round(l.price_total / l.product_uom_qty, 10) AS unit_price,
       {base_url:rtrim(w.domain, '/')} || '/web/image/product.product/' || l.product_id || '/image_256' AS image_url,
       {base_url:rtrim(w.domain, '/')} || '/shop/' || g.product_tmpl_id AS url
  FROM (SELECT s.id, s.partner_id, s.website_id, s.currency_id, s.access_token, s.create_date, s.write_date,
               GREATEST(s.create_date, (SELECT max(i.write_date) FROM sale_order_line i WHERE i.order_id = s.id)) AS touched_at
          FROM sale_order s
         WHERE s.state = 'draft' AND s.website_id IS NOT NULL AND {stores:s.website_id}) o
  JOIN website w ON w.id = o.website_id
  JOIN res_users visitor ON visitor.id = w.user_id
  JOIN res_partner p ON p.id = o.partner_id AND p.id <> visitor.partner_id AND p.email_normalized <> ''
  JOIN res_currency c ON c.id = o.currency_id
  JOIN sale_order_line l ON l.order_id = o.id AND l.display_type IS NULL AND l.product_uom_qty > 0
                        AND to_jsonb(l) -> 'is_delivery' IS DISTINCT FROM 'true'::jsonb
  JOIN product_product g ON g.id = l.product_id AND g.active
  JOIN product_template t ON t.id = g.product_tmpl_id
  LEFT JOIN mail_blacklist b ON b.email = p.email_normalized AND b.active
 WHERE NOT EXISTS (SELECT 1 FROM sale_order_transaction_rel r JOIN payment_transaction x ON x.id = r.transaction_id
                    WHERE r.sale_order_id = o.id AND x.state IN ('pending', 'authorized', 'done'))
   AND {which}
