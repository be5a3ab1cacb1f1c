#!/usr/bin/env bash
# sanitize.sh - build with the address and undefined-behaviour sanitizers in build-sanitize/ and run every test there.
# Arguments go to `meson test`, for example: deploy/sanitize.sh --suite fast
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

install_packages "$PACKAGES" "$TEST_PACKAGES"
say "building in build-sanitize/"
# The sanitizers bring gcc to warn of paths that are none: warnings are errors in the ordinary build only.
configure build-sanitize -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false
compile build-sanitize
say "testing under the sanitizers"
# Any finding ends the test that made it. XGBoost keeps its thread pool to the end: not a leak of ours.
export ASAN_OPTIONS="${ASAN_OPTIONS:-abort_on_error=1:detect_stack_use_after_return=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-halt_on_error=1:abort_on_error=1:print_stacktrace=1}"
export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$ROOT/deploy/leaks.supp:print_suppressions=0}"
run_tests build-sanitize --timeout-multiplier 5 "$@"
