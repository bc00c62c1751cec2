"""Notes of what was asked: their age, threads that ask the same, and errors."""

import threading

import pytest

from actiontrack.web.notes import Notes


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_an_answer_is_asked_for_again_when_it_is_too_old(clock):
    notes, asked = Notes(10), []

    def ask():
        asked.append(clock[0])
        return len(asked)

    assert [notes.get("a", ask, seconds=5) for _ in range(3)] == [1, 1, 1]
    clock[0] += 5.1
    assert notes.get("a", ask, seconds=5) == 2
    assert notes.renew("a", ask) == 3
    assert notes.get("a", ask, seconds=5) == 3
    assert notes.last("a") == 3
    assert notes.last("b") is None


def test_the_age_counts_from_the_question(clock):
    notes = Notes(10)

    def slow():
        clock[0] += 4
        return "old"

    notes.get("a", slow, seconds=3)
    assert notes.get("a", lambda: "new", seconds=3) == "new"


def test_an_answer_does_not_replace_one_that_was_asked_for_later(clock):
    notes = Notes(10)

    def slow():
        clock[0] += 1
        notes.renew("a", lambda: "new")
        return "old"

    assert notes.get("a", slow, seconds=5) == "old"
    assert notes.last("a") == "new"
    assert notes.get("a", lambda: "newest", seconds=5) == "new"


def test_an_error_is_not_noted():
    notes = Notes(10)
    with pytest.raises(ZeroDivisionError):
        notes.get("a", lambda: 1 // 0, seconds=5)
    assert notes.get("a", lambda: 7, seconds=5) == 7


def test_the_first_are_forgotten_when_there_are_many():
    notes = Notes(2)
    for key in "abc":
        notes.get(key, lambda key=key: key, seconds=60)
    assert [notes.last(key) for key in "abc"] == [None, "b", "c"]


@pytest.mark.parametrize("fails", [False, True])
def test_threads_that_ask_the_same_at_once_share_one_answer(fails):
    notes, asked, answers = Notes(10), [], []
    begun, go_on = threading.Event(), threading.Event()

    def ask():
        asked.append(1)
        begun.set()
        go_on.wait(20)
        if fails:
            raise KeyError("refused")
        return "answer"

    def work():
        try:
            answers.append(notes.get("a", ask, seconds=60))
        except KeyError:
            answers.append("refused")

    threads = [threading.Thread(target=work) for _ in range(6)]
    threads[0].start()
    assert begun.wait(20)
    for thread in threads[1:]:
        thread.start()
    assert notes.get("another key", lambda: 1, seconds=0) == 1  # nobody else waits
    while sum(thread.is_alive() for thread in threads) < 6:
        pass
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert answers == ["refused" if fails else "answer"] * 6
    assert fails or len(asked) == 1
