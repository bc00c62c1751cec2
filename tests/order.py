"""In which order tests run, on which worker, and which of them `make test-fast` leaves out."""

import gc
import os

import pytest

#: Tests that start with one of these share what is costly, so one worker runs them all.
TOGETHER = ("tests/web/", "tests/docs/", "tests/projects/test_")
#: What takes longest comes first, so that no worker is left with it at the end; and what searches
#: the whole store, while it is small.
FIRST = (
    "tests/projects/test_", "tests/store/test_search", "tests/web/",
    "tests/recorder/test_lightning", "tests/test_examples", "tests/docs/",
    "tests/projects/experiments/", "tests/recipes/", "tests/recorder/", "tests/projects/",
)  # fmt: skip
#: Fixtures that start a server, a process or a browser, build the site, or train.
SLOW_FIXTURES = {
    "server", "door", "forwarder", "address", "browser", "fort", "in_subprocess", "warm_python",
    "built_site", "stage", "executed", "train_once", "small_disk",
}  # fmt: skip
#: Files whose tests train with a framework, draw whole reports or need a service, where they use
#: no such fixture.
SLOW_FILES = (
    "tests/analysis/cluster/", "tests/cli/", "tests/docs/test_site", "tests/docs/test_surprises",
    "tests/docs/test_tutorial", "tests/exports/test_exported_images",
    "tests/projects/experiments/", "tests/projects/tasks/test_detection.",
    "tests/projects/test_checkpoint", "tests/projects/test_stacked", "tests/projects/test_train.",
    "tests/recorder/test_adapter_tests", "tests/recorder/test_autolog",
    "tests/recorder/test_boosting", "tests/recorder/test_catboost", "tests/recorder/test_ending",
    "tests/recorder/test_format_1", "tests/recorder/test_causal_lm", "tests/recorder/test_keras",
    "tests/recorder/test_lightning", "tests/recorder/test_partial_training",
    "tests/recorder/test_sklearn",
    "tests/recorder/test_transformers", "tests/recorder/test_trl",
    "tests/recorder/test_ultralytics", "tests/reporting/", "tests/server/", "tests/test_audit",
    "tests/test_sbom",
    "tests/web/test_alone", "tests/web/test_charts", "tests/web/test_schema",
)  # fmt: skip


def pytest_xdist_auto_num_workers(config):
    """One worker more than cores: a third of their time they wait for servers and browsers."""
    return (os.cpu_count() or 1) + 1


def pytest_xdist_make_scheduler(config, log):
    """Files stay whole, so that a fixture of a module is made once, in the order that is ours."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return next((prefix for prefix in TOGETHER if file.startswith(prefix)), file)

    config.option.loadscopereorder = False  # else by the number of tests
    return Scheduling(config, log)


def pytest_ignore_collect(collection_path, config):
    """Files of slow tests only are not even imported where slow tests are left out."""
    if "not slow" in config.option.markexpr and config.rootpath in collection_path.parents:
        file = collection_path.relative_to(config.rootpath).as_posix()
        return True if file.startswith(SLOW_FILES) else None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What was imported stays: searched for garbage again and again it took half of the time."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items):
    for item in items:
        slow_fixtures = SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))
        if slow_fixtures or item.nodeid.startswith(SLOW_FILES):
            item.add_marker("slow")
    items.sort(key=lambda item: _rank(item.nodeid))


def _rank(nodeid):
    ranks = (rank for rank, prefix in enumerate(FIRST) if nodeid.startswith(prefix))
    return next(ranks, len(FIRST))
