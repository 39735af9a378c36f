-- A payment on its way counts: Odoo confirms the order when it has come.
SELECT s.id FROM sale_order s WHERE s.id = :cart_id AND s.state = 'sale'
UNION ALL
SELECT r.sale_order_id FROM sale_order_transaction_rel r JOIN payment_transaction x ON x.id = r.transaction_id
 WHERE r.sale_order_id = :cart_id AND x.state IN ('pending', 'authorized', 'done')
UNION ALL
SELECT s.id FROM res_partner p JOIN sale_order s ON s.partner_id = p.id
 WHERE p.email_normalized = :email AND s.state = 'sale' AND s.date_order >= :since
