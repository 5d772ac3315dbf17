use lockstep_protocol::BatchHeader;
use lockstep_protocol::native::Durability;

use super::*;

const BUFFER_BYTES: usize = 1 << 20;
const NOW: Duration = Duration::from_secs(1);

fn lane(change: impl FnOnce(&mut LaneSettings)) -> (Lane, Arc<Semaphore>) {
    let mut settings = LaneSettings {
        partition: 3,
        linger: Duration::ZERO,
        batch_bytes: 1 << 16,
        in_flight_max: 5,
        fence: None,
        identity: Identity { id: 9, epoch: 0 },
    };
    change(&mut settings);
    let budget = Arc::new(Semaphore::new(BUFFER_BYTES));
    (Lane::new(settings, Arc::clone(&budget)), budget)
}

fn push(lane: &mut Lane, text: &'static str) -> Delivery {
    let record = Record::new(0, text);
    let bytes = BatchBuilder::new().size_bytes_with(&record);
    lane.push(&record, bytes, NOW).unwrap().0
}

fn push_batch(lane: &mut Lane, records: usize, expected_next_lsn: Option<u64>) -> BatchDelivery {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.push(&Record::new(0, "x")).unwrap();
    }
    lane.push_batch(builder, Conditions { expected_next_lsn, ..Conditions::default() }, 10).unwrap()
}

fn sequence(dispatch: &Dispatch) -> (i32, i32) {
    let header = BatchHeader::parse(&dispatch.batch).unwrap();
    (header.base_sequence, header.records_count)
}

fn produced(first_lsn: u64, records: u64) -> Produced {
    let acked = Durability::SyncedMajority;
    Produced { first_lsn, last_lsn: first_lsn + records - 1, duplicate: false, acked }
}

fn spent() -> ProduceError {
    RequestError::BudgetSpent { attempts: 3, last: "silence".to_owned() }.into()
}

fn outcome(delivery: &BatchDelivery) -> Result<BatchAck, ProduceError> {
    delivery.try_ack().expect("the batch is settled")
}

#[test]
fn batches_leave_in_order_with_adjoining_sequences_and_no_more_than_allowed() {
    let (mut lane, _) = lane(|settings| settings.in_flight_max = 2);
    for records in [2, 3, 4] {
        push_batch(&mut lane, records, None);
    }
    assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()), (0, 2));
    assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()), (2, 3));
    assert_eq!(lane.next_dispatch(NOW), None, "two are in flight");
    lane.front_stored(&produced(1, 2));
    assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()), (5, 4));
}

#[test]
fn a_retried_batch_keeps_its_bytes_and_all_behind_it_follow_in_order() {
    let (mut lane, _) = lane(|_| ());
    push_batch(&mut lane, 1, None);
    push_batch(&mut lane, 2, None);
    let first = [lane.next_dispatch(NOW).unwrap(), lane.next_dispatch(NOW).unwrap()];
    lane.resend(true);
    push_batch(&mut lane, 1, None);
    let again = [lane.next_dispatch(NOW).unwrap(), lane.next_dispatch(NOW).unwrap()];
    assert_eq!(first, again);
    assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()), (3, 1));
}

#[test]
fn records_pushed_one_by_one_share_a_batch_and_get_consecutive_lsns() {
    let (mut lane, _) = lane(|settings| settings.linger = Duration::from_millis(5));
    let deliveries: Vec<Delivery> = ["a", "b", "c"].map(|text| push(&mut lane, text)).into();
    assert_eq!(lane.next_dispatch(NOW), None, "the batch lingers");
    let due = lane.deadline().unwrap();
    assert_eq!(due, NOW + Duration::from_millis(5));
    assert_eq!(sequence(&lane.next_dispatch(due).unwrap()), (0, 3));
    lane.front_stored(&produced(41, 3));
    let lsns: Vec<u64> = deliveries.iter().map(|delivery| delivery.try_ack().unwrap().unwrap().lsn).collect();
    assert_eq!(lsns, [41, 42, 43]);
}

#[test]
fn a_full_batch_does_not_linger() {
    let (mut lane, _) = lane(|settings| {
        settings.linger = Duration::from_secs(3_600);
        settings.batch_bytes = 80;
    });
    push(&mut lane, "0123456789");
    push(&mut lane, "0123456789");
    assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()), (0, 1));
    assert_eq!(lane.next_dispatch(NOW), None);
}

#[test]
fn a_batch_of_its_own_is_not_mixed_with_single_records_around_it() {
    let (mut lane, _) = lane(|settings| settings.linger = Duration::from_secs(3_600));
    push(&mut lane, "before");
    push_batch(&mut lane, 2, None);
    push(&mut lane, "after");
    let sizes: Vec<i32> =
        std::iter::from_fn(|| lane.next_dispatch(NOW)).map(|dispatch| sequence(&dispatch).1).collect();
    assert_eq!(sizes, [1, 2]);
}

#[test]
fn a_batch_that_fails_for_good_takes_all_behind_it_along() {
    let (mut lane, budget) = lane(|_| ());
    let failed = push_batch(&mut lane, 1, None);
    let in_flight = push_batch(&mut lane, 1, None);
    lane.next_dispatch(NOW).unwrap();
    lane.next_dispatch(NOW).unwrap();
    let queued = push_batch(&mut lane, 1, None);
    // Room was taken beforehand, as a producer does.
    budget.try_acquire_many(30).unwrap().forget();

    lane.front_failed(spent());
    assert!(matches!(outcome(&failed), Err(ProduceError::Request(_))));
    assert!(
        matches!(outcome(&in_flight), Err(ProduceError::Request(RequestError::OutcomeUnknown { .. }))),
        "it has left, and may be stored"
    );
    assert!(matches!(outcome(&queued), Err(ProduceError::Poisoned { .. })));
    assert_eq!(lane.next_dispatch(NOW), None);
    let later = lane.push_batch(BatchBuilder::new(), Conditions::default(), 0);
    assert!(matches!(later, Err(ProduceError::Poisoned { .. })), "nor is anything taken later");
    assert_eq!(budget.available_permits(), BUFFER_BYTES, "all room is given back");
}

