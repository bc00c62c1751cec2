"""The page where people judge samples: verdicts, what comes next, who may write."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from pages_html import ROOT, Html
from records import HOSTILE

from actiontrack.analysis import verdicts
from actiontrack.store import Store
from actiontrack.testing import make_history, record_history
from actiontrack.web.permissions import READ, Everybody


def token(client, run_id):
    text = client.get(f"{ROOT}review?run={run_id}").get_data(as_text=True)
    (field,) = Html(text).all("input", name="csrf_token")
    return field["value"]


@pytest.fixture
def judge(site):
    """A function that sends a verdict as the form of a page does, and gives the answer."""

    def send(run_id, sample_id, client=site, **fields):
        fields |= {"run": run_id, "id": sample_id, "csrf_token": token(client, run_id)}
        return client.post(f"{ROOT}review", data=fields)

    return send


def test_a_verdict_leads_to_the_next_sample(judge, page, get, runs):
    run_id = runs["segmentation"]
    body = get("scores", run=run_id, order="easiest")
    ids = [row[body["columns"].index("sample_id")] for row in body["rows"]]
    answer = judge(run_id, ids[0], verdict="ambiguous", order="easiest")
    assert answer.status_code == 303
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["id"] == [str(ids[1])]
    assert query["order"] == ["easiest"]
    assert "ambiguous" in page("review", run=run_id).text
    assert "1 of 24 judged" in page("review", run=run_id).text
    judge(run_id, ids[0], verdict="withdrawn")
    assert "0 of 24 judged" in page("review", run=run_id).text


def test_a_new_label_is_stored_with_a_wrong_one(judge, get, page, runs):
    run_id = runs["hostile"]
    sample = f"{HOSTILE[1]} 4"
    judge(run_id, sample, wrong="2", note="<b>look</b>")
    body = get("verdicts", run=run_id)
    row = dict(zip(body["columns"], body["rows"][-1], strict=True))
    assert (row["sample_id"], row["verdict"]) == (sample, "wrong_label")
    assert (row["new_label"], row["new_class"]) == (2, HOSTILE[2])
    html = page("review", run=run_id)
    assert "“<b>look</b>”" in html.text
    assert not html.all("b")


def test_among_many_classes_the_right_one_is_chosen_from_a_list(
    judge, page, make_client, new_run, store, spool
):
    run_id, history = new_run(), make_history(n_samples=30, n_classes=12)
    record_history(history, run_id, store, spool)
    client, own = make_client(store), int(history.labels[3])
    html = page("review", client=client, run=run_id, id=3)
    listed = [each["value"] for each in html.all("option")]
    assert listed == ["", *(str(each) for each in range(12) if each != own)]
    other = (own + 1) % 12
    assert judge(run_id, 3, client, wrong="chosen", chosen=other).status_code == 303
    assert f"class {other}" in page("review", client=client, run=run_id).text
    assert judge(run_id, 3, client, wrong="chosen", chosen="").status_code == 303
    body = client.get(f"{ROOT}api/verdicts?run={run_id}&current=0").get_json()
    at = body["columns"].index("new_label")
    assert [row[at] for row in body["rows"]] == [other, None]


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "nonsense"},
        {"wrong": "x"},
        {"wrong": "99"},
        {"wrong": "9" * 5000},
        {"wrong": "chosen", "chosen": "-1"},
        {},
        {"verdict": "fine", "more": 1},
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(judge, runs, fields):
    answer = judge(runs["mlp-1"], 3, **fields)
    assert answer.status_code == 400


def test_a_review_page_reads_the_verdicts_once_and_names_each_label(
    judge, page, get, runs, monkeypatch
):
    run_id = runs["linear-1"]
    body = get("scores", run=run_id, per_page=3, columns=["sample_id", "class"])
    for sample, _ in body["rows"]:
        judge(run_id, sample, verdict="fine")
    read, calls = verdicts.read, []
    monkeypatch.setattr(verdicts, "read", lambda record: calls.append(record) or read(record))
    text = re.sub(r"\s+", " ", page("review", run=run_id).text)
    assert len(calls) == 1
    for sample, label in body["rows"]:
        assert f" {sample} {label} fine" in text
        judge(run_id, sample, verdict="withdrawn")


def test_a_reader_sees_no_buttons(page, recorded, make_client, runs):
    class Reader(Everybody):
        def may_use_run(self, _run_id, right):
            return right == READ

    html = page("review", client=make_client(Store(recorded[0]), Reader()), run=runs["mlp-0"])
    assert not html.all("form", method="post")
    assert "ask for the permission" in html.text
