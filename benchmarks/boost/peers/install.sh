#!/bin/sh
# An environment for each peer in FOLDER: install.sh FOLDER. Needs Python 3.10 and 3.11 and, for FedTree, apt-get and dpkg.
set -eu
folder=${1:?install.sh FOLDER}
mkdir -p "$folder/debs" "$folder/lib"
folder=$(CDPATH='' cd -- "$folder" && pwd -P)

install() {
    python=$1
    name=$2
    shift 2
    "$python" -m venv "$folder/$name"
    "$folder/$name/bin/python" -m pip install --quiet "$@"
}

install "${PYTHON311:-python3.11}" heu sf-heu==0.5.2b0 numpy
install "${PYTHON310:-python3.10}" secretflow secretflow==1.14.0b0
install "${PYTHON311:-python3.11}" fedtree fedtree==1.0.5 numpy

# FedTree's wheel links two libraries that it does not bring.
cd -- "$folder/debs"
apt-get download libntl44 libgf2x3
for package in ./*.deb; do dpkg -x "$package" "$folder/debs"; done
cp -P "$folder"/debs/usr/lib/*/*.so.* "$folder/lib/"
