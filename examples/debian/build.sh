#!/usr/bin/env bash
# Builds the Debian package: examples/debian/build.sh. Needs `cargo install cargo-deb`, and dpkg-dev, which finds out what the
# program is linked to. What the program itself writes (man pages, completions) is made into target/debian-assets first.
# The same commit gives the same package: nothing in it has the time of the build.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
assets=target/debian-assets
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
export SOURCE_DATE_EPOCH
cargo build --release --locked
rm -rf "$assets"
mkdir -p "$assets"
"$target/release/mailonce" man --into "$assets/man"
for shell in bash zsh fish; do "$target/release/mailonce" completions $shell > "$assets/mailonce.$shell"; done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
gzip -9nc CHANGELOG.md > "$assets/changelog.gz"
maintainer=$(sed -n 's/^maintainer = "\(.*\)"/\1/p' Cargo.toml)
cat > "$assets/changelog.Debian" <<CHANGES
mailonce ($version-1) stable; urgency=medium

  * What is new is in changelog.gz.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGES
cargo deb --no-build --locked "$@"
