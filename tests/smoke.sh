#!/bin/sh
# What works with the wheel alone, without extras: run by make smoke in an empty folder.
set -eu
BIN=$(cd "$1" && pwd)
FEW="--task.train_size 32 --task.dev_size 8 --task.test_size 8 --training.updates 2
    --training.evaluate_every 1 --model.hidden_size 8 --model.embedding_size 8"

"$BIN/freerun" --version
"$BIN/freerun" methods > methods.txt
"$BIN/freerun" train spelling $FEW --output runs/first
"$BIN/freerun" diagnose runs/first
"$BIN/freerun" evaluate runs/first
echo "thw house" | "$BIN/freerun" predict runs/first
"$BIN/freerun" compare spelling $FEW --seeds 1 --methods mle scheduled_sampling --output runs/two \
    | tee table.txt
grep -q "scheduled_sampling" table.txt
test -s runs/two/results.json
"$BIN/python" -c "
import freerun
from freerun import MLE, Trainer, compare, diagnose
assert 'site-packages' in freerun.__file__, freerun.__file__
print(freerun.load('runs/first').predict(['thw house']))
"
echo "The wheel works."
