"""The audit finds what it is to find, and never passes for one that did not take place."""

import datetime as dt
import http.server
import importlib.metadata
import json
import threading

import audit
import pytest

TODAY = dt.date(2026, 1, 31)
VULNERABILITY = {"id": "GHSA-x", "aliases": ["CVE-1"], "fix_versions": ["2.1"], "description": ""}
REPORT = {
    "dependencies": [
        {"name": "old", "version": "2.0", "vulns": [VULNERABILITY]},
        {"name": "fine", "version": "1.0", "vulns": []},
        {"name": "private", "skip_reason": "Dependency not found on PyPI"},
        {"name": "actiontrack", "skip_reason": "Dependency not found on PyPI"},
    ],
    "fixes": [],
}


def explanation(**changes):
    return {"id": "CVE-1", "reason": "never called", "until": TODAY} | changes


def test_a_vulnerability_is_told_with_its_remedy():
    found = audit.judge(REPORT, [], TODAY)
    assert found.vulnerable == ("old 2.0: GHSA-x, mended in 2.1",)
    assert found.audited == ("old", "fine")
    assert found.skipped == ("private",)


@pytest.mark.parametrize("name", ["GHSA-x", "CVE-1"])
def test_a_vulnerability_with_a_reason_is_told_with_it(name):
    found = audit.judge(REPORT, [explanation(id=name)], TODAY)
    assert found.vulnerable == ()
    assert found.explained == ("old 2.0: GHSA-x, mended in 2.1: never called",)


def test_a_reason_ends_at_its_date():
    late = audit.judge(REPORT, [explanation(until=TODAY - dt.timedelta(1))], TODAY)
    assert len(late.vulnerable) == 1
    assert late.stale == ("CVE-1 until 2026-01-30",)


def test_a_reason_for_nothing_is_told():
    assert audit.judge(REPORT, [explanation(id="CVE-2")], TODAY).stale == (
        "CVE-2 until 2026-01-31",
    )


def test_the_file_of_reasons_is_sound():
    assert isinstance(audit.read_ignored(audit.IGNORED), list)


@pytest.mark.parametrize("missing", ["id", "reason", "until"])
def test_a_reason_needs_its_parts(tmp_path, missing):
    parts = {"id": 'id = "x"', "reason": 'reason = "y"', "until": "until = 2027-01-31"}
    lines = [text for name, text in parts.items() if name != missing]
    path = tmp_path / "ignored.toml"
    path.write_text("\n".join(["[[ignored]]", *lines]))
    with pytest.raises(SystemExit, match="each entry needs id, reason and until"):
        audit.read_ignored(path)


@pytest.fixture
def advisories():
    """A service that answers as OSV does: one vulnerability of Jinja2, none of others."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"].lower()
            affected = {"package": {"name": "jinja2", "ecosystem": "PyPI"}, "ranges": []}
            told = {"id": "GHSA-y", "aliases": ["CVE-9"], "affected": [affected], "details": "bad"}
            body = json.dumps({"vulns": [told]} if name == "jinja2" else {}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


@pytest.fixture
def requirements(tmp_path):
    path = tmp_path / "requirements.txt"
    names = ("jinja2", "click")
    path.write_text("".join(f"{each}=={importlib.metadata.version(each)}\n" for each in names))
    return str(path)


def test_a_vulnerability_that_a_service_knows_fails_the_audit(advisories, requirements, capsys):
    assert audit.main(["--osv-url", advisories, "--requirements", requirements]) == 1
    out = capsys.readouterr().out
    version = importlib.metadata.version("jinja2")
    assert f"VULNERABLE: jinja2 {version}: " in out
    assert "audit: osv knew 2 packages, 0 not" in out


def test_an_explained_vulnerability_does_not(advisories, requirements, tmp_path, capsys):
    path = tmp_path / "ignored.toml"
    path.write_text('[[ignored]]\nid = "CVE-9"\nreason = "no templates"\nuntil = 2999-01-01\n')
    words = ["--osv-url", advisories, "--requirements", requirements, "--ignored", str(path)]
    assert audit.main(words) == 0
    assert "no templates" in capsys.readouterr().out


def test_an_audit_that_could_not_be_made_says_so(requirements, capsys):
    words = ["--osv-url", "http://127.0.0.1:9/v1/query", "--requirements", requirements]
    assert audit.main(words) == 0
    assert "audit: NOT DONE." in capsys.readouterr().out
