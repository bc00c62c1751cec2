"""Slices for other tools: issues, tags, and fairlearn's own frame."""

import sys

import numpy as np
import pandas as pd
import pytest

from actiontrack import cli, exports
from actiontrack.analysis import slices
from actiontrack.errors import MissingDependencyError, NotFoundError
from actiontrack.testing import make_history

N = 200


@pytest.fixture(scope="module")
def history():
    return make_history(n_steps=4, n_samples=N, n_classes=2)


@pytest.fixture(scope="module")
def frame(history):
    """By night are the hardest 60 samples; the camera says nothing."""
    action = history.losses.astype(float).sum(axis=0)
    light = np.where(action >= np.sort(action)[-60], "night", "day")
    camera = [f"c{number % 2}" for number in range(N)]
    return pd.DataFrame({"sample_id": history.sample_ids, "light": light, "camera": camera})


@pytest.fixture
def plain(recorded_history, store, history):
    return store.open_record(recorded_history(history, "softmax"))


@pytest.fixture
def sliced(plain, frame):
    slices.add_metadata(plain, frame)
    return plain


@pytest.fixture
def night(frame):
    return (frame["light"] == "night").to_numpy()


def test_issues_are_the_samples_of_harder_slices(sliced, night):
    issues = exports.slice_issues(sliced)
    is_issue = issues["is_underperforming_group_issue"].to_numpy()
    assert is_issue.dtype == bool
    np.testing.assert_array_equal(is_issue, night)
    assert issues["slice"][night].str.startswith("light = night").all()
    assert issues["slice"][~night].isna().all()
    assert (issues["underperforming_group_score"][night] < 0.2).all()
    assert (issues["underperforming_group_score"][~night] == 0.5).all()


def test_issues_need_attributes(plain):
    with pytest.raises(NotFoundError, match="has no metadata"):
        exports.slice_issues(plain)


def test_samples_for_fiftyone_carry_their_slices_as_tags(sliced, night):
    samples = exports.fiftyone_samples(sliced, exports.Suspects(top=0))
    has_tag = np.array(["light = night" in sample["tags"] for sample in samples])
    np.testing.assert_array_equal(has_tag, night)


def test_without_attributes_samples_have_no_further_tag(plain):
    samples = exports.fiftyone_samples(plain, exports.Suspects(top=0))
    assert all(sample["tags"] == [] for sample in samples)


def test_a_dataset_that_is_there_gets_a_field_of_slices(sliced, night):
    fields = {}

    class Dataset:
        def set_values(self, name, values, key_field):
            fields[name] = (values, key_field)

    added = exports.add_to_fiftyone(Dataset(), sliced, key_field="sample_id")
    values, key_field = fields["actiontrack_slices"]
    assert "actiontrack_slices" in added
    assert key_field == "sample_id"
    has_slice = [bool(values[name]) for name in sliced.samples.sample_ids.tolist()]
    assert has_slice == night.tolist()


def test_fairlearn_groups_by_the_attribute(sliced, history, night):
    made = exports.fairlearn_frame(sliced, ["light"])
    action = history.losses.astype(float).sum(axis=0)
    correct = history.measures["correct"][-1]
    by_night = made.by_group.loc["night"]
    assert by_night["count"] == 60
    assert by_night["action"] == pytest.approx(action[night].mean(), rel=1e-5)
    assert by_night["accuracy"] == pytest.approx(correct[night].mean())
    assert made.overall["accuracy"] == pytest.approx(correct.mean())
    assert made.difference()["action"] == pytest.approx(
        action[night].mean() - action[~night].mean(), rel=1e-4
    )


def test_fairlearn_crosses_attributes(sliced, frame):
    made = exports.fairlearn_frame(sliced, ["light", "camera"])
    counts = frame.groupby(["light", "camera"]).size()
    assert made.by_group["count"].astype(int).to_dict() == counts.to_dict()


def test_fairlearn_takes_metrics_of_labels_and_predictions(sliced, history, night):
    from sklearn.metrics import accuracy_score

    made = exports.fairlearn_frame(sliced, ["light"], metrics={"accuracy": accuracy_score})
    correct = history.measures["correct"][-1]
    assert made.by_group.loc["night", "accuracy"] == pytest.approx(correct[night].mean())


def test_without_fairlearn_the_message_says_how_to_install_it(sliced, monkeypatch):
    monkeypatch.setitem(sys.modules, "fairlearn.metrics", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'actiontrack\[fairlearn\]'"):
        exports.fairlearn_frame(sliced)


def test_the_table_and_the_issues_are_written(sliced, tmp_path):
    written = exports.save_slices(sliced, tmp_path)
    assert [path.name for path in written] == ["slices.csv", "slice_issues.csv"]
    issues = exports.read_csv(tmp_path / "slice_issues.csv")
    assert len(issues) == N
    assert exports.read_csv(tmp_path / "slices.csv")["slice"].str.startswith("light").any()


def test_the_command_writes_slices(sliced, tmp_path, capsys):
    cli.main(["export", "--to", "slices", "--run", sliced.run.run_id, "--output", str(tmp_path)])
    assert {path.name for path in tmp_path.glob("*.csv")} == {"slices.csv", "slice_issues.csv"}
    assert str(tmp_path / "slices.csv") in capsys.readouterr().out
