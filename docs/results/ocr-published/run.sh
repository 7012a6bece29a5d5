#!/usr/bin/env bash
# Every run behind "The published setting, to the letter" in docs/results/searnn.md, on one thread.
# The data lie in the folder data. Interrupted runs are resumed.
#   docs/results/ocr-published/run.sh mle|kl|ll|kl-30|kl-1000|sum-mle|sum-kl|sum-ll|collect
#   docs/results/ocr-published/run.sh fold K
# sum-*: the loss is a sum over the cells of a batch, as the authors' code computes it. Here losses
# are means, over 549 cells (64 words of 7.58 letters and an end), so the learning rate is 0.5·549
# and gradients are clipped at 5/549.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/ocr-published out=runs/ocr-published
words=data/ocr/letter.data.gz

compare() { # NAME METHOD OPTIONS
    [[ -e $out/start-0 ]] || python $here/setting.py $words 0 $out/start-0
    freerun compare $here/setting.py:Published --data $words --model $out/start-0 --methods "$2" \
        --seeds '[0]' --training.batch_size 64 --training.optimizer sgd \
        --training.lr_schedule constant --training.keep last --training.threads 1 \
        --training.evaluate_every 200 --output "$out/$1" "${@:3}"
}
mean=(--training.updates 10000 --training.learning_rate 0.5 --training.clip 5)
sum=(--training.updates 5000 --training.learning_rate 274.7 --training.clip 0.0091)

case "$1" in
mle) compare mle mle "${mean[@]}" ;;
kl) compare kl searnn:cell_loss=kl,alpha=100 "${mean[@]}" ;;
ll) compare ll searnn:cell_loss=ll "${mean[@]}" ;;
kl-30) compare kl-30 searnn:cell_loss=kl,alpha=30 "${mean[@]}" ;;
kl-1000) compare kl-1000 searnn:cell_loss=kl,alpha=1000 "${mean[@]}" ;;
fold) # tested on fold K, with the best loss
    compare "mle-fold-$2" mle "${mean[@]}" --task.fold "$2"
    compare "kl-1000-fold-$2" searnn:cell_loss=kl,alpha=1000 "${mean[@]}" --task.fold "$2"
    ;;
sum-mle) compare sum-mle mle "${sum[@]}" ;;
sum-kl) compare sum-kl searnn:cell_loss=kl,alpha=100 "${sum[@]}" ;;
sum-ll) compare sum-ll searnn:cell_loss=ll "${sum[@]}" ;;
collect) python $here/collect.py $out $here/curves.json ;;
*)
    echo "usage: $0 NAME; see the names in this file" >&2
    exit 2
    ;;
esac
