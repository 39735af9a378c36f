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
    say 404 '<p>This link is not complete. Write to us, and we take you off the list.</p>'
}

token=${QUERY_STRING#t=}
# What link trackers add.
token=${token%%&*}
case $token in *[!0-9a-z.]* | *.*.* | .* | *. | '') incomplete ;; 1*.*) ;; *) incomplete ;; esac
[ ${#token} -ge 56 ] && [ ${#token} -le 68 ] || incomplete
[ "$REQUEST_METHOD" = POST ] ||
    say 200 '<form method="post"><p>Do you want no more mail from us?</p><button>Unsubscribe</button></form>'
# Under another name first: a file that is there is whole.
{ date -u +%Y-%m-%dT%H:%M:%SZ > "$spool/.$token" && mv "$spool/.$token" "$spool/$token"; } 2> /dev/null ||
    say 503 '<p>Please try again in a moment.</p>'
say 200 '<p>You are unsubscribed.</p>'
