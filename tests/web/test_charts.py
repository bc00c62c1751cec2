"""Parts of charts.js that need no page, run by Chromium."""

import html
import json
import re
import shutil
import subprocess

import pytest
from helpers import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SOURCE = (ROOT / "actiontrack/web/static/charts.js").read_text(encoding="utf-8")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium (apt-get install chromium)")


def evaluated(function, argument, tmp_path):
    """What a function of charts.js returns, as JSON."""
    source = re.search(rf"^function {function}\(.*?^}}", SOURCE, re.MULTILINE | re.DOTALL)[0]
    page = tmp_path / "page.html"
    call = f"document.body.textContent = JSON.stringify({function}({json.dumps(argument)}))"
    page.write_text(f"<body></body><script>{source}\n{call}</script>", encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(html.unescape(re.search(r"<body>(.*?)</body>", done.stdout, re.DOTALL)[1]))


def test_ids_beyond_what_javascript_counts_stay_exact(tmp_path):
    values = [2**63 - 1, -(2**53) - 1, 2**53 - 1, 5, 1.5, 1e300, "9007199254740993", None]
    read = evaluated("exact", json.dumps({"rows": [values]}), tmp_path)["rows"][0]
    assert read == [str(2**63 - 1), str(-(2**53) - 1), *values[2:]]
