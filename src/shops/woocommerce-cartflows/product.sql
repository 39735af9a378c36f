SELECT COALESCE(NULLIF(l.sku, ''), CAST(p.ID AS CHAR)) AS sku, p.post_title AS item_name,
       CONCAT(p.base_url, '/wp-content/uploads/',
              (SELECT MAX(f.meta_value)
                 FROM {prefix}postmeta t JOIN {prefix}postmeta f ON f.post_id = t.meta_value
                WHERE t.post_id = p.ID AND t.meta_key = '_thumbnail_id'
                  AND f.meta_key = '_wp_attached_file')) AS image_url,
       CONCAT(p.base_url, '/?p=', p.ID) AS url
  FROM (SELECT g.ID, g.post_title,
               {base_url:(SELECT MAX(o.option_value) FROM {prefix}options o WHERE o.option_name = 'home')} AS base_url
          FROM {prefix}posts g
         WHERE g.ID = :product_id AND g.post_type IN ('product', 'product_variation') AND g.post_status = 'publish') p
  LEFT JOIN {prefix}wc_product_meta_lookup l ON l.product_id = p.ID
