#!/usr/bin/env bash
# Every run behind docs/results/language_model.md, on one thread a run:
#   docs/results/language_model/run.sh MODEL
# MODEL is the folder of SmolLM2-135M-Instruct. An interrupted comparison is resumed.
#   python docs/results/language_model/collect.py runs/language_model/dates FIGURES
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/language_model rows=runs/language_model/rows

compare() { # NAME SEEDS METHODS
    freerun compare pairs --data $rows/train.jsonl --task.dev $rows/dev.jsonl \
        --task.test $rows/test.jsonl --model "$model" --model.lora 16 --config $here/methods.yaml \
        --metrics repetition --training.batch_size 4 --training.updates 32 \
        --training.learning_rate 1e-3 --training.lr_schedule linear --training.keep last \
        --training.evaluate_every 32 --training.threads 1 --output "runs/language_model/$1" \
        --seeds "$2" --methods "${@:3}"
}

model="$1"
python $here/rows.py $rows
compare dates 3 mle scheduled_sampling unlikelihood behavior_cloning sequence_match \
    sequence_match_no_backspace
compare self_distillation 1 self_distillation
