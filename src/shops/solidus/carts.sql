-- A cart is an order that was not completed. The shop's signed cookie leads back to it, and no link can.
SELECT o.id AS cart_id, o.user_id, o.email, NULLIF(a.name, '') AS name, o.currency, o.created_at, o.updated_at,
       {base_url:'https://' || s.url} || '/cart' AS recovery_url, NULL AS consent,
       COALESCE(NULLIF(v.sku, ''), v.id::text) AS sku, p.name AS item_name, l.quantity, l.price AS unit_price,
       NULL AS image_url, {base_url:'https://' || s.url} || '/products/' || p.slug AS url
  FROM spree_orders o
  JOIN spree_stores s ON s.id = o.store_id
  JOIN spree_line_items l ON l.order_id = o.id AND l.quantity > 0
  JOIN spree_variants v ON v.id = l.variant_id AND v.deleted_at IS NULL
  JOIN spree_products p ON p.id = v.product_id AND p.deleted_at IS NULL
  LEFT JOIN spree_addresses a ON a.id = o.bill_address_id
 WHERE o.completed_at IS NULL AND o.canceled_at IS NULL AND o.email <> '' AND o.frontend_viewable
   AND {stores:o.store_id} AND {which}
