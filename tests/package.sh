#!/usr/bin/env bash
# Installs the Debian package on this machine, has it started every minute, upgrades, removes and purges it, and looks after each
# step whether the machine is as docs/install.md says. Mails go to a server of its own on loopback, which counts them.
# Exit 0: all held; 1: something did not; 77: cannot be tried here.
#
#   tests/package.sh FILE.deb [MINUTES]      as root, on a Debian machine without mailonce: it changes the machine
#
# By timers where process 1 is systemd, else by a cron of its own; both at once where both are there.
set -Eeuo pipefail
trap 'echo "FAIL  line $LINENO ended with exit code $?: $BASH_COMMAND"' ERR
deb=$(realpath "${1:?tests/package.sh FILE.deb [MINUTES]}")
minutes=${2:-3}
cannot() { echo "skipped: $1"; exit 77; }
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || cannot "only root can install a package"
for program in dpkg cron crontab python3 sqlite3 runuser; do command -v $program >/dev/null || cannot "no $program here"; done
! dpkg -s mailonce >/dev/null 2>&1 || cannot "mailonce is installed already"
[ ! -e /etc/mailonce ] && [ ! -e /var/lib/mailonce ] || cannot "/etc/mailonce or /var/lib/mailonce is there already"
has_systemd=no
[ ! -d /run/systemd/system ] || has_systemd=yes

world=$(mktemp -d /tmp/mailonce-package.XXXXXX)
chmod 755 "$world"
sink= cron=
clean_up() {
    crontab -u mailonce -r 2>/dev/null || true
    [ -z "$sink" ] || kill "$sink" 2>/dev/null || true
    [ -z "$cron" ] || kill "$cron" 2>/dev/null || true
    dpkg --purge mailonce >/dev/null 2>&1 || true
    rm -rf "$world" /var/lib/mailonce
}
trap clean_up EXIT
fail() { echo "FAIL  $1"; exit 1; }
held() { echo "ok    $1"; }
# Until a command is true, so many seconds at most.
within() {
    local seconds=$1 until=$((SECONDS + $1)); shift
    until "$@"; do [ $SECONDS -lt $until ] || return 1; sleep 0.2; done
}
is() { # PATH OWNER:GROUP MODE
    local found
    found=$(stat -c '%U:%G %a' "$1") || fail "$1 is not there"
    [ "$found" = "$2 $3" ] || fail "$1 is $found, not $2 $3"
}
install_package() { DEBIAN_FRONTEND=noninteractive dpkg --install "$deb" >"$world/dpkg.log" 2>&1 || { cat "$world/dpkg.log"; fail "dpkg --install"; }; }
as_mailonce() { runuser -u mailonce -- env -C /etc/mailonce "$@"; }
sql() { sqlite3 -readonly /var/lib/mailonce/mailonce.db "$1" 2>/dev/null || true; }
# Runs that cron has started, and that have ended.
runs() { grep -c " mailonce $1" "$world/cron.codes" || true; }
have_run() { [ "$(runs "$1")" -ge "$2" ]; }
sent() { grep -c . "$world/sink/accepted" || true; }
have_sent() { [ "$(sent)" -ge "$1" ]; }
# Recipients that were written to twice.
twice() { sort "$world/sink/accepted" | uniq -d; }
digest() { find /etc/mailonce -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; }

# --- installed ---
install_package
is /usr/bin/mailonce root:root 755
is /etc/mailonce root:mailonce 2770
is /var/lib/mailonce mailonce:mailonce 700
[ -z "$(ls -A /etc/mailonce /var/lib/mailonce | grep -v ':$' || true)" ] || fail "the package made files in its folders"
entry=$(getent passwd mailonce) || fail "there is no user mailonce"
[[ $entry == *:/var/lib/mailonce:/usr/sbin/nologin ]] || fail "the user is $entry"
for file in man/man1/mailonce.1.gz man/man1/mailonce-run-campaigns.1.gz bash-completion/completions/mailonce \
    zsh/vendor-completions/_mailonce fish/vendor_completions.d/mailonce.fish; do
    # Some machines are set up to leave man pages out.
    [ -s /usr/share/$file ] || grep -rqs "path-exclude.*/man" /etc/dpkg/dpkg.cfg.d || fail "there is no /usr/share/$file"
