"""Which artifacts are read for visitors, wherever a run says that its own are."""

import pytest

from actiontrack.errors import NotFoundError
from actiontrack.store import RunInfo, Store
from actiontrack.store.reach import Reach

SERVER = "https://ml.example.org/mlflow"
RUN = "a" * 32


def run_at(uri):
    return RunInfo(
        run_id=RUN,
        name="run",
        experiment="e",
        status="FINISHED",
        records=(),
        model="m",
        artifact_uri=uri.replace("RUN", RUN),
    )


@pytest.mark.parametrize(
    "uri",
    [
        "mlflow-artifacts:/1/RUN/artifacts",
        "mlflow-artifacts://ml.example.org/1/RUN/artifacts",
        "mlflow-artifacts://ml.example.org:443/1/RUN/artifacts",
        "https://ml.example.org/mlflow/api/2.0/mlflow-artifacts/artifacts/1/RUN/artifacts",
    ],
)
@pytest.mark.parametrize("writing", [False, True])
def test_what_the_server_hands_out_is_in_reach(uri, writing):
    Reach(SERVER).check(run_at(uri), writing=writing)


OUTSIDE = [
    "/etc/RUN/artifacts",
    "file:///srv/RUN/artifacts",
    "./RUN/artifacts",
    "s3://bucket/1/RUN/artifacts",
    "wasbs://c@account.blob.core.windows.net/RUN/artifacts",
    "gs://bucket/RUN/artifacts",
    "dbfs:/RUN/artifacts",
    "http://ml.example.org/RUN/artifacts",
    "https://evil.example/RUN/artifacts",
    "https://ml.example.org:8443/RUN/artifacts",
    "https://ml.example.org@evil.example/RUN/artifacts",
    "mlflow-artifacts://evil.example/1/RUN/artifacts",
    "mlflow-artifacts://ml.example.org:8443/1/RUN/artifacts",
]


@pytest.mark.parametrize("uri", OUTSIDE)
def test_nothing_else_is(uri):
    with pytest.raises(NotFoundError, match="--serve-artifacts"):
        Reach(SERVER).check(run_at(uri))


@pytest.mark.parametrize("uri", OUTSIDE)
def test_a_store_does_not_even_look_there(uri):
    store = Store(SERVER, reach=Reach(SERVER))
    for look in (store.artifact_root, store.local_root):
        with pytest.raises(NotFoundError):
            look(run_at(uri))
    with pytest.raises(NotFoundError):
        store.list_files(run_at(uri), "actiontrack")


def test_the_folder_of_another_run_is_out_of_reach():
    uri = f"mlflow-artifacts:/1/{'b' * 32}/artifacts"
    with pytest.raises(NotFoundError, match="own folder"):
        Reach(SERVER).check(run_at(uri))


@pytest.mark.parametrize(
    ("root", "uri", "inside"),
    [
        ("s3://bucket/ml", "s3://bucket/ml/1/RUN/artifacts", True),
        ("s3://bucket/ml/", "s3://bucket/ml/1/RUN/artifacts", True),
        ("s3://bucket", "s3://bucket/ml/1/RUN/artifacts", True),
        ("s3://bucket/ml", "s3://bucket/mlx/1/RUN/artifacts", False),
        ("s3://bucket/ml", "s3://bucket/ml/../x/RUN/artifacts", False),
        ("s3://bucket/ml", "s3://bucket/ml/%2e%2e/x/RUN/artifacts", False),
        ("s3://bucket", "s3://bucket2/RUN/artifacts", False),
        ("/srv/ml", "/srv/ml/1/RUN/artifacts", True),
        ("/srv/ml", "file:///srv/ml/1/RUN/artifacts", True),
        ("file:///srv/ml", "/srv/ml/1/RUN/artifacts", True),
        ("/srv/ml", "/srv/ml/../x/RUN/artifacts", False),
        ("/srv/ml", "file:///srv/ml/%2e%2e/x/RUN/artifacts", False),
        ("/srv/ml", "/srv/ml2/RUN/artifacts", False),
        ("/srv/ml", "s3://bucket/srv/ml/RUN/artifacts", False),
        ("s3://bucket", "/bucket/RUN/artifacts", False),
    ],
)
def test_a_root_that_was_named_is_read(root, uri, inside):
    reach = Reach(SERVER, (root,))
    if inside:
        reach.check(run_at(uri))
    else:
        with pytest.raises(NotFoundError, match="--artifact-root"):
            reach.check(run_at(uri))


@pytest.mark.parametrize(
    ("roots", "uri"),
    [
        ((), "mlflow-artifacts://ml.example.org:bad/1/RUN/artifacts"),
        ((), "https://ml.example.org:99999/1/RUN/artifacts"),
        ((), "s3://[bucket/RUN/artifacts"),
        (("/srv",), "https://ml.example.org:99999/1/RUN/artifacts"),
        (("/srv",), "file:///srv/%00/RUN/artifacts"),
    ],
)
def test_an_address_that_cannot_be_read_is_out_of_reach(roots, uri):
    with pytest.raises(NotFoundError, match=f"^run {RUN}: the address of its artifacts is not"):
        Reach(SERVER, roots).check(run_at(uri))


def test_without_a_reach_such_an_address_is_not_found_either():
    with pytest.raises(NotFoundError, match="the address of its artifacts is not valid"):
        Store(SERVER).local_root(run_at("s3://[bucket/RUN/artifacts"))


def test_the_name_of_an_access_point_of_s3_is_an_address():
    root = "s3://arn:aws:s3:eu-west-1:1:accesspoint/ml"
    Reach(SERVER, (root,)).check(run_at(f"{root}/1/RUN/artifacts"))


def test_a_link_that_leads_out_of_a_root_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(NotFoundError):
        Reach(SERVER, (str(tmp_path / "root"),)).check(
            run_at(f"{tmp_path}/root/link/RUN/artifacts")
        )


def test_nothing_is_written_where_the_server_is_not_asked():
    """A folder that may be read by this account's rights: the visitor's right is not known."""
    with pytest.raises(NotFoundError, match="who may write"):
        Reach(SERVER, ("/srv/ml",)).check(run_at("/srv/ml/1/RUN/artifacts"), writing=True)


def test_without_a_reach_everything_is_read_as_ever(tmp_path):
    assert Store(SERVER).local_root(run_at(str(tmp_path))) == tmp_path
