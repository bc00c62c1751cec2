"""Verdicts: kept one by one, read together, and the one that counts."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from actiontrack import cli
from actiontrack.analysis import verdicts
from actiontrack.analysis.exploration import verdict_precision
from actiontrack.analysis.verdicts import Verdict
from actiontrack.errors import CorruptRecordError, ParameterError
from actiontrack.testing import make_history, record_history

GOOD = {
    "format": verdicts.FORMAT, "version": 1, "sample_id": 3, "verdict": "wrong_label",
    "new_label": 1, "note": "", "who": "ada", "when": "2026-01-01T00:00:00+00:00",
}  # fmt: skip


@pytest.fixture
def record(recorded_history, store):
    return store.open_record(recorded_history(make_history(n_samples=30)))


def say(sample_id, verdict, who="ada", minutes=0, **more):
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    return Verdict(sample_id=sample_id, verdict=verdict, who=who, when=when, **more)


def test_a_verdict_is_read_as_it_was_given(record):
    verdicts.add(record, [say(3, "wrong_label", new_label=1, note="naïve ü 猫\n<b>")])
    (row,) = verdicts.read(record).to_dict("records")
    assert row == {
        "sample_id": 3,
        "verdict": "wrong_label",
        "new_label": 1,
        "new_class": "class 1",
        "note": "naïve ü 猫\n<b>",
        "who": "ada",
        "when": pd.Timestamp("2026-01-01", tz="UTC"),
    }


def test_a_record_without_verdicts_has_an_empty_frame(record):
    frame = verdicts.read(record)
    assert list(frame.columns) == list(verdicts.COLUMNS)
    assert frame.empty
    assert verdicts.current(frame).empty


def test_files_that_are_elsewhere_are_fetched_at_once(record, store, monkeypatch):
    verdicts.add(record, [say(3, "fine")])
    verdicts.add(record, [say(4, "ambiguous")])
    monkeypatch.setattr(store, "local_root", lambda _run: None)  # as of an object store
    remote = store.open_record(record.run)
    both, download = threading.Barrier(2, timeout=30), store.download

    def together(*arguments, **options):
        both.wait()
        return download(*arguments, **options)

    monkeypatch.setattr(store, "download", together)
    assert verdicts.read(remote)["sample_id"].tolist() == [3, 4]


def test_reviewers_at_once_lose_nothing(record):
    def review(who):
        for sample in range(5):
            verdicts.add(record, [Verdict(sample_id=sample, verdict="fine", who=who)])

    threads = [threading.Thread(target=review, args=(f"reviewer {each}",)) for each in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    frame = verdicts.read(record)
    assert frame.groupby("who").size().to_dict() == {f"reviewer {each}": 5 for each in range(4)}


def test_the_last_verdict_of_a_person_replaces_the_earlier(record):
    verdicts.add(record, [say(3, "fine", minutes=5), say(3, "ambiguous", minutes=9)])
    verdicts.add(record, [say(3, "wrong_label", minutes=1)])
    current = verdicts.current(verdicts.read(record))
    assert current["verdict"].tolist() == ["ambiguous"]
    assert current["n_reviewers"].tolist() == [1]


def test_of_several_people_the_latest_counts_and_dissent_is_shown(record):
    verdicts.add(record, [say(3, "fine", "ada", 1), say(3, "ambiguous", "bob", 2)])
    verdicts.add(record, [say(4, "fine", "ada", 1), say(4, "fine", "bob", 2)])
    current = verdicts.current(verdicts.read(record)).set_index("sample_id")
    assert current["verdict"].to_dict() == {3: "ambiguous", 4: "fine"}
    assert current["agreed"].to_dict() == {3: False, 4: True}


def test_a_withdrawn_verdict_leaves_that_of_others(record):
    verdicts.add(record, [say(3, "fine", "ada", 1), say(3, "wrong_label", "bob", 2)])
    verdicts.add(record, [say(3, "withdrawn", "bob", 3), say(4, "fine", "bob", 1)])
    verdicts.add(record, [say(4, "withdrawn", "bob", 2)])
    current = verdicts.current(verdicts.read(record))
    assert current[["sample_id", "verdict", "who"]].to_numpy().tolist() == [[3, "fine", "ada"]]


def test_string_ids_stay_strings(new_run, store, spool):
    run_id = new_run()
    history = make_history(n_samples=3, sample_ids=["1", "10/x", "2"])
    record_history(history, run_id, store, spool)
    record = store.open_record(run_id)
    verdicts.add(record, [say("1", "fine")])
    assert verdicts.read(record)["sample_id"].tolist() == ["1"]


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"verdict": "bad"}, "verdict"),
        ({"who": ""}, "who"),
        ({"who": "x" * 201}, "who"),
        ({"note": "x" * 2001}, "note"),
        ({"verdict": "fine", "new_label": 1}, "new_label"),
    ],
)
def test_a_verdict_that_breaks_a_rule_is_refused(change, argument):
    with pytest.raises(ParameterError) as caught:
        Verdict(**({"sample_id": 1, "verdict": "wrong_label", "who": "ada"} | change))
    assert caught.value.argument == argument


@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_that_the_record_does_not_have_is_refused(record, label):
    with pytest.raises(ParameterError, match="class index below 3"):
        verdicts.add(record, [say(1, "wrong_label", new_label=label)])


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\n",
        "[1]\n",
        '{"format": "other"}\n',
        json.dumps({"format": verdicts.FORMAT, "version": 99}) + "\n",
        json.dumps({"format": verdicts.FORMAT, "version": 1, "when": "never"}) + "\n",
        json.dumps({"format": verdicts.FORMAT, "version": 1, "when": "2026-01-01"}) + "\n",
        json.dumps(GOOD | {"version": 0}),
        json.dumps(GOOD | {"version": -1}),
        json.dumps(GOOD | {"version": True}),
        json.dumps(GOOD | {"sample_id": "3"}),
        json.dumps(GOOD | {"sample_id": True}),
        json.dumps(GOOD | {"new_label": "1"}),
        json.dumps(GOOD | {"when": "2026-01-01T00:00:00"}),
        json.dumps(GOOD | {"verdict": "bad"}),
        json.dumps(GOOD | {"who": None}),
        "[" * 100_000,
    ],
)
def test_a_damaged_file_is_named(record, store, text):
    folder = store.local_root(record.run) / "actiontrack/test-probe/verdicts"
    folder.mkdir()
    (folder / "x.jsonl").write_text(text)
    with pytest.raises(CorruptRecordError, match=r"verdicts/x\.jsonl can't be read as verdicts"):
        verdicts.read(record)


def test_a_line_without_a_version_says_which_there_are(record, store):
    folder = store.local_root(record.run) / "actiontrack/test-probe/verdicts"
    folder.mkdir()
    line = {name: value for name, value in GOOD.items() if name != "version"}
    (folder / "x.jsonl").write_text(json.dumps(line))
    text = r"version None is none that this package reads \(up to 1\)\. Restore or remove it\."
    with pytest.raises(CorruptRecordError, match=text):
        verdicts.read(record)


def test_files_are_lines_of_json_that_pandas_reads(record, store):
    verdicts.add(record, [say(3, "fine"), say(4, "ambiguous")])
    folder = store.local_root(record.run) / "actiontrack/test-probe/verdicts"
    (path,) = folder.iterdir()
    read = pd.read_json(path, lines=True)
    assert read["sample_id"].tolist() == [3, 4]
    assert set(read["version"]) == {1}


def test_precision_counts_the_judged_among_the_hardest():
    scores = pd.DataFrame({"sample_id": range(6), "class": "a", "action": [6.0, 5, 4, 3, 2, 1]})
    judged = pd.DataFrame({"sample_id": [0, 1, 3], "verdict": ["wrong_label", "fine", "ambiguous"]})
    found = verdict_precision(scores, judged, ks=[1, 2, 4]).set_index("k")
    assert found["n_judged"].to_dict() == {1: 1, 2: 2, 4: 3}
    assert found["n_wrong"].to_dict() == {1: 1, 2: 1, 4: 1}
    assert found["precision"].tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert found["lowest"].tolist() == pytest.approx([1, 1 / 2, 1 / 4])
    assert found["highest"].tolist() == pytest.approx([1, 1 / 2, 2 / 4])


def test_precision_without_verdicts_is_unknown():
    scores = pd.DataFrame({"sample_id": [1, 2], "class": "a", "action": [1.0, 2.0]})
    none = pd.DataFrame({"sample_id": [], "verdict": []})
    (row,) = verdict_precision(scores, none).to_dict("records")
    assert (row["k"], row["n_judged"]) == (2, 0)
    assert pd.isna(row["precision"])


def test_the_command_prints_verdicts_and_precision(record, tracking_uri, capsys):
    verdicts.add(record, [say(3, "wrong_label", new_label=2), say(4, "fine")])
    options = ["verdicts", "--tracking-uri", tracking_uri, "--run", record.run.run_id]
    cli.main([*options, "--format", "json"])
    printed = capsys.readouterr()
    assert [each["new_class"] for each in json.loads(printed.out)] == ["class 2", None]
    assert json.loads(printed.out)[0]["when"] == "2026-01-01T00:00:00+00:00"
    assert "2 samples judged: 1 wrong label, 0 ambiguous, 1 fine." in printed.err
    cli.main([*options, "--precision", "-k", "30", "--format", "csv"])
    assert capsys.readouterr().out.splitlines()[1].startswith("30,2,1,0,1,0.5,")


@pytest.mark.parametrize("option", ["--all", "--precision"])
def test_the_command_reads_the_verdicts_once(record, tracking_uri, monkeypatch, option):
    verdicts.add(record, [say(3, "fine"), say(4, "fine")])
    fetched = []
    fetch = type(record).fetch

    def counted(self, path):
        fetched.append(path)
        return fetch(self, path)

    monkeypatch.setattr(type(record), "fetch", counted)
    cli.main(["verdicts", "--tracking-uri", tracking_uri, "--run", record.run.run_id, option])
    files = verdicts.list_files(record)
    assert [path for path in fetched if path in files] == files
