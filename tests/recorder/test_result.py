"""What a finished record shows on a terminal, in its run and in a notebook."""

import base64
import io
import logging
import re
import sys
from functools import partial

import numpy as np
import pytest
from helpers import message
from PIL import Image

from actiontrack import reporting
from actiontrack.errors import ParameterError
from actiontrack.recorder.recorder import Recorder
from actiontrack.store import Store

N = 60
IDS = np.arange(N) + 100
LABELS = np.arange(N) % 3
PICTURES = {"report.html", "hardest.png", "classes.png"}


@pytest.fixture
def reports(monkeypatch):
    """Pictures and a page beside finished records, as outside these tests."""
    monkeypatch.delenv("ACTIONTRACK_REPORT")


def losses(epoch):
    return np.random.default_rng(epoch).gamma(1, 1, N)


def record(recorder, *, labels=True, epochs=3, **options):
    """Record N samples with ids from 100."""
    names = ("ant", "bee", "cat") if labels else ()
    with recorder(class_names=names, **options) as rec:
        for epoch in range(1, epochs + 1):
            rec.update(IDS, losses(epoch), labels=LABELS if labels else None)
            rec.end_epoch(epoch)
    return rec


def grey(sample_id):
    return np.full((8, 8), sample_id % 256, dtype=np.uint8)


@pytest.fixture
def beside(store, run_id):
    """A function that lists the files beside a record that are none of its own."""

    def names():
        run = store.get_run(run_id)
        manifest = store.open_record(run).manifest
        paths = {
            path.rpartition("/")[2] for path in store.list_files(run, "actiontrack/test-probe")
        }
        return paths - {path.rpartition("/")[2] for path in manifest.files} - {"manifest.json"}

    return names


# --- in the run ---


@pytest.mark.usefixtures("reports")
def test_a_finished_record_has_pictures_and_a_page_beside_it(recorder, beside):
    record(recorder, images=grey)
    assert beside() == PICTURES


@pytest.mark.usefixtures("reports")
def test_the_page_names_the_hardest_class_and_holds_the_pictures(recorder, store, run_id, tmp_path):
    record(recorder, images=grey)
    folder = store.local_root(store.get_run(run_id)) / "actiontrack/test-probe"
    page = (folder / "report.html").read_text()
    medians = [np.median(sum(map(losses, (1, 2, 3)))[label == LABELS]) for label in range(3)]
    hardest = ("ant", "bee", "cat")[int(np.argmax(medians))]
    assert f"The hardest class is {hardest}" in page
    images = re.findall(r"data:image/png;base64,([^\"]+)\"", page)
    assert len(images) == 3
    for name in ("hardest.png", "classes.png"):
        with Image.open(folder / name) as picture:
            assert picture.format == "PNG"


@pytest.mark.usefixtures("reports")
def test_without_images_and_labels_there_is_the_page_alone(recorder, beside):
    record(recorder, labels=False)
    assert beside() == {"report.html"}


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize(("options", "value"), [({"report": False}, ""), ({}, "never")])
def test_a_report_can_be_left_out(recorder, beside, monkeypatch, options, value):
    monkeypatch.setenv("ACTIONTRACK_REPORT", value)
    record(recorder, **options)
    assert beside() == set()


