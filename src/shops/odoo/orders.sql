-- date_order becomes the time of confirmation.
SELECT s.id AS order_id, s.id AS cart_id, s.partner_id AS user_id, p.email_normalized AS email, s.date_order AS ordered_at,
       s.amount_total AS total, c.name AS currency, CASE s.state WHEN 'cancel' THEN 'cancelled' ELSE 'placed' END AS status
  FROM sale_order s
  JOIN res_partner p ON p.id = s.partner_id
  LEFT JOIN res_currency c ON c.id = s.currency_id
 WHERE s.state IN ('sale', 'done', 'cancel') AND s.date_order >= :since AND {stores:s.website_id}
