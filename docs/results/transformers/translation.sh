#!/usr/bin/env bash
# Every run of translation behind docs/results/transformers.md. The data lie in the folder data:
#   docs/results/transformers/translation.sh SEED
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
seed=$1 out=runs/translation

# train NAME METHOD SETTINGS…: train, and measure on test.
train() {
    local name=$1-$seed method=$2
    shift 2
    freerun train translation --data data/translation/deu-eng.zip --task.source_column 1 \
        --task.target_column 0 --task.length 12 --task.train_size 30000 --task.dev_size 500 \
        --task.test_size 2000 --task.source_tokens words:4000 --task.target_tokens words:3000 --task.lower true \
        --model seq2seq --model.hidden_size 128 --model.layers 2 --model.dropout 0.1 \
        --method "$method" --seed "$seed" --output "$out/$name" --training.batch_size 64 \
        --training.clip 1 --training.lr_schedule linear --training.warmup 100 \
        --training.threads 1 "$@"
    freerun evaluate "$out/$name" --json "$out/$name.json"
    freerun evaluate "$out/$name" --beam 5 --json "$out/$name-beam.json"
}
# go_on NAME METHOD UPDATES: from the model of maximum likelihood.
go_on() {
    train "$1" "$2" --init "$out/base-$seed" --training.learning_rate 5e-4 \
        --training.updates "$3" --training.evaluate_every $(($3 / 2))
}

ss=scheduled_sampling:passes=2,schedule=linear,floor=0.5
train base mle --training.learning_rate 1e-3 --training.updates 2500 --training.evaluate_every 1250
go_on mle mle 500
go_on ss $ss 500
go_on dss differentiable_$ss,straight_through=false 500
go_on searnn searnn:roll_in=reference,alpha=200,token_choice=neighbors,tokens=12,neighbors=6,cells=4 500
# As long as SEARNN takes, by the time of an update of each.
go_on mle-long mle 1900
go_on ss-long $ss 1730
go_on dss-long differentiable_$ss,straight_through=false 1190
