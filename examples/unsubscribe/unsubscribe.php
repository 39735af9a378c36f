<?php
// The page behind https://shop.example/unsubscribe?t=TOKEN: one click (RFC 8058), for mailonce.
//
// The web server's user needs to read the keys and to write into the spool, and nothing else of mailonce. A look (GET) changes
// nothing: programs that check mail for bad links look too. Only a POST does, of a mail program or of the button.
$spool = getenv('MAILONCE_SPOOL') ?: '/var/spool/mailonce/unsubscribe';
$keys_file = getenv('MAILONCE_KEYS') ?: '/etc/mailonce/unsubscribe.keys';

header('Content-Type: text/html; charset=utf-8');
header('Cache-Control: no-store');
header('Referrer-Policy: no-referrer');

function page(int $status, string $words): never
{
    http_response_code($status);
    exit("<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">"
        . "<meta name=\"robots\" content=\"noindex\"><title>Unsubscribe</title>\n<main>$words</main></html>\n");
}

$token = is_string($_GET['t'] ?? null) ? $_GET['t'] : '';
if (!preg_match('/^(1([0-9a-z])[0-9a-f]{32}[0-9a-z]{1,13})\.([0-9a-f]{20})$/D', $token, $part)) {
    page(404, '<p>This link is not complete. Write to us, and we take you off the list.</p>');
}
$keys = [];
foreach (@file($keys_file, FILE_IGNORE_NEW_LINES) ?: [] as $line) {
    [$id, $hex] = explode(' ', trim($line)) + [1 => ''];
    $keys[$id] ??= $hex;
}
// A key that is not here yet, or a file that cannot be read, is no reason to turn someone away: mailonce looks again.
if (isset($keys[$part[2]])) {
    $mac = hash_hmac('sha256', "mailonce unsubscribe $part[1]", (string) @hex2bin($keys[$part[2]]));
    if (!hash_equals(substr($mac, 0, 20), $part[3])) {
        page(404, '<p>This link is not complete. Write to us, and we take you off the list.</p>');
    }
}
$method = $_SERVER['REQUEST_METHOD'];
if ($method === 'GET' || $method === 'HEAD') {
    page(200, '<form method="post"><p>Do you want no more mail from us?</p><button>Unsubscribe</button></form>');
}
if ($method !== 'POST') {
    header('Allow: GET, HEAD, POST');
    page(405, '<p>This page is for reading and for the button.</p>');
}
// Under another name first: a file that is there is whole, and of two clicks at once one finds it there.
$made = @file_put_contents("$spool/.$token", gmdate('Y-m-d\TH:i:s\Z') . "\n") && @rename("$spool/.$token", "$spool/$token");
$made || is_file("$spool/$token") ? page(200, '<p>You are unsubscribed.</p>') : page(503, '<p>Please try again in a moment.</p>');
