#!/bin/sh
# Writes cpu.txt and cuda.txt, the exact versions and hashes that set-up installs, for every Python it takes.
# Run it by `npm run lock` after changing a file beside it. Needs uv on the PATH; delete a .txt first to renew its pins.
set -eu
cd "$(dirname "$0")"

compile() {
  uv pip compile --quiet --universal --python-version 3.10 --only-binary :all: --generate-hashes \
    --no-annotate --no-header --no-emit-index-url --no-emit-find-links "$@"
}

compile engine.in dev.in cuda.in -o cuda.txt

# torch is installed by itself, since its CPU build comes from various places, and what it asks for is CUDA.
[ ! -f cpu.txt ] || cp cpu.txt cpu.full.txt
compile --override cpu.overrides.txt engine.in dev.in -o cpu.full.txt
awk '/^[a-zA-Z]/ { skip = /^(torch|torchvision|torchcodec|triton)==|^(cuda|nvidia)-/ } !skip' cpu.full.txt > cpu.txt
rm cpu.full.txt
