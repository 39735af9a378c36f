#!/usr/bin/env bash
# Tries the promise on a real Postfix: mailonce and Postfix are killed in the middle, then `mailonce resolve --mail-log`
# must settle by Postfix's log what is in doubt, with no wrong decision. What Postfix really took is read from the
# mailbox and the queue. Exit 0: every promise held; 1: one was broken; 77: cannot be tried here.
#
#   tests/postfix.sh [ROUNDS] [CARTS]        as root, with Postfix installed; its own instance runs on loopback
#   MAILONCE=target/release/mailonce         the program to try (default: target/debug/mailonce)
#   KEEP=DIR                                 keep the logs there
set -Eeuo pipefail
# Nothing ends this script without a word.
trap 'echo "FAIL  line $LINENO ended with exit code $?: $BASH_COMMAND"' ERR
cd "$(dirname "$0")/.."
rounds=${1:-10}
carts=${2:-60}
mailonce=$(realpath "${MAILONCE:-target/debug/mailonce}")
cannot() { echo "skipped: $1"; exit 77; }
PATH=$PATH:/usr/sbin
[ "$(id -u)" = 0 ] || cannot "only root can start a Postfix"
for program in postfix postconf postqueue pgrep sqlite3 python3; do command -v $program >/dev/null || cannot "no $program here"; done
[ -x "$mailonce" ] || cannot "no $mailonce: cargo build"

port=$((20000 + RANDOM % 12000))
world= master=
stop_postfix() { [ -n "$world" ] && postfix -c "$world/etc" stop >/dev/null 2>&1 || true; }
clean_up() {
    stop_cutter
    stop_postfix
    [ -n "$world" ] && [ -n "${KEEP:-}" ] && mkdir -p "$KEEP" && cp "$world/log/mail.log" "$KEEP/round-$round.log"
    [ -n "$world" ] && rm -rf "$world"
    world=
}
trap clean_up EXIT

# An instance of its own, which keeps every mail to example.com in one Maildir and logs into a file.
make_postfix() {
    mkdir -p "$world"/{etc,queue,data,log,mail}
    chmod 755 "$world"
    chown postfix "$world/data"
    chown nobody "$world/mail"
    cat > "$world/etc/main.cf" <<CF
compatibility_level = 3.6
queue_directory = $world/queue
data_directory = $world/data
daemon_directory = $(postconf -d -h daemon_directory)
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.example.com
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
virtual_mailbox_domains = example.com
virtual_mailbox_base = $world/mail
virtual_mailbox_maps = static:all/
virtual_minimum_uid = 1
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
smtpd_client_connection_count_limit = 0
maillog_file = $world/log/mail.log
maillog_file_prefixes = $world
enable_long_queue_ids = $1
CF
    cat > "$world/etc/master.cf" <<CF
127.0.0.1:$port inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
showq unix n - n - - showq
postlog unix-dgram n - n - 1 postlogd
CF
}

