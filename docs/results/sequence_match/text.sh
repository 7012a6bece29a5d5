#!/usr/bin/env bash
# Every run of text behind docs/results/sequence_match.md. The data lie in the folder data, on one thread a run:
#   docs/results/sequence_match/text.sh SEED
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
seed=$1 out=runs/text

# train NAME SEED METHOD SETTINGS…
train() {
    local name=$1-$2 seed=$2 method=$3
    shift 3
    freerun train text --data data/text/2600-0_war_and_peace.txt.gz --task.target_tokens bpe:1000 \
        --model causal --method "$method" --seed "$seed" --output "$out/$name" \
        --training.batch_size 32 --training.lr_schedule linear --training.clip 1 \
        --training.threads 1 "$@"
}
go_on() {
    train "$1" "$seed" "$2" --init "$out/base-100" --metrics "mauve:model=$out/base-100" \
        --training.learning_rate 1e-3 \
        --training.updates 300 --training.evaluate_every 300
    freerun evaluate "$out/$1-$seed" --sample --json "$out/$1-$seed.json"
}

# From which all go on, and on whose states MAUVE is computed.
[ -d "$out/base-100" ] || train base 100 mle --training.learning_rate 2e-3 \
    --training.updates 1200 --training.evaluate_every 600
sm=warm_up=0.2,anneal=0.2
go_on mle mle
go_on sm sequence_match:noise=0.01,$sm
go_on bc behavior_cloning:noise=0.01
go_on ul unlikelihood
go_on sm-no-backspace sequence_match:backspace=false,$sm
freerun evaluate "$out/mle-$seed" --contrastive 0.6 --top_k 4 --json "$out/mle-$seed-contrastive.json"