def test_a_setting_that_is_none_is_refused(recorder, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_REPORT", "sometimes")
    rule = "ACTIONTRACK_REPORT: must be never or always, got 'sometimes'. Choose one of these."
    with pytest.raises(ParameterError, match=message(rule)):
        recorder()


@pytest.mark.usefixtures("reports")
def test_a_record_that_failed_shows_nothing(recorder, beside, capsys):
    rec = recorder(verbose=True)
    rec.update(IDS, losses(1))
    rec.end_epoch()
    rec.close()
    assert beside() == set()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("reports")
def test_what_cannot_be_drawn_costs_neither_record_nor_training(
    recorder, read, monkeypatch, caplog
):
    def broken(record):
        raise RuntimeError("no ink")

    monkeypatch.setattr(reporting, "result_files", broken)
    with caplog.at_level(logging.WARNING, "actiontrack"):
        rec = record(recorder)
    assert rec.synced
    assert read().manifest.complete
    assert caplog.messages == ["record test-probe is complete, and not shown: no ink"]


@pytest.mark.usefixtures("reports")
def test_a_resumed_record_is_shown_as_it_is_at_its_end(recorder, store, run_id, beside, capsys):
    record(recorder, epochs=1)
    record(recorder, epochs=3, resume=True, verbose=True)
    assert "60 samples × 3 steps" in capsys.readouterr().out
    assert beside() == PICTURES - {"hardest.png"}


@pytest.mark.usefixtures("reports")
def test_the_page_counts_the_labels_that_are_likely_wrong(recorder, store, run_id):
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=N)
    logits = 6 * np.eye(3)[labels] + rng.normal(size=(N, 3))
    given = np.where(np.arange(N) < 4, (labels + 1) % 3, labels)
    with recorder("train") as rec:
        for _ in range(4):
            rec.update(IDS, logits=logits, labels=given)
            rec.end_epoch()
    folder = store.local_root(store.get_run(run_id)) / "actiontrack/train-probe"
    text = (folder / "report.html").read_text()
    assert "4 of 60 labels are more likely wrong than right" in text


# --- on a terminal ---


def test_it_prints_the_five_hardest_and_three_classes(recorder, capsys, tracking_uri):
    record(recorder, verbose=True)
    action = sum(losses(epoch) for epoch in (1, 2, 3))
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("hardest samples")
    order = IDS[np.argsort(-action.astype(np.float32))][:5]
    assert [int(line.split()[0]) for line in lines[at + 2 : at + 7]] == order.tolist()
    at = lines.index("hardest, middle and easiest class")
    names = ("ant", "bee", "cat")
    medians = {name: np.median(action[row == LABELS]) for row, name in enumerate(names)}
    assert [line.split()[0] for line in lines[at + 2 : at + 5]] == sorted(
        medians, key=medians.get, reverse=True
    )
    assert lines[-1] == f"see      actiontrack ui --tracking-uri {tracking_uri}"


def test_it_names_the_picture_where_that_is_on_this_machine(recorder, capsys, store, run_id):
    record(recorder, images=grey, verbose=True, report=True)
    word, _, path = capsys.readouterr().out.splitlines()[-2].partition(" ")
    folder = store.local_root(store.get_run(run_id)) / "actiontrack/test-probe"
    assert (word, path.strip()) == ("picture", str(folder / "hardest.png"))
    assert (folder / "hardest.png").is_file()


def test_it_is_quiet_in_a_pipe_and_talks_to_a_terminal(recorder, capsys, monkeypatch):
    record(recorder)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    record(recorder, resume=True)
    assert "hardest samples" in capsys.readouterr().out
    record(recorder, resume=True, verbose=False)
    assert capsys.readouterr().out == ""


def test_a_wrong_label_is_probable_only_of_what_was_trained_on(recorder, capsys):
    logits = np.random.default_rng(0).normal(size=(N, 3))
    for split, there in (("test", False), ("train", True)):
        with recorder(split, verbose=True) as rec:
            for _ in range(2):
                rec.update(IDS, logits=logits, labels=LABELS)
                rec.end_epoch()
        assert ("p_wrong" in capsys.readouterr().out) is there


def test_without_pages_on_the_server_it_names_the_command(server, capsys):
    store = Store(server.uri)
    with store.run(name="remote") as run:
        record(partial(Recorder, run_id=run.run_id, store=store), verbose=True)
        printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"see      actiontrack ui --tracking-uri {server.uri}"


# --- in a notebook ---


def test_a_notebook_shows_the_gallery_of_a_finished_record(recorder):
    rec = record(recorder, images=grey, report=True)
    image = re.search(r"base64,([^\"]+)\"", rec._repr_html_())[1]
    assert Image.open(io.BytesIO(base64.b64decode(image))).format == "PNG"


def test_a_notebook_shows_a_table_where_there_are_no_images(recorder):
    html = record(recorder, report=True)._repr_html_()
    action = sum(losses(epoch) for epoch in (1, 2, 3))
    assert f"<td>{IDS[np.argmax(action)]}</td>" in html


def test_a_notebook_shows_an_open_record_as_open(recorder, run_id):
    html = recorder()._repr_html_()
    assert "Record test-probe" in html
    assert run_id in html
    assert "open" in html
