#!/usr/bin/env bash
# Tries the program on real mail servers, each in an instance of its own on loopback: some carts accepted, an unknown
# recipient refused, fewer connections let in than configured, and a restart in the middle of a run. Then every delivered
# message is compared with the ledger: what is sent was delivered exactly once, and nothing is lost.
# Exit 0: all held; 1: something did not; 77: no server could be tried here. A server that is not here is passed over.
# The servers' packages exclude each other: `apt-get download` them and `dpkg -x` them into a folder.
#
#   tests/servers.sh [postfix|exim|opensmtpd]...   as root; all three without a word
#   MAILONCE=target/release/mailonce               the program to try (default: target/debug/mailonce)
#   EXIM=/path/exim4 SMTPD=/path/smtpd             binaries that are not in PATH
#   SMTPD_LIBEXEC=/path/libexec/opensmtpd          where that smtpd finds its helpers, if not where it was built for
#   CARTS=40                                       how many
set -Eeuo pipefail
trap 'echo "FAIL  line $LINENO ended with exit code $?: $BASH_COMMAND"' ERR
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/usr/local/sbin
carts=${CARTS:-40}
mailonce=$(realpath "${MAILONCE:-target/debug/mailonce}")
say_skipped() { echo "skipped: $1"; }
[ "$(id -u)" = 0 ] || { say_skipped "only root can start these servers"; exit 77; }
for program in sqlite3 setsid; do command -v $program >/dev/null || { say_skipped "no $program here"; exit 77; }; done
[ -x "$mailonce" ] || { say_skipped "no $mailonce: cargo build"; exit 77; }

# The users that the servers' packages would have made, and folders with built-in names, in a mount namespace of our own:
# nothing of this machine changes.
if [ -z "${SERVERS_NAMESPACE:-}" ]; then
    unshare -m true 2>/dev/null || { say_skipped "no mount namespace can be had here"; exit 77; }
    SERVERS_NAMESPACE=$(mktemp -d /tmp/mailonce-users.XXXXXX)
    export SERVERS_NAMESPACE
    code=0
    MAILONCE=$mailonce unshare -m --propagation private "$PWD/tests/servers.sh" "$@" || code=$?
    rm -rf "$SERVERS_NAMESPACE"
    exit $code
fi
cp /etc/passwd /etc/group "$SERVERS_NAMESPACE"
id=64990
for user in Debian-exim opensmtpd opensmtpq; do
    id=$((id + 1))
    getent passwd $user >/dev/null || echo "$user:x:$id:$id::/nonexistent:/bin/false" >> "$SERVERS_NAMESPACE/passwd"
    getent group $user >/dev/null || echo "$user:x:$id:" >> "$SERVERS_NAMESPACE/group"
done
mount --bind "$SERVERS_NAMESPACE/passwd" /etc/passwd
mount --bind "$SERVERS_NAMESPACE/group" /etc/group

