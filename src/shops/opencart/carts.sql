-- Orders with status 0: the shopper came to the last step of the checkout, and never paid. (oc_cart is of no use: a
-- customer's rows get a new time with every page, and a guest's have no address.)
SELECT o.order_id AS cart_id, NULLIF(o.customer_id, 0) AS user_id, o.email, o.firstname AS name,
       o.currency_code AS currency, o.date_added AS created_at, o.date_modified AS updated_at,
       CONCAT(o.base_url, '/index.php?route=checkout/cart') AS recovery_url,
       (SELECT MAX(c.newsletter) FROM {prefix}customer c WHERE c.email = o.email) AS consent,
       COALESCE(NULLIF(p.sku, ''), i.model) AS sku, i.name AS item_name, i.quantity,
       ROUND((i.price + i.tax) * o.currency_value, 10) AS unit_price,
       CONCAT(o.base_url, '/image/', NULLIF(p.image, '')) AS image_url,
       CONCAT(o.base_url, '/index.php?route=product/product&product_id=', p.product_id) AS url
  FROM (SELECT c.order_id, c.customer_id, c.email, c.firstname, c.currency_code, c.currency_value,
               c.date_added, c.date_modified, {base_url:TRIM(TRAILING '/' FROM c.store_url)} AS base_url
          FROM `{prefix}order` c
         WHERE c.order_status_id = 0 AND c.email <> '' AND {stores:c.store_id} AND {which}) o
  JOIN {prefix}order_product i ON i.order_id = o.order_id AND i.quantity > 0
  JOIN {prefix}product p ON p.product_id = i.product_id AND p.status = 1
