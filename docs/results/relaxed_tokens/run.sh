#!/usr/bin/env bash
# Every run behind docs/results/relaxed_tokens.md. The data lie in the folder data; one thread a run.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/relaxed_tokens

spelling() {
    local command=$1
    shift
    freerun "$command" spelling --data data/text/2600-0_war_and_peace.txt.gz --training.threads 1 "$@"
}

spelling train --task.noise 0.5 --output runs/relaxed-start
go_on() {
    spelling compare --task.noise 0.5 --model runs/relaxed-start --training.updates 500 \
        --training.batch_size 64 --training.learning_rate 1e-3 --training.evaluate_every 250 "$@"
}
go_on --config $here/methods.yaml --seeds 1 --output runs/relaxed
go_on --config $here/few.yaml --seeds 3 --output runs/relaxed

short="--config $here/few.yaml --training.updates 600 --training.evaluate_every 200"
freerun compare digits $short --seeds 3 --training.threads 1 --output runs/relaxed-digits
spelling compare --task.noise 0.1 --task.train_size 20000 --task.dev_size 1000 \
    --task.test_size 2000 $short --seeds 1 --output runs/relaxed-spelling-0.1
