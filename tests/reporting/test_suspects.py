"""Labels of one record that may be wrong: in its report and in its card."""

import io
import re

import numpy as np
import pytest
from mislabelled import LABELS, N_CLASSES, N_SAMPLES, TRUTH, WRONG, mislabelled_history
from PIL import Image
from report_sections import headings, section

from actiontrack.analysis import verdicts
from actiontrack.recorder import Recorder
from actiontrack.reporting import model_card, run_report

HEADING = "Labels that may be wrong"
NAMES = np.array(["ant", "bee", "cat"])
SENTENCE = re.compile(rf"About (\d+) of {N_SAMPLES} labels are wrong \((\d+) to (\d+)\)\.")


@pytest.fixture
def mislabelled(recorded_history, store):
    return store.open_record(recorded_history(mislabelled_history()))


def judge(record, sample_id, verdict, **said):
    verdicts.add(record, [verdicts.Verdict(sample_id=sample_id, verdict=verdict, who="me", **said)])


def test_the_first_ten_suspects_are_wrong_labels_with_the_true_class(mislabelled):
    part = section(run_report(mislabelled), HEADING)
    assert list(part.frame.columns) == [
        "sample_id", "class", "suggested_class", "p_wrong", "p_suggested",
    ]  # fmt: skip
    rows = part.frame["sample_id"].to_numpy()
    assert len(rows) == 10
    assert set(rows.tolist()) <= set(WRONG.tolist())
    assert part.frame["class"].tolist() == NAMES[LABELS[rows]].tolist()
    assert part.frame["suggested_class"].tolist() == NAMES[TRUTH[rows]].tolist()
    assert part.frame["p_wrong"].is_monotonic_decreasing
    assert f"{len(WRONG)} labels are suspect; the 10 most suspect are listed." in part.text


def test_section_summary_and_card_say_how_many_labels_are_wrong(mislabelled):
    report, card = run_report(mislabelled), model_card(mislabelled).replace("\\", "")
    (data,) = re.findall(r"- Wrong labels: (.*)", card)
    for text in (section(report, HEADING).text, section(report, "Summary").text, data):
        n, low, high = map(int, SENTENCE.search(text).groups())
        assert abs(n - len(WRONG)) <= 2
        assert low <= n <= high


def test_what_people_said_of_a_suspect_counts(mislabelled):
    fine, unclear = WRONG[:2].tolist()
    judge(mislabelled, fine, "fine")
    for sample in WRONG[11:].tolist():
        judge(mislabelled, sample, "fine")
    judge(mislabelled, unclear, "wrong_label")
    part = section(run_report(mislabelled), HEADING)
    assert sorted(part.frame["sample_id"]) == WRONG[1:11].tolist()
    verdict = part.frame.set_index("sample_id")["verdict"]
    assert verdict.dropna().to_dict() == {unclear: "wrong_label"}
    assert "10 labels are suspect. Look" in part.text


def test_where_people_found_every_suspect_fine_none_is_listed(mislabelled):
    for sample in WRONG.tolist():
        judge(mislabelled, sample, "fine")
    part = section(run_report(mislabelled), HEADING)
    assert part.frame is None
    assert part.text.endswith("No label is suspect.")


@pytest.mark.parametrize(
    "changes", [{"split": "test"}, {"labels": None}, {"without": ("largest_other",)}]
)
def test_a_record_that_does_not_tell_has_no_such_section(recorded_history, store, changes):
    record = store.open_record(recorded_history(mislabelled_history(**changes)))
    report = run_report(record)
    assert HEADING not in headings(report)
    assert "labels are wrong" not in section(report, "Summary").text
    assert "Wrong labels" not in model_card(record)


def test_losses_of_training_batches_tell_whatever_the_split_is_called(recorded_history, store):
    history = mislabelled_history(split="all", mode="inline")
    assert HEADING in headings(run_report(store.open_record(recorded_history(history))))


def test_the_gallery_names_the_label_and_what_is_suggested(new_run, store, spool):
    run_id, ids, picture = new_run(), np.arange(N_SAMPLES), io.BytesIO()
    Image.new("L", (4, 4), 128).save(picture, "PNG")
    logits = np.random.default_rng(0).normal(size=(N_SAMPLES, N_CLASSES)) + 3 * np.eye(3)[TRUTH]
    with Recorder("train", run_id=run_id, store=store, spool=spool, class_names=NAMES) as recorder:
        for scale in (0.5, 1.0, 1.5):
            recorder.update(ids, logits=scale * logits, labels=LABELS)
            recorder.end_epoch()
        recorder.log_thumbnails(ids, [picture.getvalue()] * N_SAMPLES)
    part = section(run_report(store.open_record(run_id)), HEADING)
    titles = [axes.get_xlabel().split() for axes in part.figure.axes if axes.get_xlabel()]
    rows = part.frame["sample_id"].to_numpy()
    assert [words[:2] for words in titles] == [
        [NAMES[label], NAMES[truth]] for label, truth in zip(LABELS[rows], TRUTH[rows], strict=True)
    ]
    assert all(words[-1] == "%" for words in titles)
