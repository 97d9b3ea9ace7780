#!/usr/bin/env bash
# Makes a folder an emulated 64-bit ARM board: qemu-user, Debian's arm64 Python, TVM's aarch64 wheels.
# Needs Debian on x86-64, about 900 MB while it works (200 MB remain) and no root; writes only the
# folder and the cache.
set -euo pipefail

USAGE="usage: setup.sh [--cache FOLDER] [--mirror URL] [--python PYTHON] FOLDER
  --cache FOLDER    keep downloads here: the next board needs no network
  --mirror URL      Debian mirror to use in place of those that apt is configured with
  --python PYTHON   a Python with pip (default: python3)
  FOLDER            the board; one that is finished is left as it is"

# What the board runs: the pins of pyproject.toml, and what the runtime and its RPC server import.
WHEELS=(apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post0 numpy==2.4.6 ml_dtypes==0.6.0
        typing_extensions==4.16.0 psutil==7.2.2 cloudpickle==3.1.2)
PACKAGES=(python3-minimal libpython3-stdlib libstdc++6 zlib1g)
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
# A board made by another recipe is made anew.
RECIPE="2 ${WHEELS[*]} ${PACKAGES[*]}"
SPACE_MB=900

CACHE="" MIRROR="" PYTHON=python3

main() {
  read_arguments "$@"
  mkdir -p "$BOARD" || die "cannot create $BOARD"
  BOARD=$(cd "$BOARD" && pwd -P)
  MARK=$BOARD/.arm-board
  exec 9< "$BOARD" && flock 9     # a second setup waits, then finds the board done
  if [ "$(cat "$MARK" 2>/dev/null)" = "$RECIPE" ]; then echo "the board is ready: $BOARD"; return; fi
  check_machine

  # All is made in WORK, so that an interrupted setup leaves nothing that looks like a board.
  echo incomplete > "$MARK"
  WORK=$BOARD/.work NEW=$BOARD/.work/board
  rm -rf "$WORK" && mkdir -p "$NEW"/{sysroot,site}
  trap 'rm -rf "$WORK"' EXIT
  CACHE=${CACHE:-$WORK/cache}
  mkdir -p "$CACHE" && CACHE=$(cd "$CACHE" && pwd -P) || die "cannot use the cache $CACHE"

  make_sysroot
  make_site
  write_launcher
  quiet "$NEW/board-python" -c 'import numpy, tvm.rpc.server' || die "the board cannot import tvm"
  for item in "$NEW"/*; do rm -rf "$BOARD/${item##*/}"; mv "$item" "$BOARD"; done
  echo "$RECIPE" > "$MARK"
  echo "the board is made: $BOARD (Python $VERSION, $SECONDS s)"
}

read_arguments() {
  while [ $# -gt 1 ]; do
    case $1 in
      --cache) CACHE=$2 ;;
      --mirror) MIRROR=$2 ;;
      --python) PYTHON=$2 ;;
      *) die "$USAGE" ;;
    esac
    shift 2
  done
  case ${1:-} in "" | -*) die "$USAGE" ;; esac
  BOARD=$1
}

check_machine() {
  [ -e "$MARK" ] || [ -z "$(ls -A "$BOARD")" ] ||
    die "$BOARD is neither empty nor a board: it is left alone"
  grep -qx 'ID=debian' /etc/os-release && [ "$(uname -m)" = x86_64 ] || die "needs Debian on x86-64"
  CODENAME=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  local tool
  for tool in apt-get apt-config dpkg-deb tar flock; do
    command -v "$tool" > /dev/null || die "$tool is missing"
  done
  [ -r "$KEYRING" ] || die "$KEYRING is missing: install debian-archive-keyring"
  "$PYTHON" -m pip --version > /dev/null 2>&1 || die "$PYTHON has no pip: see --python"
  [ "$(df -Pm "$BOARD" | awk 'NR == 2 { print $4 }')" -ge $SPACE_MB ] ||
    die "$BOARD has less than $SPACE_MB MB of free space"
}

# Debian's arm64 Python and libraries, and qemu for this machine.
make_sysroot() {
  local debs deb
  debs=$(cached "debs-$CODENAME-$(checksum)" fetch_packages) ||
    die "no Debian packages (network? proxy? see --mirror)"
  for deb in "$debs"/*_{arm64,all}.deb; do
    case $deb in
      */dpkg_* | */tar_*) ;;
      *) dpkg-deb -x "$deb" "$NEW/sysroot" || die "damaged: $deb" ;;
    esac
  done
  dpkg-deb --fsys-tarfile "$debs"/qemu-user-static_*.deb |
    tar -xO ./usr/bin/qemu-aarch64-static > "$NEW/qemu-aarch64-static" ||
    die "no emulator in $debs"
  chmod +x "$NEW/qemu-aarch64-static"
  rm -rf "$NEW"/sysroot/usr/share/{doc,man,locale}
  VERSION=$(readlink "$NEW/sysroot/usr/bin/python3") || die "no Python among the Debian packages"
  VERSION=${VERSION#python}
}

