#!/usr/bin/env bash
# Every run of arithmetic behind docs/results/transformers.md. The data lie in the folder data, on one thread a run:
#   docs/results/transformers/run.sh SEED
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
seed=$1 out=runs/arithmetic

# train NAME METHOD SETTINGS…: train, and measure on test.
train() {
    local name=$1-$seed method=$2
    shift 2
    freerun train arithmetic --data data/arithmetic/train-easy/arithmetic__add_or_sub.txt.gz \
        --model causal --method "$method" --seed "$seed" --output "$out/$name" \
        --training.batch_size 32 --training.lr_schedule linear --training.clip 1 \
        --training.threads 1 "$@"
    freerun evaluate "$out/$name" --json "$out/$name.json"
}
go_on() { train "$@" --init "$out/base-$seed" --training.learning_rate 5e-4 --training.evaluate_every 250; }

ss=scheduled_sampling:passes=2,schedule=linear,floor=0.5
train base mle --training.learning_rate 1e-3 --training.warmup 100 --training.updates 3000 \
    --training.evaluate_every 500
go_on mle mle --training.updates 750
go_on ss $ss --training.updates 750
go_on dss differentiable_$ss,straight_through=false --training.updates 750
go_on searnn searnn:token_choice=top_k,tokens=5,cells=4,alpha=30 \
    --training.updates 750
# As long as SEARNN takes, by the time of an update of each.
go_on mle-long mle --training.updates 1930
go_on ss-long $ss --training.updates 1610
go_on dss-long differentiable_$ss,straight_through=false --training.updates 1016
