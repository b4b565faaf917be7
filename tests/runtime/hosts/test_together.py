"""Programs side by side: calls that differ are refused, an interrupted run goes on no more."""

from tests.runtime.running import probe

DIFFER = "operators of programs side by side differ"


def test_calls_that_wait_for_each_other_are_alike():
    lines = dict(line.split(": ") for line in probe("together").decode().splitlines())
    alike = {"the same": "taken", "the same MLPs": "taken", "few rows": "left", "left behind": "0"}
    refused = ["tokens", "weights", "scaling", "bias", "an MLP later", "an MLP before"]
    refused += ["weights of MLPs", "too many"]
    within = {"within another": "programs run side by side within others"}
    assert lines == alike | dict.fromkeys(refused, DIFFER) | within


def test_programs_that_were_left_in_the_middle_run_no_more(case):
    """One may be further than the others: what they computed next would be a mixture."""
    lines = probe("interrupted", case.bundle).decode().splitlines()
    assert lines[0] == "done"
    assert lines[1].endswith("an operator fails")
    assert lines[2:] == 2 * ["a run was interrupted before. Report this as a bug"]
