"""The API against its own OpenAPI document, by Schemathesis.

Whatever it is asked, the answer is one that the document describes, and never a failure.
"""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks

from actiontrack.web.api.endpoints import ENDPOINTS

EXAMPLES = 12
load_all_checks()
#: A login needs a server, see test_access. Which scores and columns there are is up to the record:
#: an unknown one is answered by 400, which a schema can't tell.
LEFT_OUT = ("ignored_auth", "positive_data_acceptance")


@pytest.fixture(scope="module")
def schema(site):
    return schemathesis.openapi.from_wsgi("/actiontrack/api/openapi.json", site.application)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: f"{each.method} {each.path}")
def test_every_answer_is_one_that_the_document_describes(schema, endpoint, runs):
    operation = schema[f"/actiontrack/api/{endpoint.path}"][endpoint.method]
    known = st.lists(st.sampled_from(sorted(runs.values())), min_size=1, max_size=3, unique=True)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), chosen=known, real=st.booleans())
    def ask(case, chosen, real):
        if real and "run" in (case.query or {}):  # what is made up never names a run
            case.query["run"] = chosen if isinstance(case.query["run"], list) else chosen[0]
        case.call_and_validate(excluded_checks=[CHECKS.get_one(each) for each in LEFT_OUT])

    ask()
