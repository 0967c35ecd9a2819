"""
Audit the locked requirements with pip-audit, and say plainly what could not be audited.

pip-audit asks PyPI for the known vulnerabilities of each locked version. Where PyPI's JSON
interface does not answer, as behind a mirror, pip-audit skips the package and still reports that
nothing was found; here such a package counts as not audited. Exit status: 0 where every package
was audited and none is vulnerable, 1 where one is, 2 where one was not audited.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Beside this interpreter: the environment that holds pip-audit.
PIP_AUDIT = Path(sys.executable).parent / "pip-audit"
TIMEOUT_S = 300

_PIN = re.compile(r"^([\w.-]+)(?:\[.+\])?==([^\s;]+)", re.MULTILINE)


def main() -> int:
    """Audits every file in requirements/ and prints what was found."""
    texts = [path.read_text() for path in sorted((ROOT / "requirements").glob("*.txt"))]
    found: list[str] = []
    skipped: list[str] = []
    num_audited = 0
    for pins in passes(texts):
        report, complaint = _run_pip_audit(pins)
        if report is None:
            print(f"NOT AUDITED: pip-audit gave no report: {complaint}")
            return 2
        audited = read_report(report)
        found += audited[0]
        skipped += audited[1]
        num_audited += len(pins) - len(audited[1])
    _print_result(found, skipped, num_audited)
    if found:
        return 1
    return 2 if skipped else 0


def passes(texts: Iterable[str]) -> list[list[str]]:
    """Returns each pin once, in lists that name no package twice: pip-audit takes no others."""
    versions: dict[str, dict[str, None]] = {}
    for text in texts:
        for name, version in _PIN.findall(text):
            versions.setdefault(name, {})[version] = None
    columns = zip_longest(*([f"{name}=={v}" for v in vs] for name, vs in versions.items()))
    return [[pin for pin in column if pin] for column in columns]


def read_report(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Returns a line per vulnerability, then the packages that PyPI gave no answer for."""
    packages = report["dependencies"]
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    return found, [package["name"] for package in packages if "skip_reason" in package]


def _run_pip_audit(pins: list[str]) -> tuple[dict[str, Any] | None, str]:
    """Returns pip-audit's report, or None and the last line of its complaint."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        command: list[str | Path] = [PIP_AUDIT, "--format", "json", "--progress-spinner", "off"]
        command += ["--no-deps", "--disable-pip", "--requirement", file.name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return None, f"no answer within {TIMEOUT_S} s"
    try:
        return json.loads(done.stdout), ""
    except ValueError:
        return None, (done.stderr.strip().splitlines() or ["no output"])[-1]


def _print_result(found: list[str], skipped: list[str], num_audited: int) -> None:
    for line in found:
        print(line)
    if skipped:
        names = ", ".join(skipped)
        print(f"NOT AUDITED: PyPI gave no answer for {len(skipped)} packages: {names}")
    print(f"{num_audited} packages audited, {len(found)} vulnerabilities found")


if __name__ == "__main__":
    sys.exit(main())