#[test]
fn a_failed_condition_consumes_no_sequence_and_the_lane_goes_on() {
    let (mut lane, _) = lane(|_| ());
    push_batch(&mut lane, 2, None);
    let conditional = push_batch(&mut lane, 1, Some(7));
    let after = push_batch(&mut lane, 1, None);
    lane.next_dispatch(NOW).unwrap();
    assert_eq!(lane.next_dispatch(NOW), None, "a condition waits until nothing is in flight");
    lane.front_stored(&produced(1, 2));

    let sent = lane.next_dispatch(NOW).unwrap();
    assert_eq!((sent.conditions.expected_next_lsn, sequence(&sent)), (Some(7), (2, 1)));
    assert_eq!(lane.next_dispatch(NOW), None, "and nothing follows before it is judged");
    lane.front_failed(ProduceError::ConditionFailed { next_lsn: 3 });
    assert!(matches!(outcome(&conditional), Err(ProduceError::ConditionFailed { next_lsn: 3 })));

    assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()), (2, 1), "the next batch gets the sequence");
    lane.front_stored(&produced(3, 1));
    assert!(outcome(&after).is_ok());
}

/// A conditional batch that expects LSN 7, sent twice, and one behind it.
fn sent_twice(outcome_open: bool) -> (Lane, [BatchDelivery; 2]) {
    let (mut lane, _) = lane(|_| ());
    let deliveries = [push_batch(&mut lane, 1, Some(7)), push_batch(&mut lane, 1, None)];
    lane.next_dispatch(NOW).unwrap();
    lane.resend(outcome_open);
    lane.next_dispatch(NOW).unwrap();
    (lane, deliveries)
}

#[test]
fn a_sequence_that_an_unread_attempt_may_still_take_is_not_given_to_another_batch() {
    let (mut lane, [conditional, behind]) = sent_twice(true);
    lane.front_failed(ProduceError::ConditionFailed { next_lsn: 3 });
    let refused = outcome(&conditional);
    assert!(
        matches!(refused, Err(ProduceError::Request(RequestError::OutcomeUnknown { .. }))),
        "{refused:?}"
    );
    assert!(matches!(outcome(&behind), Err(ProduceError::Poisoned { .. })));
    assert_eq!(lane.next_dispatch(NOW), None);
}

#[test]
fn a_failed_condition_frees_the_sequence_where_no_attempt_can_be_stored_any_more() {
    for (outcome_open, next_lsn) in [(true, 8), (false, 3), (false, 8)] {
        let (mut lane, [conditional, _]) = sent_twice(outcome_open);
        lane.front_failed(ProduceError::ConditionFailed { next_lsn });
        assert!(matches!(outcome(&conditional), Err(ProduceError::ConditionFailed { .. })));
        assert_eq!(
            sequence(&lane.next_dispatch(NOW).unwrap()),
            (0, 1),
            "open {outcome_open}, next {next_lsn}"
        );
    }
}

#[test]
fn without_an_identity_batches_carry_no_sequence() {
    let (mut lane, _) = lane(|settings| settings.identity = Identity::NONE);
    push_batch(&mut lane, 2, None);
    push_batch(&mut lane, 2, None);
    for _ in 0..2 {
        assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()).0, -1);
    }
}

#[test]
fn after_the_greatest_sequence_comes_zero() {
    assert_eq!(add_to_sequence(i32::MAX, 1), 0);
    assert_eq!(add_to_sequence(i32::MAX - 1, 1), i32::MAX);
    assert_eq!(add_to_sequence(i32::MAX - 1, 5), 3);
}

#[test]
fn an_abandoned_lane_tells_everyone_and_takes_nothing_more() {
    let (mut lane, _) = lane(|_| ());
    let waiting = push_batch(&mut lane, 1, None);
    lane.abandon();
    assert!(matches!(outcome(&waiting), Err(ProduceError::Closed)));
    assert!(lane.is_idle());
    assert!(matches!(lane.push(&Record::new(0, "x"), 10, NOW), Err(ProduceError::Closed)));
}

#[test]
fn records_gather_while_two_batches_are_on_their_way_and_what_is_full_or_flushed_leaves() {
    let (mut lane, _) = lane(|settings| settings.batch_bytes = 200);
    for _ in 0..2 {
        push(&mut lane, "alone");
        assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()).1, 1);
    }
    push(&mut lane, "third");
    assert_eq!((lane.next_dispatch(NOW), lane.deadline()), (None, None), "nothing to wake up for");
    push(&mut lane, "fourth");
    lane.front_stored(&produced(1, 1));
    assert_eq!(sequence(&lane.next_dispatch(NOW).unwrap()), (2, 2), "both in one");
    (0..40).for_each(|_| drop(push(&mut lane, "0123456789")));
    assert!(sequence(&lane.next_dispatch(NOW).unwrap()).1 > 5, "a full one does not wait");
    while lane.next_dispatch(NOW).is_some() {}
    lane.front_stored(&produced(2, 1));
    push(&mut lane, "last");
    lane.flush();
    assert!(lane.next_dispatch(NOW).is_some(), "nor does one that somebody waits for");
}
