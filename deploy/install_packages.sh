#!/bin/bash
# install_packages.sh SECTION…: installs what is missing of those sections of packages.txt. Says nothing when all is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

wanted() {
  awk -v sections=" $* " '
    { sub(/#.*/, ""); gsub(/[ \t]+$/, "") }
    /^\[.*\]$/ { section = substr($0, 2, length($0) - 2); next }
    $1 != "" && index(sections, " " section " ") { print $1 }' "$here/packages.txt"
}

missing=()
for package in $(wanted "$@"); do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

root=()
if [[ $(id -u) != 0 ]]; then
  command -v sudo >/dev/null || { echo "${0##*/}: as root, install: ${missing[*]}" >&2; exit 1; }
  root=(sudo)
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${root[@]}" apt-get update -qq && "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
       apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log" >&2
  echo "${0##*/}: apt-get could not install: ${missing[*]}" >&2
  exit 1
fi
