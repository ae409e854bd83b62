#!/usr/bin/env bash
# An environment of its own for cell-gears 0.1.2: bash benchmarks/peers/gears/environment.sh <folder> [python3.11]
# Its package needs versions that pertexp does not; torch comes first and by itself, so that its build is kept.
set -euo pipefail
folder="${1:?name the folder to make it in, outside the repository}"
"${2:-python3.11}" -m venv "$folder"
install() { "$folder/bin/python" -m pip --disable-pip-version-check install --quiet --progress-bar off "$@"; }
install torch==2.13.0
install torch-geometric==2.8.1 cell-gears==0.1.2 'numpy<2' 'scipy<1.12' 'pandas<2.2' 'scanpy<1.10' 'anndata<0.11' 'matplotlib<3.9'
"$folder/bin/python" -c 'import gears; print("cell-gears is ready in", __import__("sys").prefix)'
