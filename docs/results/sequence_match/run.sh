#!/usr/bin/env bash
# Every run of arithmetic behind docs/results/sequence_match.md. The data lie in the folder data, on one thread a run:
#   docs/results/sequence_match/run.sh SEED
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
seed=$1 out=runs/backspace

# train NAME METHOD SETTINGS…
train() {
    local name=$1-$seed method=$2
    shift 2
    freerun train arithmetic --data data/arithmetic/train-easy/arithmetic__add_or_sub.txt.gz \
        --task.train_size 5000 --model causal --method "$method" --seed "$seed" \
        --output "$out/$name" --training.batch_size 32 --training.lr_schedule linear \
        --training.clip 1 --training.threads 1 "$@"
}
# go_on NAME METHOD: from the model of maximum likelihood; measured on test.
go_on() {
    train "$1" "$2" --init "$out/base-$seed" --training.learning_rate 1e-3 \
        --training.updates 1000 --training.evaluate_every 250
    local run=$out/$1-$seed
    freerun evaluate "$run" --json "$run.json"
    for noise in 0.001 0.01 0.1; do
        freerun evaluate "$run" --noise "$noise" --json "$run-$noise.json"
    done
    freerun evaluate "$run" --sample --json "$run-sample.json"
    python examples/planted_errors.py "$run" --tokens random
    python examples/planted_errors.py "$run" --tokens plausible
}

sm=warm_up=0.2,anneal=0.2
train base mle --training.learning_rate 1e-3 --training.warmup 100 --training.updates 4500 \
    --training.evaluate_every 750
go_on mle mle
go_on bc behavior_cloning:noise=0.05
go_on sm sequence_match:noise=0.05,$sm
go_on sm-no-backspace sequence_match:backspace=false,$sm
go_on bc-plausible behavior_cloning:noise=0.05,noise_tokens=plausible
go_on sm-plausible sequence_match:noise=0.05,noise_tokens=plausible,$sm