listens() { (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
fail() { echo "FAIL  $1"; exit 1; }
# The processes of one that was killed hold its lock for a moment: tried again until they have gone.
start_postfix() {
    local i said
    for ((i = 0; i < 100; i++)); do
        said=$(postfix -c "$world/etc" start 2>&1) && break
        sleep 0.1
    done
    [ $i -lt 100 ] || fail "postfix start, tried $i times, ended with: $said; its log ends with: $(tail -3 "$world/log/mail.log" 2>&1)"
    for ((i = 0; i < 200; i++)); do listens && break; sleep 0.05; done
    listens || fail "Postfix has started and does not listen on port $port; its log ends with: $(tail -3 "$world/log/mail.log" 2>&1)"
    master=$(cat "$world/queue/pid/master.pid")
    master=${master// /}
}
# As a power loss takes it: all at once, without a word.
kill_postfix() {
    local children i
    children=$(pgrep -P "$master" || true)
    kill -9 "$master" $children 2>/dev/null || true
    for ((i = 0; i < 400; i++)); do listens || return 0; sleep 0.05; done
    fail "something still listens on port $port although Postfix was killed"
}
smtpds() { pgrep -P "$master" -x smtpd || true; }
accepted_lines() { grep -c '(queue active)' "$world/log/mail.log" 2>/dev/null || true; }

# A bad network: forwards to Postfix, and cuts every other connection somewhere, within a body as well as elsewhere.
cutter= cutter_port=
start_cutter() {
    cutter_port=$((port + 20000))
    python3 - "$cutter_port" "$port" <<'PY' &
import random, socket, sys, threading
def forward(a, b, most):
    try:
        while most > 0:
            data = a.recv(min(most, 4096))
            if not data: break
            b.sendall(data)
            most -= len(data)
    except OSError: pass
    for s in (a, b):
        try: s.shutdown(socket.SHUT_RDWR)
        except OSError: pass
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
while True:
    client = listener.accept()[0]
    server = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    most = random.choice([random.randrange(200, 30000), 10**9])
    threading.Thread(target=forward, args=(client, server, most), daemon=True).start()
    threading.Thread(target=forward, args=(server, client, 10**9), daemon=True).start()
PY
    cutter=$!
    local i
    for ((i = 0; i < 200; i++)); do (exec 3<> "/dev/tcp/127.0.0.1/$cutter_port") 2>/dev/null && return; sleep 0.05; done
    fail "the bad network does not listen on port $cutter_port"
}
stop_cutter() {
    [ -n "$cutter" ] && kill "$cutter" 2>/dev/null && wait "$cutter" 2>/dev/null || true
    cutter= cutter_port=
}

make_shop() {
    local i touched
    touched=$(date -u -d '-2 hours' +%FT%TZ)
    for ((i = 1; i <= carts; i++)); do
        echo "{\"cart_id\":\"c$i\",\"email\":\"shopper$i@example.com\",\"currency\":\"EUR\",\"created_at\":\"$touched\",\"updated_at\":\"$touched\",\"recovery_url\":\"https://shop.example/cart/c$i\",\"consent\":true,\"items\":[{\"sku\":\"A-$i\",\"name\":\"Lamp\",\"quantity\":1,\"unit_price\":\"19.90\"}]}"
    done > "$world/carts.jsonl"
    # A long body, so that a kill meets it half way.
    { echo '<p>You left something behind.</p>'; for ((i = 0; i < $1; i++)); do echo "<p>Line $i of many, so that the body takes a while to write.</p>"; done; } > "$world/cart.html"
    cat > "$world/mailonce.toml" <<TOML
ledger = "mailonce.db"
[shop]
name = "Example Shop"
url = "https://shop.example"
[source]
kind = "jsonl"
path = "carts.jsonl"
[detect]
since = "2020-01-01T00:00:00Z"
template = "cart.html"
[mail]
from = "Example Shop <hello@shop.example>"
$2
[mail.smtp]
host = "127.0.0.1"
port = ${cutter_port:-$port}
tls = "none"
connections = 6
TOML
    run init --rehearsal >/dev/null
}
run() { env -C "$world" -i PATH=/usr/bin:/bin HOME=/ "$mailonce" "$@"; }
later() { date -u -d "+$1 minutes" +%FT%TZ; }
states() { sqlite3 -readonly -separator ' ' "$world/mailonce.db" "SELECT state, trim(message_id, '<>') FROM message"; }
# Every copy that Postfix took: its Message-ID, once per queue id. A delivery that Postfix itself repeats is one copy.
copies() {
    find "$world/mail" -type f -path '*/new/*' -print0 | xargs -0 -r awk '
        FNR == 1 { id = ""; header = 1 } /^\r?$/ { header = 0 }
        header && /^[ \t]+by .* with .* id / || header && /^\tid / { for (i = 1; i < NF; i++) if ($i == "id") id = $(i + 1) }
        header && tolower($1) == "message-id:" { print substr($2, 2, index($2, ">") - 2), id; nextfile }' | sort -u
}
wait_for_empty_queue() {
    local i
    for ((i = 0; i < 200; i++)); do
        postqueue -c "$world/etc" -p 2>/dev/null | grep -q 'queue is empty' && return
        postqueue -c "$world/etc" -f 2>/dev/null || true
        sleep 0.1
    done
    fail "the queue of Postfix does not empty: $(postqueue -c "$world/etc" -p 2>&1 | tail -5)"
}

broken=0
# Compares what the ledger says with what Postfix took.
check() {
    local when=$1 line
    wait_for_empty_queue
    copies | cut -d' ' -f1 | sort | uniq -c | awk '{ print $2, $1 }' | sort > "$world/copies"
    states | awk '{ print $2, $1 }' | sort > "$world/states"
    while read -r line; do
        echo "FAIL  round $round, $when: $line"
        broken=$((broken + 1))
    done < <(join -a 1 -e 0 -o 0,1.2,2.2 "$world/states" "$world/copies" | awk '
        $2 == "sent" && $3 != 1 || $2 == "in_doubt" && $3 > 1 || $2 != "sent" && $2 != "in_doubt" && $3 > 0 {
            print $1 " is " $2 " and was taken " $3 " times" }
        ' ; join -v 2 "$world/states" "$world/copies" | sed 's/$/ was taken, and the ledger does not know it/')
}
number() { awk -v state="$1" '$1 == state { n++ } END { print n + 0 }' < <(states); }

total=0 total_left=0 total_sent=0 total_again=0 total_refused=0
hows=(sender cut sender-stalled server cut both cut-and-sender)
for ((round = 1; round <= rounds; round++)); do
    how=${hows[(round - 1) % ${#hows[@]}]}
    envelope=
    [ $((round / 2 % 2)) = 1 ] && envelope='envelope = "bounce+{token}@shop.example"'
    world=$(mktemp -d /tmp/mailonce-postfix.XXXXXX)
    long=no
    [ $((round % 3)) = 0 ] && long=yes
    make_postfix $long
    start_postfix
    case $how in cut*) start_cutter ;; esac
    make_shop $(((RANDOM % 3) * 60 + 5)) "$envelope"
    kill_at=$((1 + RANDOM % (carts * 2 / 3)))

    # Not by `run`: the process to kill must be mailonce itself.
    env -C "$world" -i PATH=/usr/bin:/bin HOME=/ "$mailonce" detect >/dev/null 2>&1 &
    sender=$!
    until [ "$(accepted_lines)" -ge $kill_at ] || ! kill -0 $sender 2>/dev/null; do :; done
    case $how in
    cut) wait $sender 2>/dev/null || true ;;
    sender | cut-and-sender) kill -9 $sender 2>/dev/null || true ;;
    sender-stalled)
        # What the dead sender's socket still holds arrives after its death.
        stalled=$(smtpds)
        [ -n "$stalled" ] && kill -STOP $stalled
        sleep 0.05
        kill -9 $sender 2>/dev/null || true
        sleep 0.05
        [ -n "$stalled" ] && kill -CONT $stalled
        ;;
    server) kill_postfix && start_postfix ;;
    both)
        kill_postfix
        kill -9 $sender 2>/dev/null || true
        start_postfix
        ;;
    esac
    wait $sender 2>/dev/null || true
    case $how in cut*) stop_cutter && sed -i "s/^port = .*/port = $port/" "$world/mailonce.toml" ;; esac

    # The next run holds what is in doubt, and sends what of the rest is not put off.
    run detect >/dev/null 2>&1 || true
    check "before resolve"
    doubts=$(number in_doubt)
    # At once, the log's failures are too young.
    run resolve --json --mail-log "$world/log/mail.log" > "$world/early.json" || true
    if grep -q '"now": "planned"' "$world/early.json"; then
        echo "FAIL  round $round: planned again within 15 minutes"
        broken=$((broken + 1))
    fi
    check "after an early resolve"
    run resolve --json --mail-log "$world/log/mail.log" --now "$(later 20)" > "$world/resolved.json" || true
    check "after resolve"
    again=$(grep -c '"now": "planned"' "$world/resolved.json" || true)
    refused=$(grep -c '"now": "refused"' "$world/resolved.json" || true)
    left=$(number in_doubt)
    run detect --now "$(later 30)" >/dev/null 2>&1 || true
    run detect --now "$(later 35)" >/dev/null 2>&1 || true
    check "after sending again"
    [ "$(number planned)" = 0 ] || { echo "FAIL  round $round: $(number planned) never sent"; broken=$((broken + 1)); }
    echo "round $round ($how at $kill_at of $carts): $doubts in doubt; by the log $((doubts - left - again - refused)) sent, $again planned again, $refused refused; $left left"
    total=$((total + doubts)) total_left=$((total_left + left)) total_again=$((total_again + again))
    total_refused=$((total_refused + refused)) total_sent=$((total_sent + doubts - left - again - refused))
    clean_up
done
echo "$rounds rounds of $carts carts: $total in doubt; by the log $total_sent sent, $total_again planned again, $total_refused refused; $total_left left; $broken wrong"
[ $broken = 0 ] || exit 1
