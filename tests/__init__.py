"""The tests. What several of them need is in `tests.helpers` and `tests.twins`.

Defects that public code for these methods is known to have, and the tests that would catch each:

- eos masked from the loss, or lost from outputs, when pad = eos:
  methods/test_invariances.py::test_pad_may_equal_eos,
  decoding/test_decode.py::test_pad_may_equal_eos,
  models/test_huggingface.py::test_pad_may_equal_eos
- zero loss on rows without targets, in silence:
  methods/test_invariances.py::test_an_example_without_target_is_refused
- a loss that changes with gradient accumulation or the number of processes:
  methods/test_invariances.py::test_parts_sum_to_the_whole,
  training/test_processes.py::test_accumulation_changes_nothing,
  training/test_processes.py::test_two_processes_change_nothing
- a loss that changes with padding or the order of a batch:
  methods/test_invariances.py::test_padding_changes_nothing,
  methods/test_invariances.py::test_order_changes_nothing
- a fused path that differs from the plain one:
  ../src/freerun/testing.py::test_forced_rows_score_as_steps_do,
  decoding/test_roll_in.py::test_mixed_is_its_twin,
  decoding/test_roll_in.py::test_relaxed_is_its_twin
- parallel passes that are another roll-in than the sequential one, however many there are:
  decoding/test_passes.py::test_as_many_passes_as_cells_are_steps,
  methods/test_scheduled_sampling.py::test_as_many_passes_as_cells_are_sequential,
  methods/test_differentiable_scheduled_sampling.py::test_as_many_passes_as_cells_are_sequential
- a model's own generation settings that leak into samples:
  decoding/test_backtrack.py::test_generation_settings_do_not_leak,
  models/test_huggingface_running.py::test_generation_settings_do_not_leak
- a cache that is filled, forked or reordered wrongly, or read at wrong positions:
  models/test_huggingface.py::test_scores_are_those_of_the_model_alone,
  models/test_huggingface.py::test_rows_that_go_their_own_ways,
  ../src/freerun/testing.py::test_states_live_on
- a cache that checkpointing switches off in silence:
  models/test_huggingface_running.py::test_checkpointing_leaves_decoding_its_cache,
  models/test_huggingface_running.py::test_steps_with_gradient_under_checkpointing_are_refused
- rows of a padded embedding table that are written:
  models/test_huggingface_running.py::test_rows_beyond_the_vocabulary_are_never_written
- a model that is used though its scores depend on its batch:
  models/test_huggingface_models.py::test_a_model_that_ignores_positions_is_refused,
  models/test_huggingface_models.py::test_angles_that_depend_on_the_longest_row_are_kept_as_they_are
- one coin for a batch or a sequence instead of one per token:
  methods/test_coins.py::test_every_token_of_every_sentence_has_its_own,
  methods/test_coins.py::test_coins_are_independent
- scheduled sampling without a schedule:
  methods/test_coins.py::test_the_default_falls_from_all_to_nothing
- a Gumbel flag mixed up with α, or settings that mean something else than they say:
  methods/test_invariances.py::test_methods_are_known_by_name,
  methods/test_differentiable_scheduled_sampling.py::test_settings_out_of_range,
  models/test_recurrent_config.py::test_settings_that_cannot_be_are_refused
- α that leaves the Gumbel noise alone:
  test_relaxations.py::test_soft_sample_by_hand
- a gradient through tokens that were fed as given, or none through relaxed ones:
  methods/test_scheduled_sampling.py::test_no_gradient_flows_through_fed_tokens,
  methods/test_differentiable_scheduled_sampling.py::test_a_cell_gets_the_credit_of_those_after_it
- log-probabilities under truncated sampling that are not the sampler's:
  decoding/test_decode.py::test_samples_and_their_log_probs_are_those_of_the_sampler
- own tokens and roll-outs from dropped-out states:
  methods/test_searnn.py::test_costs_are_those_of_the_policy_without_dropout,
  methods/test_invariances.py::test_own_tokens_come_without_dropout,
  test_policy.py::test_decoding_is_without_dropout_and_modes_come_back,
  models/test_recurrent.py::test_cell_states_are_those_of_the_pass_that_dropped
- modes of a model lost by decoding:
  test_policy.py::test_modes_come_back_after_an_error
- roll-outs with a zeroed input-feed vector:
  methods/test_searnn_twin.py::test_every_kind_of_policy,
  ../src/freerun/testing.py::test_a_fork_goes_on_from_any_cell,
  models/test_recurrent.py::test_a_fork_feeds_the_last_attentional_output
- encoder states copied for every roll-out:
  models/test_recurrent.py::test_selection_copies_no_memory
- one row of not-a-number that poisons the batch:
  decoding/test_decode.py::test_a_row_of_not_a_number_is_alone_with_it,
  decoding/test_beam.py::test_a_row_of_not_a_number_is_alone_with_it,
  decoding/test_roll_in.py::test_a_row_of_not_a_number_is_alone_with_it
- random numbers lost when a run resumes:
  methods/test_invariances.py::test_chance_comes_from_the_clock_alone,
  training/test_resume.py::test_methods_with_samples_and_state_are_resumed_to_the_bit,
  training/test_resume.py::test_killed_at_random_moments_and_resumed_is_the_same_to_the_bit
- evaluation under teacher forcing reported as quality:
  training/test_trainer.py::test_evaluation_runs_freely_and_names_what_does_not
- weights that are unpickled, or missing ones left as they happen to be:
  models/test_recurrent_config.py::test_pickled_weights_are_not_read,
  models/test_recurrent_config.py::test_missing_weights_are_refused
- a learned roll-in that lengthens each sentence to the longest of its batch, and aims at eos there:
  decoding/test_trajectories.py::test_a_learned_roll_in_is_as_long_as_its_sentence,
  methods/test_searnn.py::test_a_learned_roll_in_searches_the_cells_of_its_sentences,
  methods/test_searnn.py::test_eos_is_aimed_at_where_it_is_best_alone
- a normalisation that broadcasts [N, 1] against [N], and so sums over cells:
  methods/test_searnn.py::test_every_cell_counts_once,
  methods/test_invariances.py::test_parts_sum_to_the_whole
- roll-outs that go on after eos, or are run again where their result is known:
  decoding/test_roll_out.py::test_what_was_tried_is_written_to_its_end,
  decoding/test_roll_out.py::test_what_the_roll_in_has_written_is_not_run_again,
  methods/test_searnn_twin.py::test_who_writes
- a search that is quick and not the one of the paper:
  methods/test_searnn_twin.py::test_who_writes,
  methods/test_searnn_twin.py::test_any_settings
- the best token always the first of equals:
  methods/test_searnn_robust.py::test_ties_are_broken_at_random_and_alike
- costs that are not finite, and poison the batch in silence:
  costs/test_python_cost.py::test_what_is_no_finite_number_is_named_with_its_row,
  methods/test_searnn_robust.py::test_a_batched_cost_that_is_none
"""
