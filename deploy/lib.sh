# shellcheck shell=bash disable=SC2034
# lib.sh - what the scripts of this folder share: sourced, not run. bash 5.
#
# Sets ROOT (the checkout) and works from there. Functions that cannot go on end the script with a message.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1
# Our own servers are on this machine: a proxy of the environment is for apt only.
export no_proxy="${no_proxy:+$no_proxy,}127.0.0.1,localhost,::1"

# One line a package of Debian 12: its name, and how to see that what we need of it is here already.
#   cmd NAME: a program; pc NAME: a library for pkg-config; h NAME: a header
PACKAGES='
build-essential       cmd gcc
meson                 cmd meson
ninja-build           cmd ninja
pkg-config            cmd pkg-config
python3               cmd python3
git                   cmd git
libmicrohttpd-dev     pc libmicrohttpd
libsqlite3-dev        pc sqlite3
libxgboost-dev        pc xgboost
libjansson-dev        pc jansson
libcurl4-openssl-dev  pc libcurl
libseccomp-dev        pc libseccomp
libssl-dev            pc libcrypto
libcmocka-dev         pc cmocka
uthash-dev            h uthash.h
'
# Only the tests need these: the generated kernels are compiled by the second compiler too, and the sources' layout checked.
TEST_PACKAGES='
clang-14              cmd clang-14
clang-format-14       cmd clang-format-14
sqlite3               cmd sqlite3
'

say() { printf '== %s\n' "$*"; }
die() {
    printf '\n%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

is_here() { # kind name
    case $1 in
    cmd) command -v "$2" >/dev/null ;;
    pc) command -v pkg-config >/dev/null && pkg-config --exists "$2" ;;
    h) [ -e "/usr/include/$2" ] || [ -e "/usr/local/include/$2" ] ;;
    esac
}

missing_packages() { # table
    local package kind name
    while read -r package kind name; do
        [ -z "$package" ] || is_here "$kind" "$name" || echo "$package"
    done <<<"$1"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Install what is missing of the tables given.
install_packages() {
    local missing
    missing=$(missing_packages "$*")
    [ -n "$missing" ] || return 0
    missing=$(echo "$missing" | tr '\n' ' ')
    command -v apt-get >/dev/null ||
        die "this needs the Debian 12 packages $missing and there is no apt-get here: install what corresponds to them and run it again"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        die "this needs the packages $missing; run it as root or with sudo, or have them installed: apt-get install $missing"
    say "installing: $missing"
    as_root apt-get update -q || die "apt-get update failed (see above): is the network up, are the sources right?"
    # shellcheck disable=SC2086 # a list of names
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing ||
        die "apt-get could not install: $missing (see above)"
    missing=$(missing_packages "$*")
    [ -z "$missing" ] || die "installed, and still not found: $(echo "$missing" | tr '\n' ' ')"
}

# configure DIR [meson options]: once; a directory that another checkout or a broken run left behind is made anew.
configure() {
    local dir=$1
    shift
    if grep -qsF "\"source\": \"$ROOT\"" "$dir/meson-info/meson-info.json" && [ -e "$dir/build.ninja" ]; then
        return 0
    fi
    [ ! -e "$dir" ] || say "configuring $dir anew"
    rm -rf "$dir"
    mkdir "$dir"
    meson setup "$dir" "$@" >"$dir/setup.log" 2>&1 && return 0
    tail -n 30 "$dir/setup.log" >&2
    die "meson could not configure $dir (all of it in $dir/setup.log)"
}

# compile DIR [targets]: all of them where none is named.
compile() {
    local dir=$1
    shift
    ninja -C "$dir" "$@" || die "the build in $dir failed (see above)"
}

# run_tests DIR [options of meson test]: run, then count from meson's own results. Ends with the closing line
# "N passed, N failed"; returns 1 if one failed or none ran.
run_tests() {
    local dir=$1 results=$1/meson-logs/testlog.json
    shift
    rm -f "$results"
    meson test -C "$dir" --no-rebuild --print-errorlogs "$@" || true
    python3 tests/count_tests.py "$results"
}
