#!/usr/bin/env bash
# Every run behind docs/results/searnn.md. The data lie in the folder data, on one thread a run:
#   docs/results/searnn/run.sh ocr-sgd
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/searnn

compare() { freerun compare "$@" --training.threads 1; }
ocr() { compare ocr --data data/ocr/letter.data.gz "$@"; }
sgd() {
    ocr --training.optimizer sgd --training.learning_rate "${rate:-2}" --training.clip 1 \
        --training.lr_schedule "${schedule:-constant}" --model.attention none --model.bidirectional false \
        --model.dropout 0 "$@"
}
spelling() { compare spelling --data data/text/2600-0_war_and_peace.txt.gz "$@"; }
translation() {
    compare translation --data data/translation/deu-eng.zip --task.source_column 1 \
        --task.target_column 0 --task.length 12 --task.train_size 30000 --task.dev_size 1000 \
        --task.test_size 2000 --task.source_tokens words:4000 --task.target_tokens words:3000 --task.lower true \
        --model.hidden_size 128 --model.attention additive --model.dropout 0.1 \
        --training.learning_rate 3e-3 "$@"
}

out="runs/searnn/$1"
case "$1" in
search-ocr-sgd)
    for rate in 0.5 1 2; do
        sgd --methods mle --seeds 1 --training.updates 6000 --training.evaluate_every 1000 \
            --output "$out/mle-$rate"
    done
    for alpha in 50 100 200; do
        rate=0.5 sgd --methods "searnn:alpha=$alpha" --seeds 1 --training.updates 2000 \
            --training.evaluate_every 500 --output "$out/alpha-$alpha"
    done
    for rate in 1 2; do
        sgd --methods searnn --seeds 1 --training.updates 3000 --training.evaluate_every 500 \
            --output "$out/searnn-$rate"
    done
    ;;
search-spelling)
    spelling --task.noise 0.5 --config $here/spelling-search.yaml --seeds 1 \
        --training.updates 1500 --training.evaluate_every 500 --output "$out"
    ;;
ocr-grid | ocr-tokens) # ocr-grid was run for two seeds, ocr-tokens for one
    sgd --config "$here/$1.yaml" --seeds "${seeds:-1}" --training.updates 2000 \
        --training.evaluate_every 500 --output "$out"
    ;;
ocr-sgd)
    for seed in 0 1 2; do
        for method in mle searnn; do
            schedule=linear sgd --methods $method --seeds "[$seed]" --training.updates 4000 \
                --training.evaluate_every 1000 --output "$out/$method-$seed"
        done
    done
    ;;
ocr-sgd-long)
    schedule=linear sgd --methods searnn --seeds 1 --training.updates 10000 \
        --training.evaluate_every 2000 --output "$out"
    ;;
ocr) ocr --config $here/ocr.yaml --training.evaluate_every 1000 --output "$out" ;;
ocr-long)
    ocr --methods mle --training.updates 12000 --training.evaluate_every 2000 --output "$out"
    ;;
spelling-grid)
    spelling --task.noise 0.5 --config $here/spelling-grid.yaml --seeds 1 \
        --training.updates 1500 --training.evaluate_every 500 --output "$out"
    ;;
spelling-0.3 | spelling-0.5)
    spelling --task.noise "${1#spelling-}" --config $here/spelling.yaml \
        --training.evaluate_every 1000 --output "$out"
    ;;
tagging)
    compare tagging --data data/ner-de/mobie.zip --config $here/tagging.yaml \
        --training.evaluate_every 500 --output "$out"
    ;;
translation)
    # mle and kl_warm were run for three seeds, the others for one
    translation --config $here/translation.yaml --seeds "${seeds:-1}" --training.updates 2000 \
        --training.evaluate_every 500 --beam 5 --output "$out"
    ;;
*)
    echo "usage: $0 NAME; see the names in this file" >&2
    exit 2
    ;;
esac
