-- The cart's row may be older than its newest line, so the later of both counts. A cart that was made more than 30 days
-- before the window is not looked at.
SELECT c.id AS cart_id, c.customer_id AS user_id, c.email, a.first_name AS name, upper(c.currency_code) AS currency,
       c.created_at, c.touched_at AS updated_at, {base_url} || '/cart/' || c.id AS recovery_url, NULL AS consent,
       COALESCE(NULLIF(l.variant_sku, ''), l.variant_id, l.id) AS sku,
       COALESCE(NULLIF(l.product_title, ''), l.title) AS item_name, l.quantity, l.unit_price,
       l.thumbnail AS image_url, {base_url} || '/products/' || l.product_handle AS url
  FROM (SELECT b.id, b.customer_id, b.email, b.currency_code, b.created_at,
               COALESCE(b.billing_address_id, b.shipping_address_id) AS address_id,
               GREATEST(b.updated_at, (SELECT max(i.updated_at) FROM cart_line_item i
                                        WHERE i.cart_id = b.id AND i.deleted_at IS NULL)) AS touched_at
          FROM cart b
         WHERE b.completed_at IS NULL AND b.deleted_at IS NULL AND b.email <> '') c
  JOIN cart_line_item l ON l.cart_id = c.id AND l.deleted_at IS NULL AND l.quantity > 0
  LEFT JOIN cart_address a ON a.id = c.address_id
 WHERE {which}
