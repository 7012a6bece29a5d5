#!/usr/bin/env bash
# Every run behind docs/results/diagnosis.md. The data lie in the folder data; one thread a run:
#   docs/results/diagnosis/run.sh 0        every setting with seed 0
# data/g2p and data/ridges are French words to phones (SIGMORPHON 2021) and RIDGES (Bollmann 2019),
# train.tsv, dev.tsv and test.tsv each, with the header source TAB target; of RIDGES, lines with two
# columns and a letter in the first.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
seed=$1

measure() {
    local output="runs/diagnosis/$1-$seed"
    shift
    freerun compare "$@" --methods mle scheduled_sampling \
        differentiable_scheduled_sampling:straight_through=false \
        --seeds "[$seed]" --training.threads 1 --output "$output"
    for method in mle scheduled_sampling; do
        freerun diagnose "$output/$method/seed-$seed" --json "$output/$method.json"
    done
}
spelling() {
    local name=$1
    shift
    measure "$name" spelling --data data/text/2600-0_war_and_peace.txt.gz --task.train_size 20000 \
        --task.dev_size 1000 --task.test_size 2000 --training.updates 600 \
        --training.evaluate_every 200 "$@"
}
pairs() {
    measure "$1" pairs --data "data/$1" "${@:2}" --training.updates 1000 --training.evaluate_every 250
}

spelling spelling-0.5 --task.noise 0.5
measure ocr ocr --data data/ocr/letter.data.gz --training.updates 600 --training.evaluate_every 200
measure digits digits --training.updates 600 --training.evaluate_every 200
spelling spelling-0.3 --task.noise 0.3
measure arithmetic arithmetic --training.updates 1500 --training.evaluate_every 500
pairs g2p --task.source_tokens characters+unk --task.target_tokens symbols+unk
spelling spelling-0.1 --task.noise 0.1
pairs ridges --task.target_tokens characters+unk --task.dev_size 1000 --task.test_size 2000
measure tagging tagging --data data/ner-de/mobie.zip --training.updates 600 \
    --training.evaluate_every 200
spelling spelling-0.5-long --task.noise 0.5 --task.length 20
spelling spelling-0.5-40 --task.noise 0.5 --task.length 40
