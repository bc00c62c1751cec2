"""The page where people judge samples: verdicts, what comes next, who may write."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from pages_html import ROOT, Html
from records import HOSTILE, NAMES
from sklearn.datasets import load_digits

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
    assert "Precision at k" in page("review", run=run_id).text
    judge(run_id, ids[0], verdict="withdrawn")
    assert "0 of 24 judged" in page("review", run=run_id).text
    assert "Precision at k" not in page("review", run=run_id).text  # rows of zeros say nothing


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


# Suggested classes: of the training run every tenth label is that of the next digit


def test_the_suggested_class_stands_on_the_page_and_on_a_button(page, runs):
    html = page("review", run=runs["training"], id=60)
    truth = NAMES[load_digits().target[60]]
    text = re.sub(r"\s+", " ", html.text)
    probability = r"[>\d. ]+ %"
    suggested = rf"Suggested: {truth} \(probability {probability}\)\. "
    wrong = rf"Probability that the label is wrong: {probability}\."
    assert re.search(suggested + wrong, text)
    (button,) = html.all("button", **{"data-keys": "s"})
    assert (button["name"], button["value"]) == ("wrong", str(NAMES.index(truth)))
    assert button["class"] == "primary"
    assert "its own mistakes" not in text


def test_a_label_that_is_probably_right_has_a_plain_button(page, runs):
    (button,) = page("review", run=runs["training"], id=61).all("button", **{"data-keys": "s"})
    assert "class" not in button


def test_of_a_test_split_the_page_says_that_mistakes_of_the_model_count(page, runs):
    html = page("review", run=runs["mlp-0"], score="p_wrong")
    assert "its own mistakes count as wrong labels" in re.sub(r"\s+", " ", html.text)


@pytest.mark.parametrize("name", ["regression", "segmentation", "detection"])
def test_without_labels_of_a_classifier_nothing_is_suggested(page, runs, name):
    html = page("review", run=runs[name])
    assert "uggested" not in html.text
    assert "p_wrong" not in html.text
    assert not html.all("button", **{"data-keys": "s"})


def test_a_reader_sees_a_suggestion_without_a_button(page, recorded, make_client, runs):
    class Reader(Everybody):
        def may_use_run(self, _run_id, right):
            return right == READ

    client = make_client(Store(recorded[0]), Reader())
    html = page("review", client=client, run=runs["training"], id=60)
    assert "Suggested: " in html.text
    assert not html.all("button", **{"data-keys": "s"})


def test_a_training_split_is_reviewed_by_p_wrong_unless_another_order_is_chosen(page, runs):
    def reviews(name, **parameters):
        links = page("run", run=runs[name], **parameters).all("a")
        queries = [
            parse_qs(urlsplit(each["href"]).query) for each in links if "/review?" in each["href"]
        ]
        return [query.get("score", ["action"])[0] for query in queries]

    assert reviews("training") == ["p_wrong"] * 3
    assert reviews("training", score="aum") == ["p_wrong", "aum", "p_wrong"]
    assert reviews("mlp-0") == ["action"] * 2


def test_the_order_of_a_review_stays_in_the_address(judge, page, get, runs):
    run_id = runs["training"]
    body = get("scores", run=run_id, score="p_wrong", per_page=2, columns=["sample_id"])
    (first,), (second,) = body["rows"]
    html = page("review", run=run_id, score="p_wrong")
    assert f"Sample {first}, p_wrong" in html.text
    assert "hardest by p_wrong (by action)" in html.text
    answer = judge(run_id, first, verdict="fine", score="p_wrong")
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert (query["id"], query["score"]) == ([str(second)], ["p_wrong"])
    judge(run_id, first, verdict="withdrawn")


def test_another_order_drops_the_bounds_of_the_score_and_keeps_the_classes(page, runs):
    html = page("review", run=runs["training"], **{"class": "four", "low": 2, "order": "easiest"})
    (link,) = (
        each["href"]
        for each in html.all("a")
        if "score=p_wrong" in each["href"] and "low" not in each["href"] and "class" in each["href"]
    )
    query = parse_qs(urlsplit(link).query)
    assert query == {
        "run": [runs["training"]], "class": ["four"], "order": ["easiest"], "score": ["p_wrong"],
    }  # fmt: skip


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
