"""Environments of tests against other servers are made when they must be, and kept otherwise."""

from datetime import UTC, datetime

import environments
import pytest

FIRST = datetime(2026, 12, 28, tzinfo=UTC)  # a Monday


@pytest.fixture
def make(monkeypatch, tmp_path):
    """A function that asks for an environment on a day, and says how many were made so far."""
    made = []

    def fake(folder, _python, requirements):
        made.append(requirements)
        folder.mkdir(exist_ok=True)

    monkeypatch.delenv("ACTIONTRACK_MLFLOW_NEWEST", raising=False)
    monkeypatch.delenv("ACTIONTRACK_MLFLOW_3_10", raising=False)
    monkeypatch.setattr(environments.platformdirs, "user_cache_dir", lambda _name: str(tmp_path))
    monkeypatch.setattr(environments, "_make", fake)

    def ask(version, day=FIRST):
        class Clock:
            now = staticmethod(lambda _zone: day)

        monkeypatch.setattr(environments, "datetime", Clock)
        python = environments.python_with_mlflow(version)
        assert python == str(tmp_path / f"mlflow-{version}" / "bin" / "python")
        return len(made)

    return ask


def test_an_environment_is_made_once(make):
    assert [make("3.10"), make("3.10"), make("3.10", datetime(2027, 6, 1, tzinfo=UTC))] == [1, 1, 1]


def test_an_environment_of_other_requirements_is_made_anew(make, monkeypatch):
    make("3.10")
    monkeypatch.setitem(environments.REQUIREMENTS, "3.10", ("mlflow[auth]==3.10.1",))
    assert [make("3.10"), make("3.10")] == [2, 2]


def test_the_newest_is_asked_for_again_in_another_week(make):
    days = [FIRST, FIRST.replace(day=31), datetime(2027, 1, 3, tzinfo=UTC)]
    assert [make("newest", day) for day in days] == [1, 1, 1]
    assert make("newest", datetime(2027, 1, 4, tzinfo=UTC)) == 2


def test_what_could_not_be_made_is_tried_again(make, monkeypatch):
    monkeypatch.setattr(environments, "REQUIRED", False)
    with monkeypatch.context() as patch:

        def fail(*_arguments):
            raise OSError("no network")

        patch.setattr(environments, "_make", fail)
        with pytest.raises(pytest.skip.Exception, match="no network"):
            make("3.10")
    assert make("3.10") == 1
