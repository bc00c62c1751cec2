import ast
import re
from pathlib import Path

import pytest
from helpers import message

from actiontrack import errors, settings
from actiontrack.errors import ParameterError

PACKAGE = Path(settings.__file__).parent
#: Of click, which makes its name from that of the command.
FOREIGN = {"_ACTIONTRACK_COMPLETE"}


def named_in_code(path):
    """Variables of ours that a module has as a text of its own, as a look-up needs it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.fullmatch(r"_?ACTIONTRACK_[A-Z_]+", text):
            yield text


def test_no_other_module_reads_a_variable_of_ours():
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in named_in_code(path)
        if name not in FOREIGN
    }
    secrets = {("errors.py", settings.ID_SALT.name)}  # which it only hides in messages
    assert {(file, name) for file, name in found if file != "settings.py"} == secrets


def test_every_setting_is_in_the_list():
    names = set(named_in_code(PACKAGE / "settings.py"))
    assert {each.name for each in settings.SETTINGS} == names - {settings.FORM_KEY.name}


def test_the_secrets_of_users_are_hidden_in_messages(monkeypatch):
    for setting in settings.SETTINGS:
        if setting.secret:
            monkeypatch.setenv(setting.name, "mellon-mellon")
            assert errors.redact("say mellon-mellon") == "say ***"


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda each: each.name)
@pytest.mark.parametrize("text", [None, ""])
def test_a_variable_that_is_not_set_or_empty_has_the_default(setting, text, monkeypatch):
    monkeypatch.delenv(setting.name, raising=False)
    if text is not None:
        monkeypatch.setenv(setting.name, text)
    assert setting.value() == setting.fallback


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda each: each.name)
def test_a_setting_says_what_it_takes_and_does(setting):
    assert setting.kind
    assert setting.default
    assert setting.sentence.endswith(".")


VALUES = {
    "ACTIONTRACK_UPGRADE_STORE": ("yes", True),
    "ACTIONTRACK_SPOOL": ("/data/spool", Path("/data/spool")),
    "ACTIONTRACK_ID_SALT": ("a long secret", "a long secret"),
    "ACTIONTRACK_IMAGES": ("never", "never"),
    "ACTIONTRACK_REPORT": ("never", "never"),
    "ACTIONTRACK_MAX_BYTES": ("8000", 8000),
    "ACTIONTRACK_MODEL": ("net", "net"),
    "ACTIONTRACK_AUTH": ("none", "none"),
    "ACTIONTRACK_IMAGE_ROOTS": ("/a:recorded", ("/a", "recorded")),
    "ACTIONTRACK_CACHE_MB": ("3", 3),
    "ACTIONTRACK_USER": ("ada", "ada"),
}


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda each: each.name)
def test_the_text_becomes_a_value_of_its_type(setting, monkeypatch):
    text, value = VALUES[setting.name]
    monkeypatch.setenv(setting.name, text)
    assert setting.value() == value


WRONG = {
    "ACTIONTRACK_IMAGES: must be never or allowed, got 'no'. Choose one of these.": "no",
    "ACTIONTRACK_MAX_BYTES: must be a positive number of bytes, got '0'. "
    "Write 8000000000 for 8 GB.": "0",
    "ACTIONTRACK_AUTH: must be 'basic-auth' or 'none', got 'yes'. Set it to basic-auth.": "yes",
    "ACTIONTRACK_IMAGE_ROOTS: must name absolute folders, got 'b'. Write the whole path.": "/a:b",
    "ACTIONTRACK_CACHE_MB: must be a number of mebibytes, got 'much'. Set it to 512.": "much",
}


@pytest.mark.parametrize(("text", "value"), WRONG.items(), ids=lambda each: each.split(":")[0])
def test_a_wrong_text_is_refused_with_variable_rule_and_remedy(text, value, monkeypatch):
    name = text.partition(":")[0]
    monkeypatch.setenv(name, value)
    (setting,) = (each for each in settings.SETTINGS if each.name == name)
    with pytest.raises(ParameterError, match=message(text)):
        setting.value()
