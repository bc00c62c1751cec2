import warnings

import numpy as np
import pytest
from helpers import message, steps_of
from recording import LABELS, N, losses_at, one_epoch, part_of_epoch

from actiontrack.recorder import Recorder

HALF = [0, 1, 2, 3, 4]


def scored(record):
    return int(record.scores()["action"].notna().sum())


def test_an_interrupted_epoch_is_counted_and_not_summed(recorder, read):
    with pytest.raises(ZeroDivisionError), recorder() as rec:  # noqa: PT012
        one_epoch(rec, 1)
        rec.update([0, 1, 2], [1, 2, 3], labels=LABELS[:3])
        raise ZeroDivisionError
    manifest = read().manifest
    assert manifest.partial == {"step": 2, "n_seen": 3}
    assert not manifest.complete
    np.testing.assert_array_equal(read().scores()["action"], losses_at(1).astype(float))


def test_drop_last_gives_no_action_to_those_that_were_dropped(recorder, read):
    with recorder("train", mode="inline", allow_missing=True) as rec:
        rec.describe_samples(np.arange(N))
        for dropped in (2, 5):
            kept = np.delete(np.arange(N), dropped)
            rec.update(kept, losses_at(1, kept))
            assert rec.end_epoch().n_missing == 1
    scores = read("train-inline").scores()
    assert scores["sample_id"][scores["action"].isna()].tolist() == [2, 5]
    assert scores["n_steps"].tolist() == [1 if row in (2, 5) else 2 for row in range(N)]
    assert [step.n_seen for step in steps_of(read("train-inline"))] == [N - 1, N - 1]


