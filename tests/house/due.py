"""The ids of our trust page that concern institutions and are due, each with the tests that show it.

F files, A API and console, P link messages, N network and processes, D disk, clock and keys, U rules for what may be used once.
Mutants (M) are in tests/mutants/known.py. A test is a file below tests/ and a name; a check sees that each of them exists.
"""

from __future__ import annotations

SHOWN: dict[str, tuple[str, ...]] = {
    "F1": (
        "table/test_read_csv.py::test_gb18030_is_accepted_when_declared_and_refused_when_not",
        "table/test_read_csv.py::test_mixed_encodings_are_refused_with_row_and_byte",
        "table/test_read_csv.py::test_every_line_ending_gives_the_same_rows",
        "table/test_read_csv.py::test_a_quoted_cell_may_hold_commas_quotes_and_line_breaks",
        "table/test_read_parquet.py::test_text_that_is_not_utf8_is_refused_with_its_row",
        "service/test_hostile_files.py::test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing",
        "service/test_hostile_files.py::test_what_is_declared_is_read",
    ),
    "F2": (
        "table/test_read_csv.py::test_repeated_ids_are_refused_until_somebody_chooses",
        "table/test_read_csv.py::test_a_leading_zero_in_an_id_is_kept",
        "table/test_ids.py::test_spellings_of_one_person_give_one_key",
        "table/test_ids.py::test_two_spellings_of_one_phone_are_a_repeat",
    ),
    "F3": (
        "table/test_read_csv.py::test_empty_header_only_and_one_row_are_too_small",
        "table/test_read_csv.py::test_useless_columns_are_left_out_and_listed",
        "table/test_read_csv.py::test_no_feature_left_is_refused",
        "table/test_read_csv.py::test_one_class_is_refused",
        "jobs/test_runner.py::test_test_rows_of_one_class_are_refused_at_both_sides",
        "protocols/test_align.py::test_an_intersection_under_the_floor_is_refused_at_both_sides",
    ),
    "F4": (
        "table/test_read_csv.py::test_what_is_no_finite_number_in_a_numeric_column_is_refused_with_its_rows",
        "table/test_read_csv.py::test_only_the_first_twenty_rows_are_listed_and_all_are_counted",
        "table/test_read_csv.py::test_a_date_in_a_declared_numeric_column_is_refused",
        "table/test_read_parquet.py::test_infinity_is_refused_with_its_row",
    ),
    "F5": (
        "table/test_read_csv.py::test_a_cell_over_a_megabyte_is_refused",
        "table/test_read_csv.py::test_more_columns_than_the_cap_are_refused",
        "table/test_read_csv.py::test_a_file_over_the_cap_is_refused_before_it_is_read",
        "table/test_read_parquet.py::test_a_cell_over_the_cap_is_refused",
        "service/test_hostile_files.py::test_ten_thousand_columns_are_read",
    ),
    "F6": (
        "table/test_files.py::test_a_file_that_changes_while_it_is_read_is_refused",
        "table/test_read_parquet.py::test_a_cut_file_is_refused",
        "service/test_datasets.py::test_a_change_of_one_byte_is_noticed",
        "service/test_jobs.py::test_a_table_that_changed_is_noticed_before_signing_and_before_running",
        "jobs/test_worker.py::test_a_table_that_changed_stops_the_worker_and_the_partner_hears_the_code_alone",
    ),
    "F7": (
        "table/test_files.py::test_archives_bombs_and_other_formats_are_refused_by_their_first_bytes",
        "table/test_files.py::test_links_folders_pipes_and_missing_files_are_bad_paths",
        "table/test_read_parquet.py::test_a_file_that_unpacks_to_a_thousand_times_its_size_is_refused",
        "service/test_hostile_files.py::test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing",
        "service/test_hostile_files.py::test_a_path_to_anything_but_a_file_in_a_registered_folder_is_refused",
    ),
    "F8": (
        "table/test_files.py::test_a_pickle_dressed_as_a_table_is_refused_and_does_not_run",
        "table/test_files.py::test_other_names_are_refused_whatever_is_inside",
        "service/test_hostile_files.py::test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing",
        "house/test_code.py::test_no_file_can_run_code_that_comes_with_data",
        "jobs/test_worker.py::test_a_whole_job_needs_nothing_that_a_closed_worker_may_not_do",
    ),
    "F9": (
        "service/test_hostile_files.py::test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing",
        "table/test_read_parquet.py::test_flipped_bytes_give_a_table_or_a_data_error_and_nothing_else",
        "wire/test_message.py::test_an_array_that_declares_more_than_is_there_is_refused_before_memory_is_taken",
    ),
    "F10": (
        "learn/test_halves.py::test_whatever_stands_in_a_half_it_is_read_or_refused",
        "learn/test_halves.py::test_a_half_that_points_beyond_itself_or_holds_no_numbers_is_refused",
        "learn/test_halves.py::test_a_half_of_the_other_role_or_of_a_later_format_is_refused",
    ),
    "F11": (
        "report/test_cells.py::test_text_that_begins_like_a_formula_is_neutralised",
        "report/test_cells.py::test_a_number_is_read_back_exactly",
    ),
    "F12": (
        "service/test_datasets.py::test_a_path_outside_the_allowed_folders_is_refused",
        "service/test_hostile_files.py::test_a_path_to_anything_but_a_file_in_a_registered_folder_is_refused",
    ),
    "A1": (
        "service/test_census.py::test_every_route_answers_everybody_as_the_table_says",
        "service/test_census.py::test_the_table_names_every_route_and_no_other",
        "service/test_api.py::test_every_route_refuses_a_missing_or_wrong_token",
    ),
    "A3": (
        "service/test_gate.py::test_no_more_of_a_body_is_read_than_is_needed_to_refuse_it",
        "service/test_gate.py::test_a_body_that_is_not_strict_json_is_refused",
        "service/test_hostile_requests.py::test_odd_framing_is_refused_and_others_are_served",
        "service/test_hostile_requests.py::test_no_route_reads_a_body_that_is_not_strict_json",
        "service/test_fuzzed.py::test_whatever_is_spoiled_is_refused_in_the_form_of_a_problem",
    ),
    "A4": (
        "service/test_hostile_requests.py::test_a_flood_of_parts_is_refused_before_a_route_sees_it",
        "service/test_hostile_requests.py::test_odd_framing_is_refused_and_others_are_served",
        "service/test_gate.py::test_only_json_is_read",
    ),
    "A5": (
        "service/test_once.py::test_the_same_request_under_one_key_acts_once_and_another_is_refused",
        "service/test_once.py::test_two_at_the_same_time_under_one_key_make_one_object",
        "service/test_once.py::test_a_reply_outlives_the_process_and_ends_after_a_day",
    ),
    "A6": (
        "service/test_hostile_requests.py::test_of_two_people_who_act_at_once_one_wins_and_the_other_hears_of_it",
        "store/test_store.py::test_a_job_moves_only_from_the_states_that_are_named",
    ),
    "A7": (
        "service/test_hostile_requests.py::test_an_invitation_that_points_inside_is_refused_and_nothing_is_fetched",
        "service/test_hostile_requests.py::test_what_a_person_accepts_is_asked_once_at_its_address_and_at_no_other",
        "service/test_joining.py::test_a_confirmed_partner_is_not_replaced_by_an_invitation",
        "wire/test_https.py::test_a_trusted_certificate_that_is_not_the_pinned_one_is_refused",
    ),
    "A8": (
        "jobs/test_bounds.py::test_a_value_that_the_schema_does_not_allow_is_refused_with_its_path",
        "jobs/test_bounds.py::test_a_field_that_the_schema_does_not_name_is_refused_with_its_path",
        "jobs/test_spec.py::test_a_value_out_of_bounds_is_refused_with_its_path",
        "service/test_fuzzed.py::test_whatever_is_spoiled_is_refused_in_the_form_of_a_problem",
    ),
    "A10": (
        "store/test_config.py::test_a_word_is_neither_a_number_nor_a_truth_value",
        "store/test_config.py::test_a_field_that_nobody_knows_is_named",
        "store/test_config.py::test_no_variable_of_the_environment_changes_a_config",
        "cli/test_cli.py::test_a_variable_of_the_environment_that_nothing_reads_stops_a_server_at_its_start",
    ),
    "P1": (
        "wire/test_envelope.py::test_no_byte_of_an_envelope_can_be_changed_added_or_left_out",
        "wire/test_link_faults.py::test_flipped_and_cut_bytes_either_way_are_refused_and_the_line_goes_on",
        "wire/test_message.py::test_a_message_of_another_kind_is_refused",
        "wire/test_message.py::test_a_message_cut_anywhere_is_refused",
        "wire/test_https.py::test_a_body_that_is_too_long_is_refused_before_it_is_sent",
    ),
    "P2": (
        "wire/test_link_faults.py::test_whatever_is_replayed_gets_the_stored_reply_or_is_refused_and_has_no_effect",
        "wire/test_link_faults.py::test_old_requests_stay_refused_when_their_reply_is_no_longer_stored",
        "wire/test_link_faults.py::test_every_exchange_delivered_twice_counts_once",
    ),
    "P3": (
        "wire/test_lane.py::test_frames_lost_doubled_and_out_of_order_come_out_once_each_and_in_order",
        "wire/test_link_faults.py::test_any_mixture_of_faults_gives_the_same_messages",
    ),
    "P4": (
        "wire/test_lane.py::test_a_number_that_comes_again_with_another_body_is_noticed",
        "wire/test_link.py::test_a_dialer_that_changes_a_frame_fails_the_channel_on_both_sides",
        "wire/test_link.py::test_a_listener_that_changes_a_frame_fails_the_channel_on_both_sides",
    ),
    "P5": (
        "wire/test_link.py::test_channels_do_not_mix",
        "wire/test_link_faults.py::test_reflected_requests_and_answers_sent_back_are_refused",
        "wire/test_envelope.py::test_an_envelope_reflected_to_its_sender_does_not_open",
        "jobs/test_worker.py::test_a_job_that_does_not_fit_its_hash_is_refused",
        "service/test_jobs.py::test_a_consent_by_another_key_or_for_another_run_does_not_count",
    ),
    "P6": (
        "wire/test_clocks.py::test_a_partner_whose_clock_is_years_off_or_jumps_is_spoken_to_as_any_other",
    ),
    "P7": (
        "protocols/test_hint.py::test_a_feature_owner_refuses_what_does_not_fit",
        "protocols/test_hint.py::test_a_label_owner_refuses_columns_of_other_rows_or_bins",
        "crypto/test_paillier.py::test_a_bad_key_is_refused",
        "crypto/test_paillier.py::test_a_bad_ciphertext_among_good_ones_is_refused_by_both_sides",
        "crypto/test_curve.py::test_a_bad_encoding_of_the_rfc_is_refused",
    ),
    "P9": (
        "wire/test_link.py::test_another_version_is_named_on_both_sides_before_any_data",
        "wire/test_handshake.py::test_another_version_or_suite_is_named_before_anything_else",
    ),
    "P10": (
        "protocols/test_hint.py::test_one_vector_over_the_budget_is_refused",
        "protocols/test_hint.py::test_a_feature_owner_refuses_what_does_not_fit",
        "attacks/test_chosen_vectors.py::test_the_budget_of_the_product_ends_it",
        "attacks/test_killed.py::test_a_partner_that_was_not_restored_refuses_them",
    ),
    "P12": ("protocols/test_boost.py::test_a_feature_owner_whose_bins_do_not_add_up_is_caught",),
    "P11": (
        "protocols/test_secure_sum.py::test_a_bad_batch_is_refused_and_uses_nothing_up",
        "attacks/test_fleet_leader.py::test_each_helper_alone_refuses",
        "attacks/test_fleet_leader.py::test_each_helper_alone_refuses_what_its_leader_did_not_sign",
        "fleet/test_helper.py::test_what_a_helper_refuses_comes_as_its_reason",
    ),
    "N1": (
        "wire/test_link_faults.py::test_every_exchange_cut_once_before_or_after_delivery_gives_the_same_messages",
        "wire/test_link_faults.py::test_while_the_partner_is_away_messages_wait_and_then_arrive_once",
        "wire/test_https.py::test_connections_cut_in_the_middle_of_a_frame_lose_and_double_nothing",
        "wire/test_https.py::test_a_hole_in_one_direction_heals_when_the_connection_is_cut",
    ),
    "N2": (
        "wire/test_slow_line.py::test_the_link_carries_large_bodies_both_ways_through_a_slow_proxy",
        "wire/test_link.py::test_a_slow_taker_makes_the_sender_wait_and_loses_nothing",
    ),
    "N3": (
        "wire/test_envelope.py::test_the_longest_envelope_is_exactly_a_mebibyte",
        "wire/test_link.py::test_a_tool_gives_up_after_the_time_it_was_given_and_names_the_reason",
    ),
    "D3": (
        "store/test_store.py::test_a_file_that_is_no_store_is_named_as_damaged",
        "store/test_damaged.py::test_a_damaged_page_is_named_at_the_start",
        "store/test_damaged.py::test_a_file_that_was_cut_is_named_at_the_start",
    ),
    "D4": (
        "wire/test_clocks.py::test_a_partner_whose_clock_is_years_off_or_jumps_is_spoken_to_as_any_other",
        "service/test_gate.py::test_a_flood_is_told_how_long_to_wait_and_others_are_served",
    ),
    "D6": (
        "store/test_folder.py::test_a_secret_that_others_can_read_or_that_is_gone_stops_the_node",
        "store/test_folder.py::test_a_folder_that_is_a_node_is_never_made_anew",
        "cli/test_cli.py::test_a_key_that_others_can_read_stops_serve_and_the_doctor_says_so",
    ),
    "U1": (
        "crypto/test_onetime.py::test_a_one_time_secret_is_given_out_once",
        "wire/test_envelope.py::test_the_counter_rises_with_every_envelope",
        "crypto/test_paillier.py::test_prepared_blinding_is_used_once_and_then_gone",
        "house/test_secrets.py::test_no_secret_is_in_a_repr",
    ),
    "U2": (
        "protocols/test_hint.py::test_indexes_are_on_record_before_any_hint_is_made",
        "protocols/test_hint.py::test_a_ledger_that_cannot_be_written_stops_before_anything_is_made",
        "store/test_burned.py::test_every_burned_number_is_synced_and_there_again",
        "attacks/test_killed.py::test_no_index_leaves_twice_over_all_points",
    ),
    "U3": (
        "crypto/test_onetime.py::test_a_forked_child_finds_the_secret_spent",
        "crypto/test_onetime.py::test_a_one_time_secret_is_neither_copied_nor_pickled",
        "attacks/test_used_twice.py::test_secrets_of_a_forked_process",
        "e2e/test_canaries.py::test_nothing_that_was_planted_lies_outside_its_place",
    ),
    "U4": (
        "protocols/test_hint.py::test_a_party_that_begins_again_goes_on_above_every_index_that_either_has_seen",
        "store/test_burned.py::test_a_barrier_that_is_gone_back_to_brings_no_number_back",
        "protocols/test_hint.py::test_a_beginning_that_one_side_chose_alone_is_refused",
    ),
    "U5": (
        "wire/test_link_faults.py::test_what_was_acknowledged_is_never_sent_again_and_a_cut_costs_at_most_what_was_under_way",
        "protocols/test_hint.py::test_a_secret_is_taken_before_it_encrypts_and_never_comes_back",
    ),
    "U6": (
        "protocols/test_hint.py::test_a_feature_owner_refuses_what_does_not_fit",
        "protocols/test_hint.py::test_two_feature_owners_share_one_vector_and_have_keys_of_their_own",
        "attacks/test_used_twice.py::test_two_feature_owners_of_the_product_that_collude_find_no_sum",
    ),
    "U7": (
        "protocols/test_hint.py::test_two_runs_of_one_job_share_no_public_polynomial",
        "store/test_burned.py::test_a_record_that_is_damaged_is_said_and_not_begun_anew",
    ),
    "U8": (
        "attacks/test_killed.py::test_a_partner_that_was_not_restored_refuses_them",
        "service/test_nodes.py::test_an_older_database_that_was_put_back_is_found_through_the_partner",
    ),
    "U9": (
        "protocols/test_secure_sum.py::test_a_batch_asked_again_gets_the_answer_that_it_had_with_its_noise",
        "store/test_helper.py::test_an_answer_that_was_not_committed_is_as_if_it_had_never_been",
        "fleet/test_helper.py::test_a_helper_killed_at_any_moment_gives_one_answer_and_keeps_it",
    ),
    "U10": (
        "crypto/test_onetime.py::test_a_one_time_secret_is_given_out_once",
        "crypto/test_onetime.py::test_a_one_time_secret_has_no_readable_form",
        "crypto/test_onetime.py::test_a_one_time_secret_is_neither_compared_nor_hashed",
        "crypto/test_onetime.py::test_threads_that_race_for_a_secret_get_it_once",
    ),
    "N4": (
        "crash/test_sweep.py::test_a_job_survives_and_ends_in_the_same_bits",
        "service/test_jobs.py::test_a_worker_that_dies_once_is_started_again",
        "jobs/test_resume.py::test_a_side_that_dies_at_any_write_redoes_one_step_at_most",
    ),
    "N5": (
        "store/test_folder.py::test_one_folder_serves_one_process",
        "store/test_checkpoints.py::test_an_attempt_that_begins_just_before_a_write_shuts_it_out",
    ),
    "N6": ("store/test_checkpoints.py::test_a_worker_whose_turn_is_over_can_write_nothing",),
    "N7": (
        "service/test_jobs.py::test_a_node_that_begins_again_goes_on_with_what_ran",
        "service/test_nodes.py::test_a_partner_killed_in_a_running_job_comes_back_and_goes_on",
    ),
    "D1": (
        "store/test_checkpoints.py::test_a_full_disk_leaves_the_record_as_it_was_and_it_goes_on_afterwards",
        "crash/test_sweep.py::test_a_job_survives_and_ends_in_the_same_bits",
    ),
    "D2": ("store/test_checkpoints.py::test_a_damaged_record_or_another_key_is_named",),
    "D5": (
        "service/test_grants.py::test_a_grant_that_ends_while_a_job_runs_no_longer_covers_it",
        "service/test_grants.py::test_a_worker_is_stopped_at_the_next_barrier_after_its_grant_ended",
        "service/test_grants.py::test_a_plan_says_which_grants_are_found_ending_or_missing",
        "service/test_keys.py::test_when_the_time_is_up_the_old_key_counts_no_more_even_for_who_was_away",
    ),
    "D7": ("service/test_jobs.py::test_a_label_owner_that_was_restored_is_found_and_waits_for_a_person",),
}

PENDING: dict[str, str] = {
    "A2": "objects of another project: users and projects",
}
"""Due, and waiting for something that is being built."""
