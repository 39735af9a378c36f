-- A line's total is 0 until Saleor has computed it; until then the catalogue's price stands.
SELECT o.token AS cart_id, o.user_id, COALESCE(NULLIF(o.email, ''), u.email) AS email,
       COALESCE(NULLIF(a.first_name, ''), NULLIF(u.first_name, '')) AS name, o.currency, o.created_at,
       o.last_change AS updated_at,
       {base_url} || '/checkout?checkout='
         || rtrim(encode(convert_to('Checkout:' || o.token, 'UTF8'), 'base64'), '=') AS recovery_url,
       NULL AS consent,
       COALESCE(NULLIF(v.sku, ''), v.id::text) AS sku, concat_ws(' ', p.name, NULLIF(v.name, '')) AS item_name, l.quantity,
       CASE WHEN l.total_price_gross_amount > 0 THEN round(l.total_price_gross_amount / l.quantity, 10)
            ELSE l.undiscounted_unit_price_amount END AS unit_price,
       NULL AS image_url, {base_url} || '/products/' || p.slug AS url
  FROM checkout_checkout o
  LEFT JOIN account_user u ON u.id = o.user_id AND u.is_active
  LEFT JOIN account_address a ON a.id = o.billing_address_id
  JOIN checkout_checkoutline l ON l.checkout_id = o.token AND l.quantity > 0
  JOIN product_productvariant v ON v.id = l.variant_id
  JOIN product_product p ON p.id = v.product_id
 WHERE COALESCE(NULLIF(o.email, ''), u.email) <> '' AND o.charge_status = 'none' AND o.authorize_status = 'none'
   AND {stores:o.channel_id} AND {which}
