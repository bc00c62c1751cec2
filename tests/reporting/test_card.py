"""Model cards: headings, front matter by Hugging Face's own classes, and human words that stay."""

import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from actiontrack import cli
from actiontrack.errors import DataError
from actiontrack.reporting import model_card
from actiontrack.reporting.card import HEADINGS
from actiontrack.testing import make_history, record_history

MITCHELL = [
    "Model Details", "Intended Use", "Factors", "Metrics", "Evaluation Data", "Training Data",
    "Quantitative Analyses", "Ethical Considerations", "Caveats and Recommendations",
]  # fmt: skip


@pytest.fixture
def history():
    return make_history(4, 60, 3, class_names=("ant", "bee | <b>", "cat"))


@pytest.fixture
def record(new_run, store, spool, history):
    run_id = new_run()
    record_history(history, run_id, store, spool, model="softmax")
    store.log_params(run_id, {"dataset": "digits", "epochs": 4, "label_noise": 0.1})
    return store.open_record(run_id)


def test_the_card_has_the_headings_of_mitchell_et_al_in_their_order(record):
    assert re.findall(r"^## (.*)$", model_card(record), re.MULTILINE) == MITCHELL


def test_hugging_face_reads_the_front_matter(record, history):
    card = ModelCard(model_card(record), ignore_metadata_errors=False)
    data = card.data
    assert data.model_name == "softmax"
    assert data.datasets == ["digits"]
    assert data.tags == ["actiontrack", "action-score"]
    accuracy, action = data.eval_results
    assert (accuracy.metric_type, accuracy.task_type) == ("accuracy", "image-classification")
    assert (accuracy.dataset_name, accuracy.dataset_split) == ("digits", "test")
    assert accuracy.metric_value == pytest.approx(history.measures["correct"][-1].mean(), abs=1e-6)
    total = history.losses.astype(float).sum(axis=0)
    assert action.metric_value == pytest.approx(total.mean(), abs=1e-6)
    assert yaml.safe_load(data.to_yaml())["model-index"]


def test_the_classes_are_given_hardest_first_with_their_accuracy(record, history):
    text = model_card(record)
    action = history.losses.astype(float).sum(axis=0)
    right = history.measures["correct"][-1]
    rows = {}
    for label, name in enumerate(("ant", r"bee \| &lt;b&gt;", "cat")):
        own = history.labels == label
        rows[np.median(action[own])] = (name, own.sum(), right[own].mean())
    expected = [rows[each] for each in sorted(rows, reverse=True)]
    for name, n, accuracy in expected:
        start = f"| {name} | {n} | {accuracy:.4g} |".replace(".", r"\.", 1)
        assert start in text
    places = [text.index(f"| {name} | {n} |") for name, n, _ in expected]
    assert places == sorted(places)


def test_a_predicted_class_that_no_sample_has_is_named(new_run, store, spool, history):
    keep = np.flatnonzero(history.labels != 2)
    measures = {name: values[:, keep].copy() for name, values in history.measures.items()}
    measures["predicted"][-1], measures["correct"][-1] = 2, False
    part = replace(
        history, losses=history.losses[:, keep], sample_ids=history.sample_ids[keep],
        labels=history.labels[keep], measures=measures, seen=history.seen[:, keep],
    )  # fmt: skip
    run_id = new_run()
    record_history(part, run_id, store, spool)
    assert f"| ant | cat | {(part.labels == 0).sum()} |" in model_card(store.open_record(run_id))


def test_human_words_survive_and_numbers_are_written_anew(record, new_run, store, spool):
    first = model_card(record)
    mine = "For counting insects.\n\n- Not for *birds*.\n<!-- a remark -->"
    asked = f"*{HEADINGS['Intended Use']}*"
    edited = first.replace(asked, mine).replace(
        "---\n\n<!--", "license: mit\ntags_of_mine: 3\n---\n\n<!--", 1
    )
    other = make_history(4, 80, 3, seed=5)
    run_id = new_run()
    record_history(other, run_id, store, spool, model="deeper")
    second = model_card(store.open_record(run_id), edited)
    assert mine in second
    assert asked not in second
    assert record.run.run_id not in second
    assert run_id in second
    front = ModelCard(second, ignore_metadata_errors=False).data.to_dict()
    assert (front["license"], front["tags_of_mine"]) == ("mit", 3)


def test_the_same_record_and_words_give_the_same_card(record):
    first = model_card(record)
    assert model_card(record, first) == first


def test_words_of_a_section_that_is_gone_are_kept(record):
    extra = "<!-- begin: your words on Poems -->\nRoses.\n<!-- end: your words on Poems -->\n"
    card = model_card(record, model_card(record) + "\n" + extra)
    assert "## Poems" in card
    assert card.endswith(extra)


def test_a_file_that_is_no_card_is_not_overwritten(record, tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text("# My project\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["card", "--run", record.run.run_id, "--output", str(path)])
    assert ended.value.code == DataError.exit_code
    assert "no card that actiontrack has made" in capsys.readouterr().err
    assert path.read_text() == "# My project\n"


def test_a_card_that_is_no_text_is_not_overwritten(record, tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SystemExit) as ended:
        cli.main(["card", "--run", record.run.run_id, "--output", str(path)])
    assert ended.value.code == DataError.exit_code
    assert "Choose a file in UTF-8" in capsys.readouterr().err
    assert path.read_bytes() == b"\xff\xfe"


def test_front_matter_that_is_no_yaml_is_refused(record):
    broken = model_card(record).replace("---\n", "---\na: [\n", 1)
    with pytest.raises(DataError, match="no YAML"):
        model_card(record, broken)


def test_the_command_writes_and_updates_the_card(record, tmp_path, capsys):
    path = tmp_path / "README.md"
    command = ["card", "--run", record.run.run_id, "--output", str(path)]
    cli.main(command)
    path.write_text(path.read_text().replace(f"*{HEADINGS['Factors']}*", "My factors."))
    cli.main(command)
    assert capsys.readouterr().out == f"{path}\n" * 2
    assert "My factors." in path.read_text()


def test_a_record_without_labels_has_a_card_without_classes(new_run, store, spool):
    run_id = new_run()
    record_history(make_history(3, 20, labels=None, measures={}), run_id, store, spool)
    text = model_card(store.open_record(run_id))
    assert "the samples are one group" in text
    assert "accuracy" not in yaml.safe_load(text.split("---")[1]).get("metrics", [])
    ModelCard(text, ignore_metadata_errors=False)
