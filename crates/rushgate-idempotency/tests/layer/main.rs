//! What the layer promises, held against SQLite and PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, and these are all tests"
)]

mod stories;
mod trouble;
mod wire;
mod world;

/// Each story on each database.
macro_rules! on_both {
    ($($room:ident::$story:ident)*) => {
        mod on_sqlite {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                crate::$room::$story(crate::world::World::<crate::layers::Sqlite>::new().await).await;
            }
        )*}
        mod on_postgres {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                crate::$room::$story(crate::world::World::<crate::layers::Postgres>::new().await).await;
            }
        )*}
    };
}

use world::databases as layers;

on_both! {
    stories::of_fifty_equal_requests_one_is_done_and_all_get_its_answer
    stories::a_repeat_gets_the_answer_byte_for_byte
    stories::another_command_under_the_key_is_refused
    stories::methods_that_change_something_need_a_key
    stories::a_key_is_read_from_both_headers_in_both_forms
    stories::a_key_is_unique_within_its_scope
    stories::a_request_that_is_too_large_is_not_begun
    stories::an_answer_that_is_too_large_is_passed_on_and_not_done_again
    stories::a_refusal_is_kept_and_a_passing_one_is_not
    stories::an_expired_answer_is_swept
    trouble::a_crashed_request_is_taken_over_when_its_lease_has_run_out
    trouble::a_handler_that_panics_releases_its_key
    trouble::a_handler_that_fails_releases_its_key
    trouble::a_client_that_hangs_up_loses_only_its_reply
    trouble::a_slow_handler_answers_with_what_was_stored_meanwhile
    trouble::a_handler_may_complete_its_claim_itself
    trouble::nothing_is_done_without_the_store
    trouble::an_answer_that_breaks_off_is_not_done_again
    wire::a_server_replays_over_its_sockets
}
