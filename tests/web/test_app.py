"""The application: its addresses, with and without a prefix, and `actiontrack ui`."""

import re
import urllib.request
from urllib.parse import parse_qsl, urlsplit

from helpers import ROOT
from werkzeug.datastructures import MultiDict

from actiontrack.store import Store
from actiontrack.store.ping import has_pages
from actiontrack.web.api.endpoints import ENDPOINTS
from actiontrack.web.app import routes
from actiontrack.web.parameters import parse


def test_paths_and_endpoints_are_unique_and_without_parameters():
    found = [(each.path, each.method) for each in routes()]
    assert len(found) == len(set(found)) == len({each.endpoint for each in routes()})
    assert not any("<" in path for path, _ in found)


def test_under_a_prefix_everything_moves(make_client, recorded):
    client = make_client(Store(recorded[0]), prefix="/tools/mlflow")
    body = client.get("/tools/mlflow/actiontrack/api/runs?per_page=2").get_json()
    assert body["next"].startswith("/tools/mlflow/actiontrack/api/runs?")
    assert client.get("/actiontrack/api/runs").status_code == 404
    assert client.get("/tools/mlflow/actiontrack/api/nothing").status_code == 404
    error = client.get("/tools/mlflow/actiontrack/api/scores")
    assert error.get_json()["error"]["type"] == "ParameterError"


def test_the_addresses_of_the_guide_are_ones_that_the_api_knows():
    text = (ROOT / "docs/web.md").read_text()
    found = re.findall(r"http://localhost:5000(/actiontrack/api/[^'\s\"]*)'", text)
    known = {each.path: each for each in ENDPOINTS if each.method == "GET"}
    assert len(found) > 5
    for address in found:
        parts = urlsplit(address)
        endpoint = known[parts.path.removeprefix("/actiontrack/api/")]
        parse(endpoint.parameters, MultiDict(parse_qsl(parts.query)))  # refuses others


def test_every_route_of_the_api_is_in_the_guide():
    text = (ROOT / "docs/web.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    for each in ENDPOINTS:
        assert f"`{each.path}`" in table


def test_a_local_store_is_served_by_one_command(address, runs):
    def get(path):
        with urllib.request.urlopen(address + path, timeout=30) as answer:  # noqa: S310 - ours
            return answer.read().decode()

    assert f'"{runs["mlp-0"]}"' in get("/actiontrack/api/runs")
    assert "mlp-0" in get("/actiontrack/")
    assert '"user":"ada"' in get("/actiontrack/api/me")
    assert 'href="/actiontrack/"' in get("/")


def test_the_link_to_mlflow_leads_where_it_is_told_to(make_client, recorded):
    client = make_client(Store(recorded[0]), mlflow_url="https://mlflow.example.org/")
    assert 'href="https://mlflow.example.org/' in client.get("/actiontrack/").text


def test_forms_of_other_origins_pass_where_they_are_named(make_client, recorded, runs):
    def status(origin):
        client = make_client(Store(recorded[0]), origins=["https://mlflow.example.org"])
        token = client.get("/actiontrack/api/me").get_json()["csrf_token"]
        answer = client.post(
            "/actiontrack/api/verdicts",
            query_string={"run": runs["mlp-0"]},
            headers={"Origin": origin, "X-CSRF-Token": token},
        )
        return answer.status_code

    assert status("https://mlflow.example.org") == 400  # let in, and told that it says nothing
    assert status("https://other.example.org") == 403


def test_pages_load_neither_a_plotting_library_nor_the_server_of_mlflow(in_subprocess):
    code = "import sys, actiontrack.web.app\n"
    code += "print({'matplotlib', 'seaborn', 'mlflow.server'} & set(sys.modules))"
    assert in_subprocess(code).stdout == "set()\n"


def test_a_server_with_pages_says_so(address):
    assert has_pages(address)


def test_a_page_that_does_not_exist_looks_like_the_others(make_client, recorded):
    answer = make_client(Store(recorded[0])).get("/actiontrack/nothing")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    page = answer.get_data(as_text=True)
    assert "There is no such page" in page
    assert 'href="/actiontrack/"' in page