# TVM and what it imports, without what only compiling needs.
make_site() {
  PLATFORM=(--python-version "$VERSION" --implementation cp --abi "cp${VERSION/./}" --abi abi3
            --abi none --only-binary=:all: --platform manylinux2014_aarch64)
  local glibc wheels
  for glibc in $(seq 17 36); do PLATFORM+=(--platform "manylinux_2_${glibc}_aarch64"); done
  wheels=$(cached "wheels-$VERSION-$(checksum)" fetch_wheels) ||
    die "no aarch64 wheels for Python $VERSION (network? proxy? pip's configuration?)"
  PIP_USER=0 quiet "$PYTHON" -m pip install --no-index --no-deps --no-compile \
    --target "$NEW/site" "${PLATFORM[@]}" "$wheels"/*.whl || die "cannot unpack $wheels"
  rm -rf "$NEW"/site/tvm/{3rdparty,src,web,include}
  rm -f "$NEW"/site/tvm/lib/libtvm_{compiler,runtime_cuda}.so
}

write_launcher() {
  cat > "$NEW/board-python" <<'END'
#!/bin/sh
# Python of the emulated board; ARM_BOARD_CPU is qemu's -cpu (default: max).
here=$(dirname "$(readlink -f "$0")")
unset LD_PRELOAD LD_LIBRARY_PATH
export PYTHONHOME="$here/sysroot/usr" PYTHONPATH="$here/site" PYTHONNOUSERSITE=1
export TVM_USE_RUNTIME_LIB=1 TVM_NUM_THREADS="${TVM_NUM_THREADS:-2}"
# -0 makes this script sys.executable, so that the board's Python can start itself again.
exec "$here/qemu-aarch64-static" -cpu "${ARM_BOARD_CPU:-max}" -L "$here/sysroot" \
  -0 "$here/board-python" "$here/sysroot/usr/bin/python3" "$@"
END
  chmod +x "$NEW/board-python"
}

# Downloads into $1 through an apt state of our own: the machine's is neither used nor changed.
fetch_packages() {
  local apt=$WORK/apt
  mkdir -p "$apt"/{lists,archives}/partial && : > "$apt/status"
  apt_sources > "$apt/sources.list" || true
  [ -s "$apt/sources.list" ] || { echo "apt has no source for $CODENAME" >&2; return 1; }
  # Proxies and the like are the machine's.
  { apt-config dump | grep '^Acquire::' || true; apt_settings "$apt"; } > "$apt/apt.conf"
  local -x APT_CONFIG=$apt/apt.conf
  # One bad source is no reason to stop: the next step tells.
  apt-get -q update > "$apt/update.log" 2>&1 || true
  quiet apt-get -q install -y --download-only "${PACKAGES[@]}" ||
    { grep '^[WE]:' "$apt/update.log" >&2; return 1; }
  (cd "$1" && quiet apt-get -q download qemu-user-static:amd64) || return 1
  mv "$apt"/archives/*.deb "$1"
}

apt_sources() {
  if [ -n "$MIRROR" ]; then
    echo "$MIRROR $CODENAME"
  else
    apt-get update --print-uris 2>/dev/null |
      sed -nE "s|^'(.*)/dists/($CODENAME(-updates\|-security)?)/InRelease'.*|\1 \2|p"
  fi | sed "s|.*|deb [arch=arm64,amd64 signed-by=$KEYRING] & main|"
}

apt_settings() {
  cat <<END
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "/dev/null";  Dir::Etc::parts "/dev/null";  Dir::Etc::main "/dev/null";
Dir::Etc::preferences "/dev/null";  Dir::Etc::preferencesparts "/dev/null";
Dir::State "$1";  Dir::State::status "$1/status";  Dir::Cache "$1";
APT::Architecture "arm64";  APT::Architectures { "arm64"; "amd64"; };
APT::Sandbox::User "";  APT::Install-Recommends "false";  Acquire::Languages "none";
END
}

fetch_wheels() {
  quiet "$PYTHON" -m pip download --no-deps --dest "$1" "${PLATFORM[@]}" "${WHEELS[@]}"
}

# cached NAME COMMAND: the folder NAME of the cache, which `COMMAND FOLDER` has filled, all or nothing.
cached() {
  local folder=$CACHE/$1 part
  if [ ! -d "$folder" ]; then
    part=$(mktemp -d "$folder.XXXXXX")
    "$2" "$part" || { rm -rf "$part"; return 1; }
    mv -T "$part" "$folder" 2>/dev/null || rm -rf "$part"    # another setup was faster
  fi
  echo "$folder"
}

checksum() { cksum <<< "$RECIPE" | cut -d' ' -f1; }

# Runs a command silently; shows the end of what it said if it fails.
quiet() { "$@" > "$WORK/log" 2>&1 || { tail -n 15 "$WORK/log" >&2; return 1; }; }

die() {
  echo "setup.sh: $*" >&2
  exit 1
}

main "$@"
