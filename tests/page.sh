#!/bin/sh
# Looks at a page of `mailonce report` with a real browser, by hand: pictures in light and dark, narrow and on paper, what the console
# says, what axe and the validator find. Nothing leaves this machine.
#
#   tests/page.sh page.html [DIR]
#
# DIR gets the pictures (default: page-looks). Needs chromium; AXE_JS names an axe.min.js (npm pack axe-core), VNU_JAR a vnu.jar
# (npm pack vnu-jar, with java): what is not there is said and left out. Exits 0 when nothing was found, 1 otherwise.
set -u
page=$(realpath "${1:?usage: page.sh PAGE [DIR]}") || exit 1
looks=${2:-page-looks}
mkdir -p "$looks" && looks=$(realpath "$looks") || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

# browse ARGUMENT…: one start of the browser, its console in $work/console
browse() {
    chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" --enable-logging=stderr \
        --virtual-time-budget=20000 "$@" 2>"$work/console"
    if grep -F 'CONSOLE' "$work/console"; then
        echo "FAIL  the console is not silent"
        failed=1
    fi
}

# found NAME FILE: a check that must have printed nothing
found() {
    if [ -s "$2" ]; then
        echo "FAIL  $1:"
        sed 's/^/      /' "$2"
        failed=1
    else
        echo "ok    $1"
    fi
}

browse --screenshot="$looks/light.png" --window-size=1200,4000 "file://$page"
browse --screenshot="$looks/dark.png" --window-size=1200,4000 --blink-settings=preferredColorScheme=0 "file://$page"
# No window is narrower than 500: the page stands in a frame of 320.
printf '<!doctype html><iframe src="file://%s" style="width:320px;height:5900px;border:0"></iframe>' "$page" >"$work/narrow.html"
browse --screenshot="$looks/narrow.png" --window-size=520,6000 "file://$work/narrow.html"
browse --print-to-pdf="$looks/paper.pdf" --no-pdf-header-footer "file://$page"
echo "ok    pictures in $looks: look at them"

if [ -r "${AXE_JS:-}" ]; then
    # The page's own policy would not let axe run.
    {
        grep -v 'http-equiv="Content-Security-Policy"' "$page" | sed 's/<details>/<details open>/'
        echo '<script>'
        cat "$AXE_JS"
        cat <<'SCRIPT'
</script>
<script>
axe.run().then(found => {
  const lines = found.violations.map(v => `${v.id}: ${v.help} (${v.nodes.length}): ${v.nodes[0].html.slice(0, 120)}`);
  document.documentElement.innerHTML = '<body><pre id="found"></pre>';
  document.getElementById('found').textContent = ['axe ran', ...lines].join('\n');
});
</script>
SCRIPT
    } >"$work/axe.html"
    browse --dump-dom --window-size=1200,900 "file://$work/axe.html" >"$work/dom"
    if grep -q 'axe ran' "$work/dom"; then
        sed -n '/axe ran/,/<\/pre>/p' "$work/dom" | sed -e '1d' -e 's/<\/pre>.*//' -e '/^$/d' >"$work/violations"
        grep 'axe ran' "$work/dom" | sed 's/.*axe ran//; s/<\/pre>.*//' | grep . >>"$work/violations"
        found "axe" "$work/violations"
    else
        echo "FAIL  axe did not come to an end"
        failed=1
    fi
else
    echo "-     axe: AXE_JS is not set"
fi

if [ -r "${VNU_JAR:-}" ]; then
    java -jar "$VNU_JAR" --Werror "$page" >"$work/vnu" 2>&1
    found "the validator" "$work/vnu"
else
    echo "-     the validator: VNU_JAR is not set"
fi
exit "$failed"
