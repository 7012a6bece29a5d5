#!/usr/bin/env bash
# Every run behind docs/results/language_model.md, on one thread a run:
#   docs/results/language_model/run.sh MODEL
# MODEL is the folder of SmolLM2-135M-Instruct. An interrupted comparison is resumed.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/language_model rows=data/dates out=runs/language_model

python $here/rows.py $rows
freerun compare pairs --data $rows/train.jsonl --task.dev $rows/dev.jsonl \
    --task.test $rows/test.jsonl --model "$1" --model.lora 16 --config $here/methods.yaml \
    --seeds 1 --metrics repetition --training.batch_size 4 --training.updates 16 \
    --training.learning_rate 1e-3 --training.evaluate_every 16 --training.threads 1 --output $out
