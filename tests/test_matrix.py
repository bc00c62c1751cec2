"""What the documentation and the package say of versions is what `make matrix` has seen."""

import re
import tomllib

import pytest
from helpers import ROOT, load_script
from matrix import ENVIRONMENTS, WHAT, read_results, reason, table

from actiontrack.web import inside

RESULTS = read_results()
PAGE = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")


def minor(version):
    return tuple(int(part) for part in version.split(".")[:2])


def test_every_row_has_a_result_and_none_has_failed():
    assert [(row["name"], row["what"]) for row in RESULTS] == [
        (row.name, WHAT[row.tests]) for row in ENVIRONMENTS
    ]
    assert {row["outcome"] for row in RESULTS} <= {"passed", "skipped"}


def test_what_was_skipped_says_why():
    for row in RESULTS:
        if row["outcome"] == "skipped":
            assert len(row["result"]) > len("skipped: ") + 10


def test_the_classifiers_name_the_versions_of_python_that_passed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pattern = re.compile(r"Programming Language :: Python :: (\d+\.\d+)")
    claimed = [match[1] for text in project["classifiers"] if (match := pattern.fullmatch(text))]
    passed = {minor(row["python"]) for row in RESULTS if row["outcome"] == "passed"}
    assert sorted(minor(version) for version in claimed) == sorted(passed)


def test_a_login_is_known_where_the_tests_of_access_have_passed():
    passed = {minor(row["mlflow"]) for row in RESULTS if row["what"] == "inside"}
    assert set(inside.KNOWN_MLFLOW) == passed


def test_servers_and_clients_from_the_oldest_to_the_newest_were_tried():
    tried = {
        (minor(row["mlflow"]), minor(row["server"])) for row in RESULTS if row["what"] == "server"
    }
    assert {server for _, server in tried} >= {(2, 22), (3, 10), (3, 14), (3, 18)}
    assert {client for client, _ in tried} >= {(3, 10), (3, 17)}


@pytest.mark.parametrize("what", sorted(set(WHAT.values())))
def test_the_page_has_a_table_of_each_kind(what):
    hooks = load_script(ROOT / "docs" / "hooks.py")
    made = hooks.on_page_markdown(PAGE)
    rows = hooks.matrix_table(what).splitlines()
    assert len(rows) == 2 + sum(row["what"] == what for row in RESULTS)
    assert "\n".join(rows) in made
    assert {row.count("|") for row in rows} == {rows[0].count("|")}


def test_the_page_holds_no_result_by_hand():
    assert "passed |" not in PAGE


def test_the_printed_table_has_columns_of_one_width():
    head, first, second = table(
        [
            {"name": "a", "python": "3.11.7", "mlflow": "3.10.1", "result": "1 passed"},
            {"name": "longer", "python": "3.12", "server": "2.22.5", "result": "2 passed"},
        ]
    ).splitlines()
    assert head.index("result") == first.index("1 passed") == second.index("2 passed")
    assert head.index("server") == second.index("2.22.5")


def test_the_reason_is_what_uv_says_without_its_drawing():
    class Done:
        stdout = ""
        stderr = (
            "  × No solution found when resolving dependencies:\n"
            "  ╰─▶ Because mlflow==3.17.2 depends on\n      pyarrow<26, it is so.\n"
        )

    assert reason(Done) == "Because mlflow==3.17.2 depends on pyarrow<26, it is so."
