"""The limits of tests/structure.py, on trees that break them one by one."""

import pytest
import structure


@pytest.fixture
def tree(tmp_path):
    """A function that writes files below an empty root and returns the problems there."""

    def problems(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return structure.problems(tmp_path)

    return problems


def test_a_small_tree_is_within_all_limits(tree):
    assert tree({"actiontrack/errors.py": "count = 1\n"}) == []


def test_a_long_file_is_named_with_its_lines(tree):
    assert tree({"tests/test_x.py": "a = 1\n" * 451}) == ["tests/test_x.py: 451 lines, at most 450"]


def test_a_long_function_is_named_and_its_docstring_is_free(tree):
    body = '    """Say\n\n    a lot.\n    """\n' + "    count = 1\n" * 41
    assert tree({"projects/train.py": f"def run():\n{body}"}) == [
        "projects/train.py:1: run has 41 lines, at most 40"
    ]


def test_a_cycle_of_modules_is_named(tree):
    files = {
        "actiontrack/store/__init__.py": "",
        "actiontrack/store/runs.py": "from actiontrack.store.search import search\n",
        "actiontrack/store/search.py": "import actiontrack.store.runs\n",
    }
    (problem,) = tree(files)
    assert problem.startswith("modules import each other: actiontrack.store.")


def test_imports_of_functions_and_type_checkers_make_no_cycle(tree):
    late = "def run():\n    from actiontrack.store.runs import query\n"
    typed = "if TYPE_CHECKING:\n    from actiontrack.store.runs import Query\n"
    files = {
        "actiontrack/store/__init__.py": "",
        "actiontrack/store/runs.py": "from actiontrack.store.search import search\n",
        "actiontrack/store/search.py": late + typed,
    }
    assert tree(files) == []


def test_a_module_that_imports_its_own_package_is_named(tree):
    files = {
        "actiontrack/store/__init__.py": "value = 1\n",
        "actiontrack/store/runs.py": "from actiontrack.store import value\n",
    }
    assert tree(files) == ["actiontrack/store/runs.py:1: imports its own package actiontrack.store"]


def test_a_module_at_the_top_that_is_no_public_word_is_named(tree):
    assert tree({"actiontrack/helpers.py": ""}) == [
        "actiontrack: modules that belong in a package: helpers"
    ]


def test_eleven_packages_at_the_top_are_too_many(tree):
    files = {f"actiontrack/part_{number}/__init__.py": "" for number in range(11)}
    (problem,) = tree(files)
    assert problem.startswith("actiontrack: 11 packages, at most 10: ['part_0', ")


def test_vague_names_are_counted_where_values_are_stored(tree):
    text = "def run(each):\n    found = each\n    return found\n"
    (problem,) = tree({"actiontrack/errors.py": text})
    assert problem.startswith("2 of 2 stored names are vague, at most 1%: ")


@pytest.mark.parametrize(
    "statement",
    [
        "import mlflow.server\n",
        "from mlflow.server import auth\n",
        "from mlflow import server\n",
        "def run():\n    from mlflow.server.handlers import _add_static_prefix\n",
        'import_module("mlflow.server.auth")\n',
        "import mlflow\nprint(mlflow.server.app)\n",
    ],
)
def test_one_module_alone_touches_the_server_of_mlflow(tree, statement):
    problems = tree({"actiontrack/web/app.py": statement})
    assert problems
    assert all("touches mlflow.server" in problem for problem in problems)
    assert tree({"actiontrack/web/app.py": "", "actiontrack/web/inside.py": statement}) == []


def test_what_only_sounds_like_the_server_of_mlflow_is_allowed(tree):
    text = '"""As `mlflow.server` does."""\nfrom mlflow.server_info import version\n'
    assert tree({"actiontrack/web/app.py": text}) == []