done
cd /
mailonce man >/dev/null && mailonce completions bash >/dev/null || fail "man or completions want a configuration"
held "installed: $(mailonce --version), $(du -sh --apparent-size /usr/bin/mailonce | cut -f1); files, rights and the user are as the page says"

# --- not configured ---
[ -z "$(find /etc/systemd/system -name 'mailonce*' 2>/dev/null)" ] || fail "a unit is enabled"
! ls /etc/cron.d /var/spool/cron/crontabs 2>/dev/null | grep -q mailonce || fail "cron starts it"
if [ $has_systemd = yes ]; then
    [ -z "$(systemctl list-timers --all --no-legend 'mailonce*')" ] || fail "a timer waits"
    systemd-analyze verify /lib/systemd/system/mailonce-*.service /lib/systemd/system/mailonce-*.timer 2>&1 | grep mailonce && fail "a unit is not sound"
    for unit in detect campaigns bounces; do
        exposure=$(systemd-analyze security --no-pager mailonce-$unit.service | tail -1)
        echo "      mailonce-$unit.service:$(echo "$exposure" | sed 's/^[^:]*:\?//')"
    done
    # A mail server that keeps what it is given, in place of this machine's.
    mkdir -p /etc/systemd/system/mailonce-alert@.service.d
    printf '#!/bin/sh\ncat > %s/alert\n' "$world" > "$world/sendmail"
    chmod 755 "$world/sendmail"
    install -o mailonce /dev/null "$world/alert"
    printf '[Service]\nBindReadOnlyPaths=%s/sendmail:/usr/sbin/sendmail\nEnvironment=MAILTO=ops@shop.example\n' "$world" > /etc/systemd/system/mailonce-alert@.service.d/test.conf
    systemctl daemon-reload
    # Someone who starts it all the same is told, and nobody is written to.
    ! systemctl start mailonce-detect.service 2>/dev/null || fail "a run without a configuration is a success"
    [ "$(systemctl show -P ExecMainStatus mailonce-detect.service)" = 78 ] || fail "a run without a configuration ends with $(systemctl show -P ExecMainStatus mailonce-detect.service)"
    within 20 grep -qs "^error: no configuration" "$world/alert" || fail "nobody was told; the alert is: $(cat "$world/alert" 2>&1)"
    systemctl reset-failed 'mailonce*'
fi
code=0
as_mailonce mailonce detect >/dev/null 2>&1 || code=$?
[ $code = 78 ] || fail "a run without a configuration ends with $code"
held "not configured: nothing starts it, and a run says so (exit 78)"

# --- configured ---
mkdir "$world/sink"
cat > "$world/sink.py" <<'PY'
import re, socketserver, sys
# Takes every mail, and writes its recipient down once its last dot was answered.
class Session(socketserver.StreamRequestHandler):
    def say(self, line): self.wfile.write(line + b"\r\n")
    def handle(self):
        self.say(b"220 sink.example ESMTP")
        recipient = b""
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"RCPT": recipient = re.search(rb"<([^>]*)>", line)[1]; self.say(b"250 2.1.5 ok")
            elif word == b"DATA":
                self.say(b"354 go on")
                while self.rfile.readline() not in (b".\r\n", b""): pass
                with open(sys.argv[1], "ab") as accepted: accepted.write(recipient + b"\n")
                self.say(b"250 2.0.0 taken")
            elif word == b"QUIT": self.say(b"221 2.0.0 bye"); return
            else: self.say(b"250 2.0.0 ok")
class Server(socketserver.ThreadingTCPServer): allow_reuse_address = True; daemon_threads = True
with Server(("127.0.0.1", 0), Session) as server:
    with open(sys.argv[2], "w") as port: port.write(str(server.server_address[1]) + "\n")
    server.serve_forever()
