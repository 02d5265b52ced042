#!/bin/bash
# install_npm.sh DIR: installs what packages.txt lists under [npm] into DIR/node_modules; of NAME@VERSION:FOLDER that folder alone, without
# what the package depends on. Says nothing when all is there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[[ $# == 1 ]] || { echo "usage: ${0##*/} DIR" >&2; exit 2; }
dir=$1
listed=$(awk '{ sub(/#.*/, "") } /^\[/ { ours = /^\[npm\]/; next } ours && NF { print $1 }' "$here/packages.txt")

there() {  # NAME@VERSION
  grep -qs "\"version\": \"${1##*@}\"" "$dir/node_modules/${1%@*}/package.json"
}

missing=() whole=() folders=()
for package in $listed; do
  if [[ $package == *:* ]]; then folders+=("$package"); else whole+=("$package"); fi
  there "${package%%:*}" || missing+=("${package%%:*}")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

# Debian's npm conflicts with a nodejs that brings its own.
if ! command -v npm >/dev/null; then
  root=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || { echo "${0##*/}: as root, install: npm" >&2; exit 1; }
    root=(sudo)
  fi
  echo "installing npm"
  { "${root[@]}" apt-get update -qq && "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends npm; } >/dev/null 2>&1 </dev/null ||
    { echo "${0##*/}: apt-get could not install npm" >&2; exit 1; }
fi

echo "installing ${missing[*]}"
mkdir -p "$dir"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

install() {
  # All that are listed: npm removes from the folder what it is not told of; what it does not know of comes after.
  npm install --prefix "$dir" --no-save --no-audit --no-fund --no-package-lock --ignore-scripts "${whole[@]}" || return
  local one package folder to
  for one in "${folders[@]}"; do
    package=${one%%:*} folder=${one#*:} to=$dir/node_modules/${package%@*}
    npm pack --silent --ignore-scripts --pack-destination "$scratch" "$package" || return
    rm -rf "$to" && mkdir -p "$to" || return
    tar -xzf "$scratch"/*.tgz -C "$to" --strip-components=1 package/package.json "package/$folder" || return
    rm "$scratch"/*.tgz
  done
}

if ! install >"$scratch/log" 2>&1 </dev/null; then
  why=$(grep -m1 -oP '^npm (ERR!|error) \K(?!(code|errno|syscall) ).*' "$scratch/log" || tail -n 1 "$scratch/log")
  echo "${0##*/}: npm could not install ${missing[*]}: $why" >&2
  exit 1
fi
