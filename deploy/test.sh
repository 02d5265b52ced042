#!/bin/bash
# Installs what is missing, builds, runs every test but the long ones (ctest -L nightly). Arguments go to ctest.
set -euo pipefail
cd "$(dirname "$0")/.."
sections=(run build test)
case " $* " in *' -L nightly '*) sections+=(nightly) ;; esac
deploy/install_packages.sh "${sections[@]}"
deploy/install_npm.sh build/npm
deploy/build.sh release -DLOCKSTEP_TESTS=ON
[[ $* == *-L* ]] || set -- -LE nightly "$@"
began=$SECONDS result=0
ctest --preset release "$@" </dev/null || result=$?
minutes=$(( (SECONDS - began + 59) / 60 ))
if [[ $result == 0 ]]; then echo "test.sh: every test passed, within $minutes min"
else echo "test.sh: tests failed (see above; again with: ctest --preset release --rerun-failed)"; fi
exit $result
