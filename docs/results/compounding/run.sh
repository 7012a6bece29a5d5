#!/usr/bin/env bash
# Every run behind docs/results/compounding.md, on one thread. Interrupted runs are resumed.
#   docs/results/compounding/run.sh sums-10-short|sums-10|sums-20|sums-40|copy|reverse|scan|collect
# The data of SCAN lie in the folder data.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/compounding out=runs/compounding
mkdir -p $out

compare() { # NAME TASK OPTIONS
    freerun compare "${@:2}" --seeds 5 --training.keep last --training.threads 1 --output "$out/$1"
}
sums() { # NAME LENGTH UPDATES METHODS
    compare "$1" $here/sums.py:Sums --task.length "$2" --methods "${@:4}" \
        --training.updates "$3" --training.evaluate_every 50 --training.learning_rate 1e-2
}
both=(mle scheduled_sampling)

case "$1" in
sums-10-short) sums "$1" 10 300 "${both[@]}" differentiable_scheduled_sampling ;;
sums-10) sums "$1" 10 600 "${both[@]}" ;;
sums-20) sums "$1" 20 300 "${both[@]}" ;;
sums-40) sums "$1" 40 300 "${both[@]}" ;;
copy | reverse)
    reverse=$([[ $1 == reverse ]] && echo true || echo false)
    compare "$1" $here/copies.py:Copies --task.reverse "$reverse" --task.test_length 15 \
        --methods "${both[@]}" --training.updates 150 --training.evaluate_every 50
    freerun diagnose "$out/$1/mle/seed-0" --split test
    ;;
scan)
    for split in train test; do
        python examples/prepare_pairs.py scan "data/scan/length_split/tasks_${split}_length.txt.gz" \
            "$out/scan-$split.tsv"
    done
    freerun train pairs --data $out/scan-train.tsv --task.test $out/scan-test.tsv \
        --task.source_tokens symbols --task.target_tokens symbols --task.dev_size 500 \
        --task.test_size 1000 --headline token_error --model.hidden_size 64 \
        --model.embedding_size 32 --training.updates 500 --training.learning_rate 5e-3 \
        --training.lr_schedule linear --training.evaluate_every 100 --training.threads 1 \
        --output $out/scan
    for split in dev test; do
        freerun diagnose $out/scan --split $split
        freerun evaluate $out/scan --split $split
    done
    ;;
collect)
    python $here/sums.py 5 10 20 40
    python $here/collect.py $out $here
    ;;
*)
    echo "usage: $0 NAME; see the names in this file" >&2
    exit 2
    ;;
esac
