"""Ask whether a known vulnerability is in what is installed, and say what could not be asked.

    python tests/audit.py

Runs pip-audit against the advisories of PyPI and, where these can't be had, of OSV. Exit codes: 0
nothing found, or no service could be reached (said in so many words, as an audit that did not take
place is none); 1 a vulnerability that audit-ignored.toml does not explain. Needs the extra `dev`.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

IGNORED = Path(__file__).parents[1] / "audit-ignored.toml"
OURS = {"actiontrack"}


@dataclass(frozen=True)
class Found:
    """What an audit has found.

    Attributes:
        vulnerable: a line for each vulnerability that nobody has explained.
        explained: a line for each that is explained.
        audited: packages that the service knew.
        skipped: packages that it did not.
        stale: explanations that fit nothing, or are past their date.
    """

    vulnerable: tuple[str, ...]
    explained: tuple[str, ...]
    audited: tuple[str, ...]
    skipped: tuple[str, ...]
    stale: tuple[str, ...]


def judge(report, ignored, today):
    """Sort the report of pip-audit by the explanations of `audit-ignored.toml`."""
    vulnerable, explained, used = [], [], set()
    audited = [each for each in report["dependencies"] if "skip_reason" not in each]
    for package in audited:
        for each in package["vulns"]:
            names = {each["id"], *each.get("aliases", ())}
            fixed = ", ".join(each.get("fix_versions") or ()) or "no version yet"
            line = f"{package['name']} {package['version']}: {each['id']}, mended in {fixed}"
            reasons = [one for one in ignored if one["id"] in names and one["until"] >= today]
            used |= {one["id"] for one in reasons}
            if reasons:
                explained.append(f"{line}: {reasons[0]['reason']}")
            else:
                vulnerable.append(line)
    skipped = [
        each["name"]
        for each in report["dependencies"]
        if "skip_reason" in each and each["name"] not in OURS
    ]
    stale = [f"{one['id']} until {one['until']}" for one in ignored if one["id"] not in used]
    names = tuple(each["name"] for each in audited)
    return Found(tuple(vulnerable), tuple(explained), names, tuple(skipped), tuple(stale))


def read_ignored(path):
    """Explanations of a file: id, reason and the date until which they hold."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("ignored", [])
    for each in entries:
        if not (each.get("id") and each.get("reason") and isinstance(each.get("until"), dt.date)):
            raise SystemExit(f"{path}: each entry needs id, reason and until (a date): {each}")
    return entries


def ask(service, more):
    """The report of one service, or None and why it can't be had."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--vulnerability-service", service, "--timeout", "10", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1][:300]


def main(argv=None):
    """Audit, print what was found and what was not asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--osv-url", help="another address of OSV, and only that service")
    parser.add_argument("--requirements", help="audit these pinned requirements instead")
    parser.add_argument("--ignored", type=Path, default=IGNORED)
    options = parser.parse_args(argv)
    more = ["--local", "--skip-editable"]
    if options.requirements:
        more = ["--requirement", options.requirements, "--no-deps", "--disable-pip"]
    services = ["osv"] if options.osv_url else ["pypi", "osv"]
    more += ["--osv-url", options.osv_url] if options.osv_url else []
    ignored, found = read_ignored(options.ignored), None
    for service in services:
        report, problem = ask(service, more)
        if report is None:
            print(f"audit: {service} can't be asked: {problem}")
            continue
        found = judge(report, ignored, dt.datetime.now(dt.UTC).date())
        print(f"audit: {service} knew {len(found.audited)} packages, {len(found.skipped)} not")
        if found.audited:
            break
    if found is None or not found.audited:
        print("audit: NOT DONE. No service of advisories could be reached from here.")
        return 0
    for title, lines in (
        ("not audited", found.skipped), ("explained", found.explained),
        ("explanation without a vulnerability, or past its date", found.stale),
        ("VULNERABLE", found.vulnerable),
    ):  # fmt: skip
        for line in lines:
            print(f"{title}: {line}")
    print(f"audit: {len(found.vulnerable)} vulnerabilities without an explanation")
    return 1 if found.vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
