-- An order takes its cart's row away, so only the address can tell. The way leads over customer, whose address has an
-- index; 0FA91CE3… is the version of an order that is live.
SELECT 1 AS found FROM customer u
  JOIN order_customer k ON k.customer_id = u.id
  JOIN `order` o ON o.id = k.order_id AND o.version_id = k.order_version_id
  JOIN state_machine_state z ON z.id = o.state_id
 WHERE u.email = :email AND o.created_at >= :since AND z.technical_name <> 'cancelled'
   AND o.version_id = UNHEX('0FA91CE3E96A4BC2BE4BD9CE752C3425')
