#!/bin/bash
# docker_base.sh IMAGE: makes a Debian 12 for `FROM` by debootstrap, where no registry is in reach. It gets its packages from where this
# machine gets its own.
set -euo pipefail
image=$1
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
debootstrap --variant=minbase --no-check-gpg bookworm "$root" "$mirror" >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; exit 1; }
rm -f "$root.log" "$root/etc/apt/sources.list"
for what in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/trusted.gpg.d /etc/apt/keyrings /etc/ssl/certs /usr/share/ca-certificates; do
  [[ ! -e $what ]] || { mkdir -p "$root${what%/*}"; cp -rL "$what" "$root${what%/*}/"; }
done
rm -rf "$root/var/cache/apt/archives/"*.deb
tar -C "$root" --exclude ./dev -c . | docker import - "$image" >/dev/null
