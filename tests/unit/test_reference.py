"""The configuration reference: complete, and the one in README."""

from pathlib import Path

import pytest
from msgspec import Struct
from msgspec import inspect as kinds

from streamd import config
from streamd.errors import StreamdError
from streamd.learners import registry
from streamd.reference import BEGIN, END, reference, rewrite

README = Path(__file__).parents[2] / "README.md"


def test_the_reference_in_readme_is_the_generated_one() -> None:
    text = README.read_text()
    assert rewrite(text) == text, "run: python -m streamd.reference"


def test_every_key_of_every_table_is_in_it() -> None:
    text = reference()
    structs = [kind for kind in vars(config).values() if isinstance(kind, type) and issubclass(kind, config.Keys)]
    for struct in structs:
        info = kinds.type_info(struct)
        assert isinstance(info, kinds.StructType)
        for field in info.fields:
            in_own_table = any(f"`{field.name}`" in line for line in text.splitlines())
            assert in_own_table or f"{field.name}]`" in text or f"[{field.name}.NAME]`" in text


def test_every_learner_is_in_it() -> None:
    for name in registry():
        kind, _, task = name.partition("/")
        assert f'`kind = "{kind}"`, task {task}' in reference()


def test_every_row_has_the_columns_of_its_table() -> None:
    width = 0
    for line in reference().splitlines():
        if line.startswith("|---"):
            width = line.count("|")
        elif line.startswith("| `"):
            assert line.replace("\\|", "").count("|") == width


def test_defaults_are_written_as_the_file_takes_them() -> None:
    text = reference()
    assert '| `interval` | duration | `"200ms"` |' in text
    assert '| `record` | size | `"1MB"` |' in text
    assert "| `enabled` | boolean | `true` |" in text
    assert "| `events` | string | needed |" in text


def test_rewriting_keeps_the_rest_of_the_page_and_is_idempotent() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = rewrite(page)
    assert once.startswith(f"before\n{BEGIN}\n")
    assert once.endswith(f"{END}\nafter\n")
    assert "old" not in once.partition(BEGIN)[2].splitlines()
    assert rewrite(once) == once


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END} {BEGIN}"])
def test_a_page_without_markers_is_refused(page: str) -> None:
    with pytest.raises(StreamdError, match="markers"):
        rewrite(page)


def test_every_struct_of_the_configuration_says_what_it_is() -> None:
    for kind in vars(config).values():
        if isinstance(kind, type) and issubclass(kind, Struct) and kind.__module__ == config.__name__:
            assert kind.__doc__
