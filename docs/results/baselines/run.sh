#!/usr/bin/env bash
# Every run behind docs/results/baselines.md. The data lie in the folder data, on one thread a run:
#   docs/results/baselines/run.sh start|spelling|spelling-time|arithmetic-start|arithmetic
# All runs continue from one model, so `start` comes first. Interrupted runs are resumed.
set -euo pipefail
cd "$(dirname "$0")/../../.."
export OMP_NUM_THREADS=1
here=docs/results/baselines out=runs/baselines
text=data/text/2600-0_war_and_peace.txt.gz
sums=data/arithmetic/train-easy/arithmetic__add_or_sub.txt.gz

spelling() {
    local command=$1
    shift
    freerun "$command" spelling --data $text --task.noise 0.5 --training.threads 1 "$@"
}
arithmetic() {
    local command=$1
    shift
    freerun "$command" arithmetic --data $sums --task.train_size 5000 --training.clip 1 \
        --training.lr_schedule linear --training.threads 1 "$@"
}
# equal_time NAME UPDATES LEARNING_RATE METHOD: the tuned method, with as many updates as take the
# time of 2,000 of mle, by the CPU time of both on the same batches.
equal_time() {
    spelling compare --model $out/start --methods "$4" --seeds 3 --training.batch_size 64 \
        --training.updates "$2" --training.learning_rate "$3" \
        --training.evaluate_every $((($2 + 3) / 4)) --output "$out/spelling-time/$1"
}

case "$1" in
start)
    spelling train --output $out/start
    spelling train --model.hidden_size 200 --training.updates 4000 \
        --training.evaluate_every 1000 --output $out/teacher
    ;;
spelling)
    spelling compare --model $out/start --config $here/methods.yaml --tune 4 --seeds 3 \
        --training.batch_size 64 --training.updates 500 --training.learning_rate 3e-4 \
        --training.evaluate_every 250 --output $out/spelling
    ;;
spelling-time)
    own=schedule=linear,feedback=sample cost=cost=edit_distance
    equal_time mle 2000 3e-4 mle
    equal_time reinforce_4_samples 407 3.756e-4 \
        reinforce:$cost,warm_up=0,baseline=mean,samples=4
    equal_time scheduled_sampling 1480 1.822e-3 scheduled_sampling:$own,floor=0.476
    equal_time searnn 770 2.538e-3 searnn:$cost,token_choice=top_k,tokens=5,cells=5,\
alpha=237.2,roll_out_share=0.5289,warm_up=0.1917
    equal_time ocd 1140 8.082e-4 ocd:feedback=greedy
    equal_time reinforce_greedy 810 3.756e-4 \
        reinforce:$cost,warm_up=0,baseline=greedy,samples=1
    equal_time mrt 283 4.816e-4 mrt:$cost,warm_up=0,samples=5,kappa=0.04312
    equal_time differentiable_scheduled_sampling 1650 3e-4 \
        differentiable_scheduled_sampling:relaxation=soft_sample,straight_through=false
    equal_time mixer 704 2.538e-3 mixer:$cost,warm_up=0,baseline=greedy
    equal_time offline_scheduled_sampling 1950 3.756e-4 \
        offline_scheduled_sampling:$own,floor=0.5813,share=0.7437
    equal_time raml 1610 4.816e-4 raml:edits=0.08428
    equal_time gkd 750 2.251e-4 gkd:teacher=$out/teacher,share=0.8918,beta=0.9637
    equal_time self_distillation 1260 1.822e-3 \
        self_distillation:beta=0.9637,decay=0.9,warm_up=0.8405
    equal_time actor_critic 528 3.756e-4 \
        actor_critic:$cost,target_rate=0.0591,log_loss=0.6028,warm_up=0.5359
    equal_time bso 784 2.251e-4 bso:warm_up=0,beam=2,score=last
    ;;
arithmetic-start)
    arithmetic train --model causal --training.batch_size 32 --training.learning_rate 1e-3 \
        --training.warmup 100 --training.updates 4500 --training.evaluate_every 750 \
        --output $out/arithmetic-start
    ;;
arithmetic)
    arithmetic compare --model $out/arithmetic-start --config $here/arithmetic.yaml --tune 2 \
        --seeds 3 --training.batch_size 16 --training.updates 300 \
        --training.learning_rate 3e-4 --training.evaluate_every 150 --output $out/arithmetic
    ;;
*)
    echo "usage: $0 start|spelling|spelling-time|arithmetic-start|arithmetic" >&2
    exit 2
    ;;
esac
