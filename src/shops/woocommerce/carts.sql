-- Orders that the checkout began and no one paid for. What is in a line is told by texts beside it (itemmeta), and its
-- amounts are for the whole line.
SELECT o.id AS cart_id, o.user_id, o.email, o.name, o.currency, o.created_at, o.updated_at,
       CONCAT(o.base_url, o.page) AS recovery_url, NULL AS consent,
       COALESCE(NULLIF(p.sku, ''), CAST(o.product AS CHAR)) AS sku, o.item_name, o.quantity,
       ROUND((CAST(o.line_total AS DECIMAL(26,8)) + CAST(COALESCE(o.line_tax, '0') AS DECIMAL(26,8)))
             / NULLIF(CAST(o.quantity AS DECIMAL(20,4)), 0), 10) AS unit_price,
       CONCAT(o.base_url, '/wp-content/uploads/', o.image) AS image_url,
       CONCAT(o.base_url, '/?p=', o.product_id) AS url
  FROM (SELECT w.*, COALESCE(NULLIF(w.variation_id, 0), w.product_id) AS product,
               (SELECT MAX(f.meta_value)
                  FROM {prefix}postmeta t JOIN {prefix}postmeta f ON f.post_id = t.meta_value
                 WHERE t.post_id = w.product_id AND t.meta_key = '_thumbnail_id'
                   AND f.meta_key = '_wp_attached_file') AS image
          FROM (SELECT c.id, NULLIF(c.customer_id, 0) AS user_id, c.billing_email AS email, c.currency,
                       c.date_created_gmt AS created_at, c.date_updated_gmt AS updated_at,
                       (SELECT MAX(a.first_name) FROM {prefix}wc_order_addresses a
                         WHERE a.order_id = c.id AND a.address_type = 'billing') AS name,
                       {base_url:(SELECT MAX(h.option_value) FROM {prefix}options h WHERE h.option_name = 'home')} AS base_url,
                       CASE WHEN c.status = 'wc-checkout-draft' THEN '/checkout/'
                            ELSE CONCAT('/checkout/order-pay/', c.id, '/?pay_for_order=true&key=', d.order_key)
                       END AS page,
                       i.order_item_name AS item_name,
                       (SELECT MAX(m.meta_value) FROM {prefix}woocommerce_order_itemmeta m
                         WHERE m.order_item_id = i.order_item_id AND m.meta_key = '_qty') AS quantity,
                       (SELECT CAST(MAX(m.meta_value) AS UNSIGNED) FROM {prefix}woocommerce_order_itemmeta m
                         WHERE m.order_item_id = i.order_item_id AND m.meta_key = '_product_id') AS product_id,
                       (SELECT CAST(MAX(m.meta_value) AS UNSIGNED) FROM {prefix}woocommerce_order_itemmeta m
                         WHERE m.order_item_id = i.order_item_id AND m.meta_key = '_variation_id') AS variation_id,
                       (SELECT MAX(m.meta_value) FROM {prefix}woocommerce_order_itemmeta m
                         WHERE m.order_item_id = i.order_item_id AND m.meta_key = '_line_total') AS line_total,
                       (SELECT MAX(m.meta_value) FROM {prefix}woocommerce_order_itemmeta m
                         WHERE m.order_item_id = i.order_item_id AND m.meta_key = '_line_tax') AS line_tax
                  FROM {prefix}wc_orders c
                  JOIN {prefix}wc_order_operational_data d
                    ON d.order_id = c.id AND d.created_via IN ('checkout', 'store-api')
                  JOIN {prefix}woocommerce_order_items i ON i.order_id = c.id AND i.order_item_type = 'line_item'
                 WHERE c.type = 'shop_order' AND c.billing_email <> ''
                   AND c.status IN ('wc-pending', 'wc-checkout-draft', 'wc-failed') AND {which}) w) o
  LEFT JOIN {prefix}wc_product_meta_lookup p ON p.product_id = o.product
