import pytest
from random_runs import MODELS, NAMES, runs

from actiontrack import compare


@pytest.fixture(scope="module")
def result():
    values, labels = runs()
    return compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=40)
