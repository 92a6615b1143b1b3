"""The last lines of `bin/lab test` say what failed, where and why: they are what people and CI read first."""

from pathlib import Path

from lab.tests import TOLD_LINES, TOLD_WIDTH, Count, told

REPORT = """<testsuites><testsuite tests="4" failures="1" errors="1" skipped="1">
<testcase classname="tests.scenarios.test_x" name="test_good" />
<testcase classname="tests.scenarios.test_x" name="test_bad[app1]"><failure message="AssertionError: 1 == 2">…</failure>
</testcase>
<testcase classname="tests.scenarios.test_x" name="test_broken"><error message="failed on setup">…</error></testcase>
<testcase classname="tests.scenarios.test_x" name="test_left"><skipped message="slow" /></testcase>
</testsuite></testsuites>"""


def test_each_failure_is_told_with_its_lab_its_test_and_its_reason(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    count = Count()
    count.read(report, "t-trixie")
    assert (count.passed, count.failed, count.skipped) == (1, 2, 1)
    assert count.failures == [
        "t-trixie: tests/scenarios/test_x.py::test_bad[app1]\n    AssertionError: 1 == 2",
        "t-trixie: tests/scenarios/test_x.py::test_broken\n    failed on setup",
    ]


def test_a_run_without_a_report_is_a_failure(tmp_path: Path) -> None:
    count = Count()
    count.read(tmp_path / "none.xml", "t-fleet")
    assert count.failed == 1
    assert "t-fleet" in count.failures[0]


def test_a_failure_fits_on_a_screen() -> None:
    lines = told("\n".join(["x" * 1000] * 100)).splitlines()
    assert len(lines) == TOLD_LINES + 1
    assert max(map(len, lines)) < TOLD_WIDTH + 20
