"""deploy/team without any service: the compose file, and that the documentation says the same."""

import ast
import re
import shlex

import pytest
import yaml
from helpers import ROOT

TEAM = ROOT / "deploy" / "team"
TEXT = (TEAM / "compose.yaml").read_text(encoding="utf-8")
SERVICES = yaml.safe_load(TEXT)["services"]
EXAMPLE = dict(
    line.split("=", 1)
    for line in (TEAM / "team.env.example").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)
PAGE = (ROOT / "docs" / "team-server.md").read_text(encoding="utf-8")
SECRETS = ("PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD")
SECRETS += ("MLFLOW_FLASK_SERVER_SECRET_KEY",)
#: What compose knows of a service, of all that is used here; see the Compose Specification.
KNOWN = {
    *("image", "build", "restart", "entrypoint", "command", "environment", "env_file", "volumes"),
    *("ports", "depends_on", "healthcheck", "profiles"),
}


def documented(program):
    """Commands of the page that start so, each a list of words."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line))[:1] == [program]]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_what_compose_knows_and_nothing_else(name):
    service = SERVICES[name]
    assert set(service) <= KNOWN
    assert service["image"]
    assert not service["image"].endswith(":latest")
    assert all(isinstance(each, str) for each in service.get("command", []))
    for other, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"


def test_services_that_stay_have_a_health_check_and_are_started_again():
    staying = [each for each in SERVICES.values() if "profiles" not in each]
    assert len(staying) == 3
    for each in staying:
        assert set(each["healthcheck"]) == {
            *("test", "interval", "timeout", "retries", "start_period"),
        }
        assert each["restart"] == "unless-stopped"


def test_every_named_volume_is_declared():
    used = [each.split(":")[0] for one in SERVICES.values() for each in one.get("volumes", [])]
    named = {each for each in used if not each.startswith(".")}
    assert named == set(yaml.safe_load(TEXT)["volumes"])


def test_only_the_server_is_reachable_and_from_this_machine_only():
    assert {name for name, each in SERVICES.items() if "ports" in each} == {"server"}
    assert all(each.startswith("127.0.0.1:") for each in SERVICES["server"]["ports"])


def test_no_secret_is_in_the_files():
    for name in SECRETS:
        assert EXAMPLE[name] == ""
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|KEY", name):
                assert re.fullmatch(r"\$\{[A-Z_]+:\?set it in team\.env\}", value)
    ini = (TEAM / "basic_auth.ini").read_text(encoding="utf-8")
    assert not re.search(r"^admin_password|://[^/]*:[^/]*@", ini, flags=re.M)


def test_the_environment_file_is_ignored_by_git():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "deploy/team/team.env" in ignored


def test_every_variable_of_the_compose_file_is_in_the_example():
    assert set(re.findall(r"\$\{([A-Z_]+)", TEXT)) <= set(EXAMPLE)


def test_a_shell_and_compose_read_the_example_alike():
    for name, value in EXAMPLE.items():
        assert re.fullmatch(r"[A-Z0-9_]+", name)
        assert shlex.split(value) == ([value] if value else [])


def test_the_server_of_the_page_is_that_of_the_compose_file():
    words, *_ = documented("mlflow")
    composed = list(SERVICES["server"]["command"])
    composed[composed.index("--host") + 1] = "127.0.0.1"  # no container around it
    assert words == composed


def test_the_environment_of_the_page_is_that_of_the_compose_file():
    exported = dict(words[1].split("=") for words in documented("export")[:4])
    composed = SERVICES["server"]["environment"] | {
        "MLFLOW_AUTH_CONFIG_PATH": "deploy/team/basic_auth.ini"
    }
    assert exported == composed


def test_the_s3_store_of_the_page_is_that_of_the_compose_file():
    changed = {"-dir": "/srv/seaweedfs", "-ip": "127.0.0.1", "-ip.bind": "127.0.0.1"}
    composed = SERVICES["store"]["entrypoint"] + SERVICES["store"]["command"]
    here = {each.split("=")[0]: each for each in composed}
    here |= {name: f"{name}={value}" for name, value in changed.items()}
    [words] = documented("weed")
    assert sorted(words) == sorted(here.values())


def test_the_migrations_of_the_page_are_those_that_are_tested():
    text = (ROOT / "tests" / "server" / "test_team.py").read_text(encoding="utf-8")
    upgrades = re.search(r"^UPGRADES = (\(.*?^\))$", text, flags=re.M | re.S)[1]
    tested = [list(each) for each in ast.literal_eval(upgrades)]
    found = [each for each in documented("mlflow") + documented("python") if "upgrade" in each]
    assert found == tested


def test_the_image_holds_all_that_its_commands_need():
    text = (TEAM / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (.+) \S+$", text, flags=re.M):
        assert all((ROOT / name).exists() for name in line.split())
    for name in ("basic_auth.ini", "bucket.sh", "backup.sh", "restore.sh"):
        assert f"deploy/team/{name}" in text
    assert SERVICES["server"]["environment"]["MLFLOW_AUTH_CONFIG_PATH"] == "/app/basic_auth.ini"
    assert "'.[server]'" in text
    assert "USER mlflow" in text