world= port= server= broken=0 tried=0
fail() { echo "FAIL  $server: $1"; broken=$((broken + 1)); }
listens() { (exec 3<> "/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
wait_until() { # WORDS COMMAND...
    local words=$1 i
    shift
    for ((i = 0; i < 300; i++)); do "$@" && return 0; sleep 0.1; done
    fail "$words"
    return 1
}
silent() { ! listens; }
clean_up() {
    if [ -n "$world" ]; then
        "stop_$server" >/dev/null 2>&1 || true
        [ "$server" != opensmtpd ] || unmake_opensmtpd || true
        [ -n "${KEEP:-}" ] && mkdir -p "$KEEP" && cp -r "$world" "$KEEP/" || true
        rm -rf "$world"
    fi
    world=
}
trap clean_up EXIT

# Each server: has_X says whether it is here, make_X writes its configuration, start_X and stop_X, and delivered_X prints
# the files of delivered messages. Mail to example.com goes to one box; unknown@example.com is no one; two connections
# at once are let in.

has_postfix() { command -v postfix >/dev/null && getent passwd postfix >/dev/null; }
make_postfix() {
    mkdir -p "$world"/{etc,queue,data,log,mail}
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
mynetworks = 127.0.0.2/32
virtual_mailbox_domains = example.com
virtual_mailbox_base = $world/mail
virtual_mailbox_maps = regexp:$world/etc/boxes
virtual_minimum_uid = 1
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
smtpd_client_connection_count_limit = 2
smtpd_client_event_limit_exceptions =
maillog_file = $world/log/mail.log
maillog_file_prefixes = $world
CF
    echo '/^shopper[0-9]+@example\.com$/ all/' > "$world/etc/boxes"
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
start_postfix() {
    local i said
    for ((i = 0; i < 100; i++)); do said=$(postfix -c "$world/etc" start 2>&1) && return; sleep 0.1; done
    fail "does not start: $said"
    return 1
}
stop_postfix() { postfix -c "$world/etc" stop; }
delivered_postfix() { find "$world/mail" -type f -path '*/new/*'; }

exim=${EXIM:-$(command -v exim4 || command -v exim || true)}
has_exim() { [ -n "$exim" ] && "$exim" -bV -C /dev/null >/dev/null 2>&1; }
make_exim() {
    mkdir -p "$world"/{spool,log,mail/new}
    cat > "$world/exim.conf" <<CF
never_users =
exim_path = $exim
keep_environment = LD_LIBRARY_PATH
# It is not setuid here: it delivers as the user it is.
deliver_drop_privilege = true
primary_hostname = mx.example.com
spool_directory = $world/spool
log_file_path = $world/log/%slog
pid_file_path = $world/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = $port
tls_advertise_hosts =
smtp_accept_max = 2
smtp_accept_max_per_connection = 1000
smtp_accept_queue_per_connection = 0
domainlist local_domains = example.com
acl_smtp_rcpt = rcpt
begin acl
rcpt:
  accept domains = +local_domains
         verify = recipient
  deny message = relay not permitted
begin routers
box:
  driver = accept
  domains = +local_domains
  condition = \${if match{\$local_part}{^shopper[0-9]+\\\$}}
  transport = box
begin transports
box:
  driver = appendfile
  directory = $world/mail/new
  maildir_format = false
  mailstore_format = false
  directory_file = \$message_exim_id
  user = Debian-exim
  envelope_to_add
CF
    chown -R Debian-exim:Debian-exim "$world"/{spool,log,mail}
    chmod 644 "$world/exim.conf"
}
# exim refuses a configuration of another owner than root; this one is root's.
start_exim() { "$exim" -C "$world/exim.conf" -bd -q5s; }
stop_exim() {
    local id
    id=$(cat "$world/exim.pid")
    kill "$id"
    rm -f "$world/exim.pid"
}
delivered_exim() { find "$world/mail/new" -type f; }

smtpd=${SMTPD:-$(command -v smtpd || true)}
# Its paths are built in.
has_opensmtpd() { [ -n "$smtpd" ] && [ -x "$smtpd" ]; }
make_opensmtpd() {
    mkdir -p "$world/mail" /usr/libexec
    chown nobody "$world/mail"
    mount -t tmpfs none /run
    mount -t tmpfs none /var/lib
    mount -t tmpfs none /var/spool
    mkdir -m 711 /var/spool/smtpd
    mkdir -p /var/lib/opensmtpd/empty
    if [ -n "${SMTPD_LIBEXEC:-}" ]; then
        mount -t tmpfs none /usr/libexec
        mkdir /usr/libexec/opensmtpd
        mount --bind "$SMTPD_LIBEXEC" /usr/libexec/opensmtpd
    fi
    cat > "$world/smtpd.conf" <<CF
table boxes { "shopper@example.com" = "nobody", $(for ((i = 1; i <= carts; i++)); do printf '"shopper%d@example.com" = "nobody", ' $i; done) "nobody" = "nobody" }
listen on 127.0.0.1 port $port hostname mx.example.com
action box maildir "$world/mail" virtual <boxes>
match from any for domain "example.com" action box
CF
}
start_opensmtpd() { setsid "$smtpd" -d -f "$world/smtpd.conf" > "$world/smtpd.log" 2>&1 & smtpd_id=$!; }
stop_opensmtpd() { kill "$smtpd_id" && wait "$smtpd_id" 2>/dev/null || true; }
unmake_opensmtpd() { umount ${SMTPD_LIBEXEC:+/usr/libexec/opensmtpd /usr/libexec} /var/spool /var/lib /run; }
delivered_opensmtpd() { find "$world/mail" -type f -path '*/new/*'; }

make_shop() {
    local i touched
    touched=$(date -u -d '-2 hours' +%FT%TZ)
    for ((i = 0; i <= carts; i++)); do
        local address=shopper$i
        [ $i = 0 ] && address=unknown
        echo "{\"cart_id\":\"c$i\",\"email\":\"$address@example.com\",\"currency\":\"EUR\",\"created_at\":\"$touched\",\"updated_at\":\"$touched\",\"recovery_url\":\"https://shop.example/cart/c$i\",\"consent\":true,\"items\":[{\"sku\":\"A-$i\",\"name\":\"Lamp\",\"quantity\":1,\"unit_price\":\"19.90\"}]}"
    done > "$world/carts.jsonl"
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
[mail]
from = "Example Shop <hello@shop.example>"
[mail.smtp]
host = "127.0.0.1"
port = $port
tls = "none"
connections = 6
TOML
    run init --rehearsal >/dev/null
}
run() { env -C "$world" -i PATH=/usr/bin:/bin HOME=/ "$mailonce" "$@"; }
later() { date -u -d "+$1 minutes" +%FT%TZ; }
states() { sqlite3 -cmd '.timeout 20000' -readonly -separator ' ' "$world/mailonce.db" "SELECT state, trim(message_id, '<>'), recipient FROM message"; }
number() { awk -v state="$1" '$1 == state { n++ } END { print n + 0 }' < <(states); }
copies() { "delivered_$server" | xargs -r grep -him1 '^message-id:' | tr -d '\r' | sed 's/^[^<]*<//; s/>.*//' | sort | uniq -c | awk '{ print $2, $1 }' | sort; }
all_delivered() { [ "$(copies | wc -l)" -ge "$(number sent)" ]; }

# What the ledger says against what was delivered.
check() {
    local line
    wait_until "sent $(number sent), delivered $(copies | wc -l)" all_delivered || true
    copies > "$world/copies"
    states | awk '{ print $2, $1 }' | sort > "$world/states"
    while read -r line; do fail "$1: $line"; done < <(
        join -a 1 -e 0 -o 0,1.2,2.2 "$world/states" "$world/copies" | awk '
            $2 == "sent" && $3 != 1 || $2 == "in_doubt" && $3 > 1 || $2 != "sent" && $2 != "in_doubt" && $3 > 0 {
                print $1 " is " $2 " and was delivered " $3 " times" }'
        join -v 2 "$world/states" "$world/copies" | sed 's/$/ was delivered, and the ledger does not know it/')
    [ "$(wc -l < "$world/states")" = $((carts + 1)) ] || fail "$1: $(wc -l < "$world/states") messages for $((carts + 1)) carts"
}

try() { # HOW: plain, restarted
    local how=$1 code=0 sender i
    world=$(mktemp -d /tmp/mailonce-servers.XXXXXX)
    chmod 755 "$world"
    port=$((20000 + RANDOM % 12000))
    "make_$server"
    "start_$server"
    wait_until "does not listen on port $port" listens || return 0
    make_shop
    if [ "$how" = restarted ]; then
        env -C "$world" -i PATH=/usr/bin:/bin HOME=/ "$mailonce" detect > "$world/first" 2>&1 &
        sender=$!
        for ((i = 0; i < 1000; i++)); do [ "$(number sent)" = 0 ] && kill -0 $sender 2>/dev/null || break; sleep 0.01; done
        "stop_$server" >/dev/null 2>&1 || true
        wait_until "still listens after its end" silent || true
        wait $sender || code=$?
        "start_$server"
        wait_until "does not listen after its restart" listens || return 0
    else
        run detect > "$world/first" 2>&1 || code=$?
        # The server lets two connections in, and refuses one recipient: nobody is needed for either.
        [ $code = 0 ] || fail "$how: exit code $code: $(head -1 "$world/first")"
    fi
    for ((i = 1; i <= 5; i++)); do run detect --now "$(later $((i * 10)))" > "$world/later" 2>&1 || true; done
    check "$how"
    [ "$(number refused)" = 1 ] || fail "$how: $(number refused) refused; only unknown@example.com is no one"
    [ "$(number planned)" = 0 ] || fail "$how: $(number planned) never sent"
    [ "$how" = restarted ] || [ "$(number sent)" = "$carts" ] || fail "$how: $(number sent) of $carts sent"
    echo "$server, $how: exit $code, $(number sent) sent, $(number refused) refused, $(number in_doubt) in doubt, $(wc -l < "$world/copies") delivered"
    clean_up
}

[ $# -gt 0 ] || set -- postfix exim opensmtpd
for server in "$@"; do
    declare -F "has_$server" >/dev/null || { echo "no such server: $server"; exit 2; }
    if ! "has_$server"; then say_skipped "no $server here (or another one of it runs)"; continue; fi
    tried=$((tried + 1))
    for how in plain restarted; do try $how; clean_up; done
done
[ $tried -gt 0 ] || exit 77
[ $broken = 0 ] || exit 1
