#!/usr/bin/env bash
# Every run of sorting behind docs/results/sequence_match.md, on one thread a run, in this order:
#   docs/results/sequence_match/sorting.sh start|search|runs|own
# All runs continue from one model, so `start` comes first. Interrupted runs are resumed.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/sequence_match out=runs/sorting rows=data/sorting

sorting() {
    local command=$1
    shift
    freerun "$command" pairs --data $rows/train.tsv --task.dev $rows/dev.tsv \
        --task.test $rows/test.tsv --task.target_tokens characters --training.threads 1 \
        --training.clip 1 --training.lr_schedule linear --training.batch_size 32 "$@"
}
go_on() {
    sorting compare --model $out/start --training.updates 150 --training.evaluate_every 150 "$@"
}

case "$1" in
start)
    python $here/sorting.py $rows
    sorting train --model causal --model.hidden_size 32 --model.layers 2 --model.heads 4 \
        --training.learning_rate 3e-3 --training.warmup 50 --training.updates 300 \
        --training.evaluate_every 150 --output $out/start
    ;;
search)
    go_on --config $here/search.yaml --tune 8 --seeds 1 --training.learning_rate 1e-3 \
        --output $out/search
    python $here/measure.py $out/search --trials --json $here/trials.json
    ;;
runs)
    go_on --config $here/likelihood.yaml --seeds 5 --task.test_size 500 \
        --training.learning_rate 1.6e-3 --output $out/mle
    for variants in divergences weights; do
        go_on --config $here/$variants.yaml --seeds 5 --task.test_size 500 \
            --training.learning_rate 2e-3 --output $out/$variants
    done
    python $here/measure.py $out/mle $out/divergences $out/weights \
        --json $here/sorting.json
    ;;
own)
    python $here/own_sequences.py $out/search/tuning/behavior_cloning/trial-3 \
        --json $here/own_sequences.json
    ;;
*)
    echo "usage: $0 start|search|runs|own" >&2
    exit 2
    ;;
esac
