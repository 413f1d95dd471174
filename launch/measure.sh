#!/usr/bin/env bash
# Measures this package on a machine with one accelerator, in so many seconds.
#
#   launch/measure.sh 600 --data=train.zip --test_data=test.zip
#     ten minutes on a GPU or TPU, with faces in folders or zips; synthetic ones
#     by default
#   launch/measure.sh 600 --peer=torch_dcgan.py ...
#     with the figures of a PyTorch program, if torch is installed
#   launch/measure.sh 600 --cpu --out=runs/measure_cpu
#     all steps at small size on the CPU, to test them
#
# It first checks that JAX sees the accelerator and that no package is missing.
# Then it runs the steps of launch/measure_steps.py in order of importance, each
# with a time limit. Each writes its figures to DIR/measurements.jsonl when it ends
# (--out=DIR, runs/measure by default). The same command continues where it was
# interrupted; --only=STEP,STEP selects steps, --again=STEP,STEP starts them again,
# and --list lists them. `python docs/performance_tables.py DIR` prints tables of
# the results.
#
# $PYTHON is the Python to run. The package need not be installed.
set -euo pipefail

launch=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=${launch%/*}${PYTHONPATH:+:$PYTHONPATH}
exec "${PYTHON:-python}" "$launch/measure.py" "$@"
