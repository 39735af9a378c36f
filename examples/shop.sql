-- A small shop, with carts abandoned a while before this is run: sqlite3 shop.db < shop.sql
CREATE TABLE carts (
    cart_id      TEXT PRIMARY KEY,
    user_id      TEXT,
    email        TEXT,
    name         TEXT,
    currency     TEXT,
    created_at   TEXT,
    updated_at   TEXT,
    recovery_url TEXT,
    consent      INTEGER
);
-- With this index a look at a million carts takes a millisecond.
CREATE INDEX carts_updated_at ON carts (updated_at);
CREATE TABLE cart_items (
    cart_id    TEXT,
    sku        TEXT,
    name       TEXT,
    quantity   INTEGER,
    unit_price TEXT,
    image_url  TEXT,
    url        TEXT
);
CREATE INDEX cart_items_cart_id ON cart_items (cart_id);
CREATE TABLE orders (order_id TEXT PRIMARY KEY, cart_id TEXT, email TEXT, created_at TEXT);
CREATE INDEX orders_cart_id ON orders (cart_id);
CREATE INDEX orders_email ON orders (email);

INSERT INTO carts VALUES
    ('c1', 'u1', 'ada@example.com',   'Ada Lovelace',    'EUR', datetime('now', '-4 hours'), datetime('now', '-3 hours'),    'https://shop.example/cart/c1', 1),
    ('c2', NULL, 'joerg@bücher.example', 'Müller, Jörg',  'EUR', datetime('now', '-6 hours'), datetime('now', '-5 hours'),    'https://shop.example/cart/c2', 1),
    ('c3', 'u3', 'hanako@example.jp', '花子',             'JPY', datetime('now', '-2 days'),  datetime('now', '-26 hours'),   'https://shop.example/cart/c3', 1),
    ('c4', 'u4', 'grace@example.com', 'Grace Hopper',    'USD', datetime('now', '-1 hour'),  datetime('now', '-12 minutes'), 'https://shop.example/cart/c4', 1),
    ('c5', 'u5', 'alan@example.com',  'Alan Turing',     'GBP', datetime('now', '-5 hours'), datetime('now', '-4 hours'),    'https://shop.example/cart/c5', 1),
    ('c6', 'u6', 'edsger@example.com', 'Edsger Dijkstra', 'EUR', datetime('now', '-5 hours'), datetime('now', '-4 hours'),   'https://shop.example/cart/c6', 0),
    ('c7', 'u1', 'ada@example.com',   'Ada Lovelace',    'EUR', datetime('now', '-2 days'),  datetime('now', '-30 hours'),   'https://shop.example/cart/c7', 1);
INSERT INTO cart_items VALUES
    ('c1', 'A-1', 'Desk lamp, brass',             2, '19.90', NULL, 'https://shop.example/p/A-1'),
    ('c1', 'B-7', 'Notebook, dotted, 160 pages',  1, '12.50', NULL, 'https://shop.example/p/B-7'),
    ('c2', 'C-3', 'Grüner Tee, 100 g',            3, '8.95',  NULL, NULL),
    ('c3', 'D-9', '桜の扇子',                       1, '1980',  NULL, NULL),
    ('c4', 'A-1', 'Desk lamp, brass',             1, '24.00', NULL, NULL),
    ('c5', 'E-2', 'Paper tape, 300 m',            1, '31.00', NULL, NULL),
    ('c6', 'F-5', 'Wall clock',                   1, '45.00', NULL, NULL),
    ('c7', 'G-4', 'Fountain pen',                 1, '89.00', NULL, NULL);
INSERT INTO orders VALUES ('o1', 'c5', 'alan@example.com', datetime('now', '-2 hours'));