PY
: > "$world/sink/accepted"
python3 "$world/sink.py" "$world/sink/accepted" "$world/sink/port" & sink=$!
within 10 test -s "$world/sink/port" || fail "the mail server does not listen"
# Carts of the shop, in a folder that this user may only read.
carts=0
abandon() { # more carts, left alone for two hours
    local touched i
    touched=$(date -u -d '-2 hours' +%FT%TZ)
    for ((i = 0; i < $1; i++)); do
        carts=$((carts + 1))
        echo "{\"cart_id\":\"c$carts\",\"email\":\"shopper$carts@example.com\",\"currency\":\"EUR\",\"created_at\":\"$touched\",\"updated_at\":\"$touched\",\"recovery_url\":\"https://shop.example/cart/c$carts\",\"consent\":true,\"items\":[{\"sku\":\"A\",\"name\":\"Lamp\",\"quantity\":1,\"unit_price\":\"19.90\"}]}"
    done >> "$world/carts.jsonl"
}
abandon 20
as_mailonce mailonce init --ledger /var/lib/mailonce/mailonce.db >/dev/null
is /etc/mailonce/mailonce.toml mailonce:mailonce 644
is /var/lib/mailonce/mailonce.db mailonce:mailonce 600
as_mailonce install -m 600 /dev/null /etc/mailonce/smtp.password
cat > /etc/mailonce/mailonce.toml <<TOML
ledger = "/var/lib/mailonce/mailonce.db"
[shop]
name = "Example Shop"
url = "https://shop.example"
[source]
kind = "jsonl"
path = "$world/carts.jsonl"
[detect]
since = "2020-01-01T00:00:00Z"
[mail]
from = "Example Shop <hello@shop.example>"
[mail.smtp]
host = "127.0.0.1"
port = $(cat "$world/sink/port")
tls = "none"
[unsubscribe]
keys = "unsubscribe.keys"
TOML
# A campaign that opens once, in two or three minutes.
for ((i = 1; i <= 10; i++)); do echo "reader$i@example.com"; done | sed '1i email' > /etc/mailonce/audience.csv
touch -d '-1 hour' /etc/mailonce/audience.csv
echo '<p>News</p>' > /etc/mailonce/news.html
cat > /etc/mailonce/campaigns.toml <<TOML
[[campaign]]
id = "news"
subject = "News"
template = "news.html"
audience = "audience.csv"
at = "$(date -u -d '+3 minutes' '+%F %H:%M')"
TOML
chgrp mailonce /etc/mailonce/*
[ -s /etc/mailonce/unsubscribe.keys ] || fail "init made no keys"
[ "$(sent)" = 0 ] || fail "it has sent before it was started"
held "configured by the user mailonce, in /etc/mailonce, with its ledger in /var/lib/mailonce"

# --- started every minute ---
[ $has_systemd = no ] || cursor=$(journalctl -n 0 --show-cursor | sed -n 's/^-- cursor: //p')
if [ $has_systemd = yes ]; then
    # A private /tmp hides the shop of this test.
    for unit in detect campaigns; do
        mkdir -p /etc/systemd/system/mailonce-$unit.service.d
        printf '[Service]\nBindReadOnlyPaths=%s\n' "$world" > /etc/systemd/system/mailonce-$unit.service.d/test.conf
    done
    systemctl daemon-reload
    systemctl enable --now mailonce-detect.timer mailonce-campaigns.timer 2>/dev/null
fi
# Beside systemd, too: two that start it must not send twice.
sed -e 's/^MAILTO=.*/MAILTO=""/' -e "s|\(mailonce [a-z-]* --.*\)|\1 >> $world/cron.log 2>\&1; echo \"\$? \1\" >> $world/cron.codes|" \
    /usr/share/doc/mailonce/examples/crontab.example | grep -v status > "$world/crontab"
