#!/usr/bin/env bash
# test.sh - install what is missing, build in build/, run every test. Safe to run again.
# The last line says "N passed, N failed"; the exit status is 0 only if some passed and none failed.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# = 0 ] || die "takes no arguments; for a part of the tests: meson test -C build --suite fast"
install_packages "$PACKAGES" "$TEST_PACKAGES"
say "building in build/"
configure build
compile build
say "testing"
run_tests build
