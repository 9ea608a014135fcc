#!/usr/bin/env bash
# One command for everything. Usage: ./run_all.sh [setup|demo|test|paper]
#   setup  make .venv and install the locked packages into it
#   demo   (default) set up, run the embedded benchmark, write tables and figures under results/local/
#   test   set up, run linters and the quick tests: minutes; test --all: every test but those of test --kill, which kill
#          processes, start SLURM, drive a browser and run LaTeX
#   paper  all cells of the paper's GlaS table under the `paper` preset; needs the images and, in practice, a GPU
set -euo pipefail
cd "$(dirname "$0")"
python=.venv/bin/python
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

setup() {
  local stamp=.venv/.locked found
  if [ -x "$python" ] && cmp -s requirements.lock "$stamp"; then return; fi
  found=""
  for candidate in "${PYTHON:-}" python3.12 python3.11 python3.13 python3; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      found=$candidate
      break
    fi
  done
  [ -n "$found" ] || { echo "run_all.sh: Python 3.11 or newer is needed; name it with PYTHON=..." >&2; exit 2; }
  echo "setting up .venv with $("$found" --version) (a few minutes the first time)" >&2
  "$found" -m venv --clear .venv
  "$python" -m pip install -q --disable-pip-version-check -r requirements.lock
  "$python" -m pip install -q --disable-pip-version-check --no-deps --editable .
  cp requirements.lock "$stamp"
}

# Runs what is missing of an experiment and reports what there is, also where some runs failed; ends with the page's path.
table() {
  local code=0
  "$python" -m benchmark grid "$1" || code=$?
  "$python" -m benchmark report "$1"
  return "$code"
}

demo() {
  setup
  # not the committed results/, where these runs are done already; SEMIHISTO_RESULTS=results makes those
  export SEMIHISTO_RESULTS=${SEMIHISTO_RESULTS:-results/local}
  table demo
}

paper() {
  setup
  table reproduction
}

run_tests() {
  local heavy="kill or slurm or browser or tex" tier=${1:-}
  setup
  case "$tier" in
    --kill) shift; exec "$python" -m pytest -m "$heavy" "$@" ;;
    --all) shift; heavy="not ($heavy)" ;;
    *) heavy="not (slow or $heavy)" ;;
  esac
  .venv/bin/ruff check .
  .venv/bin/mypy
  "$python" -m pytest -m "$heavy" "$@"
}

case "${1:-demo}" in
  setup) setup ;;
  demo) demo ;;
  test) shift; run_tests "$@" ;;
  paper) paper ;;
  -h | --help | help) sed -n '2,7s/^# \{0,1\}//p' "$0" ;;
  *) echo "run_all.sh: unknown command '$1'; known: setup, demo, test, paper" >&2; exit 2 ;;
esac
