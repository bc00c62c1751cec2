"""The bill of materials says what is installed, in CycloneDX's own form."""

import importlib.metadata
import json
import subprocess
import sys

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from helpers import ROOT

pytestmark = pytest.mark.long


def test_the_bill_of_materials_is_valid_and_names_what_is_installed(tmp_path):
    path = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-file", str(path)]
    subprocess.run([*command, sys.executable], check=True, capture_output=True)
    text = path.read_text(encoding="utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["name"] == "actiontrack"
    told = {each["name"].lower(): each["version"] for each in bill["components"]}
    for name in ("mlflow", "numpy", "pandas", "pyarrow", "pillow"):
        assert told[name] == importlib.metadata.version(name)
