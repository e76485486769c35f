"""The worked example of README is what its commands print."""

from tests.worked_example import README, rewrite, timeless, transcript


def test_the_worked_example_of_the_readme_is_true() -> None:
    page = README.read_text()
    assert timeless(rewrite(page, transcript())) == timeless(page)
