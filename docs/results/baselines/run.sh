#!/usr/bin/env bash
# Every run behind docs/results/baselines.md. The data lie in the folder data, on one thread a run:
#   docs/results/baselines/run.sh start|spelling|spelling-time
#   docs/results/baselines/run.sh arithmetic-start|arithmetic|arithmetic-time
#   docs/results/baselines/run.sh translation-start|translation|translation-time
#   docs/results/baselines/run.sh roll-in-translation|roll-in-spelling
# All runs continue from one model, so a start comes first. Interrupted runs are resumed.
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
translation() {
    local command=$1
    shift
    freerun "$command" translation --data data/translation/deu-eng.zip \
        --task.source_column 1 --task.target_column 0 --task.length 12 --task.lower true \
        --task.train_size 30000 --task.dev_size 1000 --task.test_size 2000 \
        --task.source_tokens words:4000 --task.target_tokens words:3000 \
        --training.batch_size 64 --training.lr_schedule linear --training.threads 1 "$@"
}
# equal_time NAME UPDATES LEARNING_RATE METHOD: the tuned method, with as many updates as take the
# time of 2,000 of mle, by the CPU time of both on the same batches.
equal_time() {
    spelling compare --model $out/start --methods "$4" --seeds 3 --training.batch_size 64 \
        --training.updates "$2" --training.learning_rate "$3" \
        --training.evaluate_every $((($2 + 3) / 4)) --output "$out/spelling-time/$1"
}
# The same on arithmetic, in the time of 300 updates of mle, by the times of those runs.
equal_time_arithmetic() {
    arithmetic compare --model $out/arithmetic-start --methods "$4" --seeds 3 \
        --training.batch_size 16 --training.updates "$2" --training.learning_rate "$3" \
        --training.evaluate_every $((($2 + 1) / 2)) --output "$out/arithmetic-time/$1"
}
# The same on translation, in the time of 500 updates of mle.
equal_time_translation() {
    translation compare --model $out/translation-start --methods "$4" --seeds 3 --beam 5 \
        --training.updates "$2" --training.learning_rate "$3" \
        --training.evaluate_every $((($2 + 3) / 4)) --output "$out/translation-time/$1"
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
arithmetic-time)
    cost=cost=edit_distance,warm_up=0
    equal_time_arithmetic mle 300 3.756e-4 mle:label_smoothing=0.143
    equal_time_arithmetic scheduled_sampling 207 3.756e-4 \
        scheduled_sampling:schedule=linear,floor=0.3813
    equal_time_arithmetic ocd 184 3e-4 ocd:feedback=greedy
    equal_time_arithmetic searnn 145 3.756e-4 searnn:cost=edit_distance,token_choice=top_k,\
tokens=5,cells=4,alpha=64.31,roll_out_share=0.5449,warm_up=0.3576
    equal_time_arithmetic reinforce_leave_one_out 107 3e-4 reinforce:$cost,samples=4
    equal_time_arithmetic mrt 98 3.756e-4 mrt:$cost,samples=5,kappa=0.1398
    equal_time_arithmetic bso 147 3.756e-4 bso:warm_up=0,beam=2
    equal_time_arithmetic actor_critic 124 3.756e-4 \
        actor_critic:cost=edit_distance,target_rate=0.0591,log_loss=0.6028,warm_up=0.5359
    equal_time_arithmetic offline_scheduled_sampling 278 3e-4 offline_scheduled_sampling
    equal_time_arithmetic differentiable_scheduled_sampling 171 3.756e-4 \
        differentiable_scheduled_sampling:relaxation=soft_sample,straight_through=false,\
schedule=linear,floor=0.3813,alpha=5.417
    equal_time_arithmetic raml 285 3e-4 raml
    equal_time_arithmetic self_distillation 179 3e-4 self_distillation
    ;;
translation-start)
    recipe='--model.attention additive --model.dropout 0.1 --training.evaluate_every 1000'
    translation train $recipe --model.hidden_size 128 --training.learning_rate 3e-3 \
        --training.updates 4000 --output $out/translation-start
    translation train $recipe --model.hidden_size 256 --training.learning_rate 2e-3 \
        --training.updates 5000 --output $out/translation-teacher
    ;;
translation)
    translation compare --model $out/translation-start --config $here/translation.yaml --tune 4 \
        --seeds 5 --beam 5 --training.updates 200 --training.learning_rate 5e-4 \
        --training.evaluate_every 100 --output $out/translation
    ;;
roll-in-translation)
    translation compare --model $out/translation-start --config $here/roll_in.yaml --seeds 3 \
        --training.updates 200 --training.learning_rate 6e-4 --training.evaluate_every 100 \
        --output $out/roll-in
    ;;
roll-in-spelling)
    spelling compare --model $out/start --config $here/roll_in_spelling.yaml --seeds 3 \
        --training.batch_size 64 --training.updates 500 --training.learning_rate 1e-3 \
        --training.evaluate_every 250 --output $out/roll-in-spelling
    ;;
translation-time)
    tokens=cost=bleu,token_choice=neighbors,tokens=12,neighbors=6,cells=6
    equal_time_translation mle 500 8.026e-4 mle:label_smoothing=0.109
    equal_time_translation searnn_reference 237 6.148e-4 \
        searnn:$tokens,roll_in=reference,alpha=200,roll_out_share=0.6459,warm_up=0.2118
    equal_time_translation reinforce_leave_one_out 97 5e-4 reinforce:cost=bleu,warm_up=0,samples=4
    equal_time_translation ocd 300 5e-4 ocd:feedback=greedy
    equal_time_translation mrt 82 5e-4 mrt:cost=bleu,warm_up=0,samples=5,kappa=0.005
    equal_time_translation bso 227 6.148e-4 bso:warm_up=0,beam=2,score=last
    equal_time_translation mixer 267 5e-4 mixer:cost=bleu,warm_up=0,baseline=learned
    equal_time_translation self_distillation 236 6.26e-4 \
        self_distillation:beta=0.7152,decay=1,warm_up=0.4501
    equal_time_translation scheduled_sampling 388 5e-4 scheduled_sampling
    equal_time_translation differentiable_scheduled_sampling 313 6.26e-4 \
        differentiable_scheduled_sampling:relaxation=soft_sample,schedule=linear,\
floor=0.3813,alpha=5.417
    equal_time_translation dss_mixtures 334 3.751e-4 \
        differentiable_scheduled_sampling:relaxation=soft_sample,straight_through=false,\
schedule=exponential,floor=0.7126,alpha=3.518
    equal_time_translation offline_scheduled_sampling 478 5.488e-5 \
        offline_scheduled_sampling:feedback=sample,floor=0.7192,share=0.8494
    equal_time_translation actor_critic 160 5e-4 actor_critic:cost=bleu,log_loss=0
    equal_time_translation gkd 187 6.148e-4 \
        gkd:teacher=$out/translation-teacher,share=0.4237,beta=0.6459
    equal_time_translation reinforce_greedy 207 6.26e-4 \
        reinforce:cost=bleu,warm_up=0,baseline=greedy,samples=1
    equal_time_translation raml 397 8.026e-4 raml:edits=0.08428
    equal_time_translation searnn 204 6.26e-4 \
        searnn:$tokens,roll_in=learned,alpha=64.31,roll_out_share=0.5449,warm_up=0.3576
    ;;
*)
    echo "usage: $0 NAME; the names are at the top of this file" >&2
    exit 2
    ;;
esac
