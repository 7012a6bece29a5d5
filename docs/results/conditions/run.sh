#!/usr/bin/env bash
# Every run behind docs/results/conditions.md, on one thread. Interrupted runs are resumed.
#   docs/results/conditions/run.sh rows|dropout|units|decoding|collect
# The data lie in the folder data.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/conditions out=runs/conditions

train() { # NAME TRAIN_SIZE SEEDS OPTIONS
    freerun compare spelling --data data/text/2600-0_war_and_peace.txt.gz --task.noise 0.5 \
        --task.train_size "$2" --task.dev_size 1000 --task.test_size 2000 \
        --methods mle scheduled_sampling --seeds "$3" \
        --training.batch_size 64 --training.lr_schedule linear --training.updates 1200 \
        --training.evaluate_every 200 --training.threads 1 --output "$out/$1" "${@:4}"
}
measure() { # NAME TRAIN_SIZE SEEDS OPTIONS
    local run="$out/$1" seed
    train "$1" "$2" "$3" "${@:4}"
    for ((seed = 0; seed < $3; seed++)); do
        freerun diagnose "$run/mle/seed-$seed" --json "$run/diagnosis-$seed.json"
    done
}
decode() { # NAME OPTIONS: how the models of 20,000 rows write on test
    local method seed
    for method in mle scheduled_sampling; do
        for seed in 0 1 2 3 4; do
            freerun evaluate "$out/rows-20000/$method/seed-$seed" "${@:2}" \
                --json "$out/rows-20000/$method-$seed-$1.json"
        done
    done
}

case "$1" in
rows)
    for rows in 1250 5000 20000 80000; do measure "rows-$rows" $rows 5; done
    ;;
dropout)
    measure rows-1250-dropout 1250 5 --model.dropout 0.3
    ;;
units) # instead of 100
    measure units-25 20000 5 --model.hidden_size 25
    measure units-400 20000 3 --model.hidden_size 400
    # The rate of the recipe, 0.003, is that of 100 units.
    measure units-400-rate-0.001 20000 3 --model.hidden_size 400 --training.learning_rate 0.001
    ;;
decoding)
    decode greedy
    decode beam --beam 5
    decode sample --sample
    decode sample_0.5 --sample --temperature 0.5
    ;;
collect) python $here/collect.py $out $here ;;
*)
    echo "usage: $0 rows|dropout|units|decoding|collect" >&2
    exit 2
    ;;
esac
