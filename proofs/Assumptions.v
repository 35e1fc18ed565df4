(** What do the theorems rest on?  Nothing: each line below must print "Closed under
    the global context".  check.sh runs this file last and reads what it prints. *)

From Seams Require Import Chunking Rule Gaps LiveSet Queue Intervals Ranges Stitch Program Restart.

Print Assumptions next_cut_least.
Print Assumptions next_cut_determined.
Print Assumptions replay_finds_next_cut.
Print Assumptions read_once.
Print Assumptions forced_run.
Print Assumptions one_gap.
Print Assumptions gap_below_fails.
Print Assumptions gap_above_fails.
Print Assumptions one_gap_plain.
Print Assumptions one_gap_plain_tight.
Print Assumptions low_two_gaps.
Print Assumptions hidden_hit_misaligns.
Print Assumptions forced_c1_misaligns.
Print Assumptions forced_c2_misaligns.
Print Assumptions certify_sound.
Print Assumptions certify_by_sound.
Print Assumptions certify_complete.
Print Assumptions certify_is_least.
Print Assumptions none_means_disagreement.
Print Assumptions certify_complete_plain.
Print Assumptions none_means_disagreement_plain.
Print Assumptions settle_refines.
Print Assumptions pull_refines.
Print Assumptions certify_sparse_sound.
Print Assumptions certify_sparse_exact.
Print Assumptions sweep_events_sound.
Print Assumptions stitched_equals_serial.
Print Assumptions joined_equals_serial.
Print Assumptions program_equals_serial.
Print Assumptions gear_window.
Print Assumptions replay_equals_restarting.
Print Assumptions restarting_stitched_equals_serial.
Print Assumptions restarting_queue_equals_serial.
Print Assumptions restarting_joined_equals_serial.
Print Assumptions unsure_sound.
Print Assumptions unsure_never_certifies.
