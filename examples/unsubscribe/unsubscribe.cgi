#!/bin/sh
# The page behind https://shop.example/unsubscribe?t=TOKEN without PHP: one click (RFC 8058), for mailonce.
#
# It needs to write into the spool, and nothing else of mailonce: which tokens are genuine, mailonce itself finds out.
LC_ALL=C
export LC_ALL
spool=${MAILONCE_SPOOL:-/var/spool/mailonce/unsubscribe}

say() {
    printf 'Status: %s\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n\r\n' "$1"
    printf '<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    printf '<meta name="robots" content="noindex"><title>Unsubscribe</title>\n<main>%s</main></html>\n' "$2"
    exit 0
}

incomplete() {
    say '404 Not Found' '<p>This link is not complete. Write to us, and we take you off the list.</p>'
}

token=${QUERY_STRING#t=}
# What link trackers add.
token=${token%%&*}
# Exactly what mailonce reads: any other file would stay in the spool for ever.
expr "x$token" : 'x1[0-9a-z][0-9a-f]\{32\}[0-9a-z]\{1,13\}\.[0-9a-f]\{20\}$' > /dev/null || incomplete
case $REQUEST_METHOD in
POST) ;;
GET | HEAD) say '200 OK' '<form method="post"><p>Do you want no more mail from us?</p><button>Unsubscribe</button></form>' ;;
*) say '405 Method Not Allowed' '<p>This page is for reading and for the button.</p>' ;;
esac
# Under another name first: a file that is there is whole, and of two clicks at once one finds it there.
{ date -u +%Y-%m-%dT%H:%M:%SZ > "$spool/.$token" && mv "$spool/.$token" "$spool/$token"; } 2> /dev/null ||
    [ -f "$spool/$token" ] ||
    say '503 Service Unavailable' '<p>Please try again in a moment.</p>'
say '200 OK' '<p>You are unsubscribed.</p>'
