"""The cache: bounded by bytes, each value computed once, errors not stored."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from actiontrack.store.cache import Cache, size_of
from actiontrack.store.translation import ForbiddenError
from actiontrack.testing import make_history


def test_a_cache_holds_no_more_than_it_may():
    cache = Cache(3000)
    for key in range(10):
        cache.get(key, lambda: np.zeros(100))
        assert cache.n_bytes <= 3000
    assert len(cache) == 3


def test_a_cache_forgets_what_was_not_asked_for_the_longest_time():
    cache, made = Cache(2000), []

    def value(name):
        return cache.get(name, lambda: made.append(name) or np.zeros(100))

    for name in ("a", "b", "a", "c", "a"):
        value(name)
    assert made == ["a", "b", "c"]
    value("b")
    assert made == ["a", "b", "c", "b"]


def test_a_value_that_is_too_large_is_returned_but_not_stored():
    cache = Cache(100)
    assert cache.get("large", lambda: np.zeros(1000)).size == 1000
    assert len(cache) == 0


def test_threads_that_want_the_same_value_compute_it_once():
    cache, made, got = Cache(10**6), [], []
    inside, go_on = threading.Event(), threading.Event()

    def slow():
        made.append(1)
        inside.set()
        assert go_on.wait(10)
        return np.arange(3)

    threads = [threading.Thread(target=lambda: got.append(cache.get("k", slow))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert len(got) == 4


@pytest.mark.parametrize(("retried", "n_computed"), [((), 1), ((ForbiddenError,), 3)])
def test_threads_that_wait_share_a_refusal_or_try_themselves(monkeypatch, retried, n_computed):
    cache, made, refused = Cache(0, retried=retried), [], []
    inside, waiting = threading.Event(), threading.Semaphore(0)

    class Announced(Future):
        def result(self, timeout=None):
            waiting.release()
            return super().result(timeout)

    monkeypatch.setattr("actiontrack.store.cache.Future", Announced)

    def compute():
        made.append(1)
        if len(made) == 1:
            inside.set()
            assert waiting.acquire(timeout=10)
            assert waiting.acquire(timeout=10)
        raise ForbiddenError("refused")

    def work():
        with pytest.raises(ForbiddenError):
            cache.get("k", compute)
        refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    threads[0].start()
    assert inside.wait(10)
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(refused), len(made)) == (3, n_computed)


def test_an_error_is_not_stored():
    cache, answers = Cache(100), iter([ValueError("first"), None])

    def compute():
        answer = next(answers)
        if answer:
            raise answer
        return 7

    with pytest.raises(ValueError, match="first"):
        cache.get("k", compute)
    assert cache.get("k", compute) == 7


def test_the_size_of_a_history_is_that_of_its_arrays():
    history = make_history(n_steps=10, n_samples=1000)
    assert 10 * 1000 * 4 < size_of(history) < 10 * 1000 * 60


def test_a_value_that_cannot_be_measured_leaves_nobody_waiting():
    sizes = iter([TypeError("no size"), 8])

    def size(_value):
        size_or_error = next(sizes)
        if isinstance(size_or_error, Exception):
            raise size_or_error
        return size_or_error

    cache, answers = Cache(100, size), []
    with pytest.raises(TypeError, match="no size"):
        cache.get("k", lambda: 7)
    later = threading.Thread(target=lambda: answers.append(cache.get("k", lambda: 7)), daemon=True)
    later.start()
    later.join(10)
    assert answers == [7]


def test_a_cache_without_room_measures_and_stores_nothing():
    cache = Cache(0, size=lambda _value: pytest.fail("measured"))
    assert [cache.get("key", lambda number=number: number) for number in (1, 2)] == [1, 2]
    assert (len(cache), cache.n_bytes) == (0, 0)
