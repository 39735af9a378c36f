-- A customer who has not agreed counts as one who refused; a guest who has not is not known about.
SELECT o.id AS cart_id, o.user_id, o.email, COALESCE(NULLIF(a.firstname, ''), u.first_name) AS name, o.currency,
       o.created_at, o.updated_at, {base_url:'https://' || s.url} || '/checkout/' || o.token AS recovery_url,
       CASE WHEN u.accepts_email_marketing OR o.accept_marketing OR n.verified_at IS NOT NULL THEN 1
            WHEN u.id IS NOT NULL THEN 0 END AS consent,
       COALESCE(NULLIF(v.sku, ''), v.id::text) AS sku, COALESCE(t.name, p.name) AS item_name, l.quantity,
       l.price AS unit_price, NULL AS image_url, {base_url:'https://' || s.url} || '/products/' || p.slug AS url
  FROM spree_orders o
  JOIN spree_stores s ON s.id = o.store_id
  JOIN spree_line_items l ON l.order_id = o.id AND l.quantity > 0
  JOIN spree_variants v ON v.id = l.variant_id AND v.deleted_at IS NULL
  JOIN spree_products p ON p.id = v.product_id AND p.deleted_at IS NULL
  LEFT JOIN spree_addresses a ON a.id = o.bill_address_id
  LEFT JOIN spree_product_translations t
    ON t.spree_product_id = p.id AND t.locale = {language:'en'} AND t.deleted_at IS NULL
  LEFT JOIN spree_users u ON u.id = o.user_id
  LEFT JOIN spree_newsletter_subscribers n ON n.email = lower(o.email)
 WHERE o.completed_at IS NULL AND o.canceled_at IS NULL AND o.email <> '' AND {stores:o.store_id} AND {which}
