"""Sentences come from one place that draws nothing."""

from actiontrack import reporting
from actiontrack.analysis import sentences

PAGES = """
import sys
import actiontrack.web.app
print([name for name in ("seaborn", "matplotlib.pyplot") if name in sys.modules])
"""


def test_a_page_server_writes_its_sentences_without_a_library_that_draws(in_subprocess):
    assert in_subprocess(PAGES).stdout == "[]\n"


def test_reports_re_export_the_sentences_of_the_analysis():
    names = [name for name in sentences.__all__ if name.startswith("describe_")]
    assert len(names) == 11
    assert all(getattr(reporting, name) is getattr(sentences, name) for name in names)
