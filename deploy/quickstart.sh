#!/bin/bash
# Installs what is missing, builds, draws the built-in digits and trains a CNN on them with 2 workers.
set -euo pipefail
cd "$(dirname "$0")/.."
deploy/install_packages.sh run build
deploy/install_npm.sh build/npm
deploy/build.sh release
[[ -e data/digits/val-labels-idx1-ubyte ]] || build/bin/lockstep dataset make digits --out data/digits
run=runs/quickstart-$(date +%Y%m%d-%H%M%S)
root=(); [[ $(id -u) != 0 ]] || root=(--allow-root)
build/bin/lockstep run deploy/examples/digits-cnn.yaml --workers 2 --out "$run" "${root[@]}"
echo "quickstart: trained; look again with: build/bin/lockstep status $run"
