#!/usr/bin/env bash
# Every run behind the pages of this folder. The data lie in the folder data, on one thread a run:
#   docs/results/run.sh search ocr      the variants on dev, one seed
#   docs/results/run.sh final ocr       the chosen ones on test, three seeds
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1

compare() {
    freerun compare "$@" --training.threads 1
}
ocr() { compare ocr --data data/ocr/letter.data.gz "$@"; }
spelling() { compare spelling --data data/text/2600-0_war_and_peace.txt.gz "$@"; }
tagging() { compare tagging --data data/ner-de/mobie.zip "$@"; }

case "$1 $2" in
"search ocr")
    for rate in 1e-3 3e-3; do
        for model in "false 0" "false 0.3" "true 0.3"; do
            read -r both dropout <<<"$model"
            ocr --methods mle --seeds 1 --training.evaluate_every 1000 \
                --training.learning_rate "$rate" --model.bidirectional "$both" \
                --model.dropout "$dropout" --output "runs/search/ocr-$rate-$both-$dropout"
        done
    done
    ocr --config docs/results/variants.yaml --seeds 1 --output runs/variants/ocr
    ;;
"search spelling")
    for rate in 1e-3 6e-3; do
        spelling --methods mle --seeds 1 --training.updates 1500 --training.learning_rate "$rate" \
            --output "runs/variants/spelling-$rate"
    done
    for dropout in 0 0.1; do
        spelling --methods mle --seeds 1 --training.evaluate_every 1000 \
            --model.dropout "$dropout" --output "runs/search/spelling-$dropout"
    done
    spelling --config docs/results/variants.yaml --seeds 1 --training.updates 1500 \
        --output runs/variants/spelling
    ;;
"search tagging")
    for setting in "1e-3 0.3" "1e-3 0.5" "3e-3 0.3"; do
        read -r rate dropout <<<"$setting"
        tagging --methods mle --seeds 1 --training.evaluate_every 500 \
            --training.learning_rate "$rate" --model.dropout "$dropout" \
            --output "runs/search/tagging-$rate-$dropout"
    done
    tagging --config docs/results/variants.yaml --seeds 1 --output runs/variants/tagging
    ;;
"final ocr") ocr --config docs/results/ocr/methods.yaml --output runs/final/ocr ;;
"final ocr-sgd")
    ocr --config docs/results/ocr-sgd/methods.yaml --output runs/final/ocr-sgd \
        --training.optimizer sgd --training.learning_rate 0.5 --training.lr_schedule constant \
        --training.clip 1 --training.updates 6000 \
        --model.attention none --model.bidirectional false --model.dropout 0
    ;;
"final spelling-0.3")
    spelling --config docs/results/spelling/methods.yaml --output runs/final/spelling-0.3
    ;;
"final spelling-0.5")
    spelling --task.noise 0.5 --config docs/results/spelling/methods.yaml \
        --output runs/final/spelling-0.5
    ;;
"final tagging") tagging --config docs/results/tagging/methods.yaml --output runs/final/tagging ;;
*)
    echo "usage: $0 search|final ocr|ocr-sgd|spelling|spelling-0.3|spelling-0.5|tagging" >&2
    exit 2
    ;;
esac