touch "$world/cron.log" "$world/cron.codes"
chown mailonce "$world"/cron.*
crontab -u mailonce "$world/crontab"
pgrep -x cron >/dev/null || { cron -f & cron=$!; }
began=$SECONDS
within 150 have_sent 20 || fail "after two minutes $(sent) of 20 are sent; cron has seen: $(tail -3 "$world/cron.log" "$world/cron.codes")"
abandon 10
within 150 have_sent 30 || fail "$(sent) of 30 are sent"
within 250 have_sent 40 || fail "the campaign: $(sent) of 40 are sent"
within $((minutes * 60 + 90)) have_run detect "$minutes" || fail "only $(runs detect) runs of detect"
[ -z "$(twice)" ] || fail "sent twice: $(twice)"
[ "$(sql "SELECT count(*) FROM message WHERE state = 'sent'")" = 40 ] || fail "the ledger has $(sql "SELECT state, count(*) FROM message GROUP BY 1")"
[ -z "$(cat "$world/cron.log")" ] || fail "cron would have written: $(cat "$world/cron.log")"
[ -z "$(grep -Ev '^(0|75) ' "$world/cron.codes")" ] || fail "runs ended with: $(sort "$world/cron.codes" | uniq -c)"
how=cron
if [ $has_systemd = yes ]; then
    how="cron and timers at once"
    ! systemctl --failed --no-legend | grep mailonce || fail "a unit failed"
    said=$(journalctl -o cat -u mailonce-detect.service -u mailonce-campaigns.service _COMM=mailonce --after-cursor="$cursor" | grep -v '^-- ' || true)
    [ -z "$said" ] || fail "the units said: $said"
fi
held "started by $how for $((SECONDS - began)) s: cron alone has run detect $(runs detect) and run-campaigns $(runs run-campaigns) times; 30 carts and 10 readers, 40 mails"

if [ $has_systemd = yes ]; then
    # A person is needed: a bad row is exit 1. Another run's lock is no failure.
    : > "$world/alert"
    systemctl stop mailonce-detect.timer mailonce-campaigns.timer
    crontab -u mailonce -r
    echo '{"cart_id":"bad"}' >> "$world/carts.jsonl"
    ! systemctl start mailonce-detect.service 2>/dev/null || fail "a bad row is no failure"
    within 20 grep -qs "bad row\|carts.jsonl:" "$world/alert" || fail "nobody was told; the alert is: $(cat "$world/alert" 2>&1); $(journalctl -n 8 -o cat -u 'mailonce-alert@*')"
    sed -i '/"bad"/d' "$world/carts.jsonl"
    echo "      $(grep -m1 Subject: "$world/alert")"
    systemctl reset-failed 'mailonce*' || true
    flock /var/lib/mailonce/mailonce.db.lock sleep 60 & lock=$!
    sleep 1
    systemctl start mailonce-detect.service || fail "a held lock is a failure: $(journalctl -n 8 -o cat -u mailonce-detect.service)"
    [ "$(systemctl show -P ExecMainStatus mailonce-detect.service)" = 75 ] || fail "a held lock ends with $(systemctl show -P ExecMainStatus mailonce-detect.service)"
    kill $lock 2>/dev/null || true
    pkill -P $lock 2>/dev/null || true
    wait $lock 2>/dev/null || true
    # What the user may change by its rights, a run may not; what it sees of other users' processes is nothing.
    printf '[Service]\nExecStart=\nExecStart=/bin/sh -c "! touch /etc/mailonce/probe && touch /var/lib/mailonce/probe && rm /var/lib/mailonce/probe && ! ls /proc/1/status"\n' > /etc/systemd/system/mailonce-detect.service.d/probe.conf
    systemctl daemon-reload
    systemctl start mailonce-detect.service || fail "the sandbox does not hold: $(journalctl -n 8 -o cat -u mailonce-detect.service)"
    rm /etc/systemd/system/mailonce-detect.service.d/probe.conf
    systemctl daemon-reload
    systemctl start mailonce-detect.timer mailonce-campaigns.timer
    crontab -u mailonce "$world/crontab"
    held "systemd: exit 1 fails the unit and mails a person, exit 75 does neither, the sandbox holds"