def test_a_later_epoch_that_misses_samples_is_kept_apart_by_name(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    text = (
        "epoch 2 of record test-probe is partial, it holds 5 of 11 samples: it is kept apart, and "
        "no score includes it, as it would cost the others theirs. Missing are 5, 6, 7, 8, 9 and 1 "
        "more. To record such epochs all the same, pass allow_missing=True: these samples have no "
        "action then."
    )
    with pytest.warns(UserWarning, match=message(text)) as caught:
        summary = part_of_epoch(rec, HALF)
    assert caught[0].filename.endswith("recording.py")
    assert (summary.partial, summary.n_seen, summary.n_missing) == (True, 5, 6)
    rec.finish()
    assert read().history().steps.tolist() == [1]
    assert read().manifest.partial == {"step": 2, "n_seen": 5}
    np.testing.assert_array_equal(read().scores()["action"], losses_at(1).astype(float))


def test_a_partial_epoch_inside_costs_nobody_the_score(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    with pytest.warns(UserWarning, match="is partial"):
        part_of_epoch(rec, HALF, 2)
    one_epoch(rec, 3)
    rec.finish()
    assert read().history().steps.tolist() == [1, 3]
    assert scored(read()) == N
    assert read().manifest.partial is None


def test_a_resume_inside_an_epoch_costs_that_epoch_alone(recorder, read):
    with pytest.raises(KeyboardInterrupt), recorder("train", mode="inline") as rec:  # noqa: PT012
        one_epoch(rec, 1)
        rec.update(HALF, losses_at(2, HALF), labels=LABELS[HALF])
        raise KeyboardInterrupt
    rec = recorder("train", mode="inline", resume=True)
    with pytest.warns(UserWarning, match=r"^epoch 2 of record train-inline is partial"):
        part_of_epoch(rec, list(range(5, N)), 2)
    one_epoch(rec, 3)
    rec.finish()
    assert read("train-inline").history().steps.tolist() == [1, 3]
    assert scored(read("train-inline")) == N


def test_the_gap_of_an_interrupted_epoch_is_none_after_a_resume(recorder, read):
    with pytest.raises(KeyboardInterrupt), recorder() as rec:  # noqa: PT012
        one_epoch(rec, 1)
        rec.update(HALF, losses_at(2, HALF), labels=LABELS[HALF])
        raise KeyboardInterrupt
    with recorder(resume=True) as rec:
        one_epoch(rec, 3)
    assert read().history().steps.tolist() == [1, 3]


def test_a_whole_epoch_is_not_replaced_by_a_part_of_it(recorder, read):
    with recorder() as rec:
        for epoch in (1, 2, 3):
            one_epoch(rec, epoch)
    rec = recorder(resume=True)
    with pytest.warns(UserWarning, match="is partial"):
        part_of_epoch(rec, HALF, 2)
    rec.finish()
    np.testing.assert_array_equal(read().history().losses, [losses_at(1), losses_at(2)])


def test_training_may_say_itself_that_an_epoch_is_partial(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    with pytest.warns(UserWarning, match=r"^epoch 2 of record test-probe is partial, .*theirs\.$"):
        assert part_of_epoch(rec, HALF, 2, partial=True, n_samples=N).partial
    rec.finish()
    assert read().history().n_steps == 1


def test_training_may_insist_on_an_epoch(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
        part_of_epoch(rec, HALF, 2, partial=False)
    assert scored(read()) == len(HALF)


def test_samples_that_are_gone_for_good_do_not_end_the_record(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    with pytest.warns(UserWarning, match="is partial"):
        part_of_epoch(rec, HALF, losses_of=2)
    text = (
        "6 samples are missing from record test-probe from epoch 2 on: 5, 6, 7, 8, 9 and 1 more. "
        "They have no action, as a shorter sum would make them look easy."
    )
    with pytest.warns(UserWarning, match=message(text)):
        part_of_epoch(rec, HALF, losses_of=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part_of_epoch(rec, HALF, losses_of=4)
    rec.finish()
    history = read().history()
    assert history.steps.tolist() == [1, 2, 3, 4]
    expected = [losses_at(epoch, HALF) for epoch in (1, 2, 3, 4)]
    np.testing.assert_array_equal(history.losses[:, HALF], expected)
    assert scored(read()) == len(HALF)


def test_a_record_of_a_part_of_one_epoch_holds_that_part_with_a_warning(recorder, read):
    rec = recorder()
    with pytest.warns(UserWarning, match="is partial, it holds 5 of 11 samples"):
        part_of_epoch(rec, HALF, 1, losses_of=1, partial=True, n_samples=N)
    text = (
        "record test-probe holds 5 of 11 samples that training came to before it ended inside its "
        "first epoch. The others are not in it."
    )
    with pytest.warns(UserWarning, match=message(text)):
        rec.finish()
    np.testing.assert_array_equal(read().history().losses, [losses_at(1, HALF)])


def test_a_part_of_the_first_epoch_does_not_settle_the_samples(recorder, read):
    rec = recorder()
    with pytest.warns(UserWarning, match="is partial"):
        part_of_epoch(rec, HALF, 1, partial=True)
    one_epoch(rec, 2)
    rec.finish()
    assert read().history().n_samples == N
    assert scored(read()) == N


def test_maps_of_a_partial_epoch_are_not_summed(store, run_id):
    maps = np.ones((2, 2, 2), np.float32)
    rec = Recorder(store=store, run_id=run_id, pixel_loss_name="focal")
    rec.update([1, 2], [1, 2])
    rec.update_maps([1, 2], maps)
    rec.end_epoch()
    rec.update([1], [1])
    rec.update_maps([1], maps[:1])
    with pytest.warns(UserWarning, match="is partial"):
        rec.end_epoch()
    rec.finish()
    np.testing.assert_array_equal(store.open_record(run_id).pixel_action(0), maps[0])


def test_a_warning_turned_into_an_error_loses_nothing(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="is partial"):
            part_of_epoch(rec, HALF)
    one_epoch(rec, 2)
    rec.finish()
    assert read().history().n_steps == 2


def test_a_restart_within_a_training_records_its_epochs_again(recorder, read):
    with recorder("train", mode="inline") as rec:
        one_epoch(rec, 1)
        rec.update(HALF, losses_at(2, HALF), labels=LABELS[HALF])
        rec.discard_epoch()  # out of memory: once more from the start, with smaller batches
        for epoch in (1, 2):
            for batch in np.array_split(np.arange(N), 4):
                rec.update(batch, losses_at(10 + epoch, batch), labels=LABELS[batch])
            rec.end_epoch(epoch)
    np.testing.assert_array_equal(
        read("train-inline").history().losses, [losses_at(11), losses_at(12)]
    )
