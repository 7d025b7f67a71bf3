#!/bin/sh
# install-packages.sh PACKAGE:COMMAND ...   installs the Debian PACKAGEs whose COMMAND is not on this machine; does nothing when all are there.
# A package without a command is known by one of its files: PACKAGE:/PATH/OF/FILE.
#
# A Debian server package also starts and enables its system service. The demo runs its own servers from its own folders, so a service of
# theirs that was not there before is neither left running nor left enabled: policy-rc.d keeps it from starting, and the units and init
# scripts of newly installed SERVERS are disabled. What was there before, and every other package, is not touched.
set -eu

SERVERS="ejabberd erlang-base gpsd mosquitto postgresql-common"

say() { echo "install-packages: $*" >&2; }

missing=""
for pair in "$@"; do
  package=${pair%%:*} command=${pair#*:}
  case $command in
    /*) [ -e "$command" ] || missing="$missing $package" ;;
    *) PATH="$PATH:/usr/sbin:/sbin" command -v "$command" >/dev/null 2>&1 || missing="$missing $package" ;;
  esac
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null 2>&1 || { say "missing:$missing (no apt-get here: install them with this system's package tool)"; exit 2; }
sudo=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 || { say "missing:$missing (run this once as root, or install sudo)"; exit 2; }
  sudo="sudo"
  say "missing:$missing (installing needs root)"
  sudo true || { say "missing:$missing (sudo refused: run this once as root)"; exit 2; }
fi

say "installing from Debian:$missing"
before=$(mktemp) after=$(mktemp) temporary=$(mktemp -d)  # maintainer scripts leave files in TMPDIR
policy=/usr/sbin/policy-rc.d made_policy=""
cleanup() {
  $sudo rm -rf "$before" "$after" "$temporary"
  [ -z "$made_policy" ] || $sudo rm -f "$policy"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

dpkg-query -W -f '${Package}:${Architecture}\n' | sort > "$before"
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
  made_policy=yes
  $sudo chmod 755 "$policy"
fi
$sudo apt-get update -qq || { say "apt-get update failed (is there a network?)"; exit 2; }
# shellcheck disable=SC2086 # the list is meant to be split
$sudo env DEBIAN_FRONTEND=noninteractive TMPDIR="$temporary" apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
  { say "apt-get could not install:$missing (is there a network?)"; exit 2; }

dpkg-query -W -f '${Package}:${Architecture}\n' | sort > "$after"
comm -13 "$before" "$after" | while read -r package; do
  case " $SERVERS " in *" ${package%%:*} "*) ;; *) continue ;; esac
  dpkg-query -L "$package" | grep -E '^(/usr)?/lib/systemd/system/[^/@]+\.(service|socket|timer)$' | while read -r unit; do
    name=$(basename "$unit")
    if [ -d /run/systemd/system ]; then $sudo systemctl disable --quiet --now "$name" || say "could not stop $name"
    elif command -v systemctl >/dev/null 2>&1; then $sudo systemctl disable --quiet "$name" 2>/dev/null || say "could not disable $name"
    else $sudo env DPKG_MAINTSCRIPT_PACKAGE=cruisers deb-systemd-helper disable "$name" >/dev/null 2>&1 || say "could not disable $name"
    fi
  done
  dpkg-query -L "$package" | grep -E '^/etc/init\.d/[^/]+$' | while read -r script; do
    $sudo update-rc.d "$(basename "$script")" disable >/dev/null 2>&1 || say "could not disable $script"
  done
done
