#!/bin/sh
# Installs, upgrades or removes Zeroscribe as a service of this machine. See README.md beside this file.
# Here is only what has to be there before TypeScript runs; the rest is main.ts.
set -eu

folder=$(cd "$(dirname "$0")/../../.." && pwd)
# What set-up installs must be readable for the service.
umask 022

case "${1-}" in
  install | uninstall | add-key | help | --help | -h) ;;
  upgrade)
    shift
    set -- install "$@"
    ;;
  *) set -- install "$@" ;;
esac

touches_machine=yes
was_running=no
for argument in "$@"; do
  case "$argument" in
    --dry-run | --root | --root=* | --help | -h | help) touches_machine=no ;;
  esac
done

if [ "$touches_machine" = yes ]; then
  if [ "$(id -u)" -ne 0 ]; then
    echo 'Run this as root (sudo), or with --dry-run to see what it would do.' >&2
    exit 1
  fi
  if [ "$1" = install ]; then
    # python3-venv is a package of its own here, and set-up needs a compiler for nothing.
    missing=
    command -v node >/dev/null 2>&1 || missing="$missing nodejs"
    command -v npm >/dev/null 2>&1 || missing="$missing npm"
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3 python3-venv"
    if [ -n "$missing" ]; then
      echo "run apt-get install$missing"
      apt-get update -q
      # shellcheck disable=SC2086 # a list of packages
      DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
    fi
    # An upgrade changes the packages that a running service has open. Its jobs are given back, and go on afterwards.
    if systemctl is-active --quiet zeroscribe.service; then
      echo 'run systemctl stop zeroscribe.service'
      systemctl stop zeroscribe.service
      was_running=yes
    fi
  fi
fi

if ! command -v node >/dev/null 2>&1; then
  echo 'Node 18 or newer is needed: apt install nodejs npm' >&2
  exit 1
fi
if [ "$was_running" = no ]; then
  exec node "$folder/setup/run.mjs" deploy/backends/server/main.ts "$@"
fi
# What is refused, or fails on the way, leaves the service running as it was.
node "$folder/setup/run.mjs" deploy/backends/server/main.ts "$@" || {
  code=$?
  echo 'run systemctl start zeroscribe.service'
  systemctl start zeroscribe.service
  exit "$code"
}