fi

# --- upgraded over itself ---
before=$(digest) ledger=$(sql "SELECT ledger_id FROM ledger") mode=$(stat -c %a /etc/mailonce)
chmod 2750 /var/lib/mailonce
abandon 5
install_package
[ "$(digest)" = "$before" ] || fail "the upgrade has changed /etc/mailonce"
[ "$(sql "SELECT ledger_id FROM ledger")" = "$ledger" ] || fail "the upgrade has another ledger"
is /var/lib/mailonce mailonce:mailonce 2750
[ "$(stat -c %a /etc/mailonce)" = "$mode" ] || fail "the upgrade has set rights back"
if [ $has_systemd = yes ]; then
    systemctl -q is-enabled mailonce-detect.timer && systemctl -q is-active mailonce-detect.timer || fail "the upgrade has stopped the timer"
fi
within 150 have_sent 45 || fail "after the upgrade $(sent) of 45 are sent"
[ -z "$(twice)" ] || fail "sent twice: $(twice)"
is /var/lib/mailonce mailonce:mailonce 2750
held "upgraded over itself: ledger, configuration, rights and timers as before; runs go on, 5 carts more, 5 mails more"

# --- removed, and back ---
crontab -u mailonce -r
dpkg --remove mailonce >"$world/dpkg.log" 2>&1 || { cat "$world/dpkg.log"; fail "dpkg --remove"; }
[ ! -e /usr/bin/mailonce ] || fail "the program is still there"
[ "$(digest)" = "$before" ] || fail "remove has changed /etc/mailonce"
[ "$(sql "SELECT count(*) FROM message WHERE state = 'sent'")" = 45 ] || fail "remove has touched the ledger"
[ -z "$(find /etc/systemd/system/timers.target.wants -name 'mailonce*' 2>/dev/null)" ] || fail "a timer is still enabled"
install_package
if [ $has_systemd = yes ]; then
    ! systemctl -q is-active mailonce-detect.timer || fail "a timer runs again by itself"
fi
as_mailonce mailonce detect
[ "$(sent)" = 45 ] || fail "after coming back it has sent $(sent)"
held "removed: ledger and configuration stay, timers are off; back again, nobody is written to twice"

# --- purged ---
keys=$(sha256sum < /etc/mailonce/unsubscribe.keys)
dpkg --purge mailonce >"$world/dpkg.log" 2>&1 || { cat "$world/dpkg.log"; fail "dpkg --purge"; }
[ ! -e /etc/mailonce ] || fail "purge has left /etc/mailonce"
[ -z "$(find /etc/systemd/system -name 'mailonce*' 2>/dev/null)" ] || fail "purge has left $(find /etc/systemd/system -name 'mailonce*')"
[ "$(sql "SELECT count(*) FROM message WHERE state = 'sent'")" = 45 ] || fail "purge has taken the ledger"
[ "$(sha256sum < /var/lib/mailonce/unsubscribe.keys)" = "$keys" ] || fail "purge has taken the keys"
grep -q "/var/lib/mailonce is kept" "$world/dpkg.log" || fail "purge does not say what it kept"
getent passwd mailonce >/dev/null || fail "purge has taken the user that the ledger belongs to"
held "purged: the configuration is gone, the ledger and the keys of the links are kept, and it says so"

# --- an empty one leaves nothing, a ledger beside the configuration stays ---
rm -rf /var/lib/mailonce
install_package
dpkg --purge mailonce >/dev/null 2>&1
[ ! -e /etc/mailonce ] && [ ! -e /var/lib/mailonce ] || fail "an unused package leaves folders behind"
install_package
as_mailonce mailonce init >/dev/null
dpkg --purge mailonce >"$world/dpkg.log" 2>&1
[ -s /etc/mailonce/mailonce.db ] && grep -q "a ledger is in it" "$world/dpkg.log" || fail "purge has taken a ledger in /etc/mailonce"
rm -rf /etc/mailonce
held "purged unused: nothing is left; a ledger that lies beside the configuration stays"
echo "all held"
