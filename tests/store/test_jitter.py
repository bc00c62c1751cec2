"""What MLflow draws in our threads leaves the random numbers of a training alone."""

import random
import threading

import mlflow.store.tracking.sqlalchemy_store as sql
import mlflow.utils.request_utils as requests
import mlflow.utils.rest_utils as rest
import pytest

from actiontrack.store import jitter
from actiontrack.store.jitter import drawn_apart

PLACES = [
    ("sqlite:///mlflow.db", sql),
    ("http://localhost:5000", rest),
    ("https://a.org", requests),
]


@pytest.mark.parametrize(("uri", "module"), PLACES)
def test_a_pause_that_is_drawn_apart_leaves_the_generator_alone(uri, module):
    before = random.getstate()
    with drawn_apart(uri):
        pauses = {module.random.uniform(0, 1), module.random.random()}
    assert len(pauses) == 2
    assert random.getstate() == before


def test_elsewhere_mlflow_draws_as_before():
    with drawn_apart("sqlite:///mlflow.db"):
        pass
    random.seed(5)
    drawn = sql.random.uniform(0, 1)
    random.seed(5)
    assert drawn == random.uniform(0, 1)


def test_another_thread_draws_as_before():
    drawn = []

    def draw():
        random.seed(5)
        drawn.append(sql.random.uniform(0, 1))

    with drawn_apart("sqlite:///mlflow.db"):
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
    random.seed(5)
    assert drawn == [random.uniform(0, 1)]


def test_the_modules_of_mlflow_still_draw_from_python():
    """Else the list of them is out of date."""
    for names in jitter._MODULES.values():
        for name in names:
            module = jitter.import_module(name)
            assert module.random is random or module.random is jitter._apart


def test_tags_of_two_threads_change_no_random_number(store, run_id):
    """Two that set the same new tags at once: one of them tries again, after a pause."""
    random.seed(5)
    before = random.getstate()

    def work(number):
        with drawn_apart(store.tracking_uri):
            for turn in range(10):
                store.set_tags(run_id, {f"{turn}.{tag}": str(number) for tag in range(5)})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert random.getstate() == before
