#!/bin/sh
# A smoke test for a shop's own CI: checks a configuration, its ledger and its template, and sends nothing.
#
#   examples/smoke.sh mailonce.toml [MOST]
#
# MOST: so many mails at the most are expected to be due (default 1000). Exits 0 when all is well, 1 otherwise.
# MAILONCE names the program, if it is not in the PATH.
set -u
config=${1:?usage: smoke.sh CONFIG [MOST]}
most=${2:-1000}
mailonce=${MAILONCE:-mailonce}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

# check NAME WANTED ACTUAL
check() {
    if [ "$2" = "$3" ]; then
        echo "ok    $1"
    else
        echo "FAIL  $1: expected exit code $2, got $3"
        sed 's/^/      /' "$work/err"
        failed=1
    fi
}

"$mailonce" --config "$config" --json status >"$work/before" 2>"$work/err"
check "the configuration is read and the ledger opens" 0 $?

"$mailonce" --config "$config" detect --dry-run >"$work/dry" 2>"$work/err"
check "detect --dry-run finds the shop readable and no bad row" 0 $?
tail -n 1 "$work/dry" | sed 's/^/      /'

due=$(grep -c '^would send' "$work/dry")
if [ "$due" -le "$most" ]; then
    echo "ok    $due mails would be sent, at most $most expected"
else
    echo "FAIL  $due mails would be sent, at most $most expected"
    failed=1
fi

"$mailonce" --config "$config" preview --out "$work/preview" >"$work/out" 2>"$work/err"
check "the template renders" 0 $?
if [ ! -s "$work/preview/message.html" ] || [ ! -s "$work/preview/message.txt" ]; then
    echo "FAIL  the preview is empty"
    failed=1
fi

"$mailonce" --config "$config" no-such-command >"$work/out" 2>"$work/err"
check "a wrong command line ends with exit code 2" 2 $?

# Only what would change by sending: counts by state, and runs.
"$mailonce" --config "$config" --json status >"$work/after" 2>"$work/err"
grep -v -e '"now"' -e '"made_at"' "$work/before" >"$work/before.kept"
grep -v -e '"now"' -e '"made_at"' "$work/after" >"$work/after.kept"
if cmp -s "$work/before.kept" "$work/after.kept"; then
    echo "ok    the ledger is as it was"
else
    echo "note  the ledger changed meanwhile: another run was at work"
fi
exit $failed
