import pytest
from pydantic import TypeAdapter, ValidationError

from everyflop.spec.island_name import TAKEN, IslandName

NAME = TypeAdapter(IslandName)


@pytest.mark.parametrize("name", ["a", "h100-2", "Berlin_1.5"])
def test_letters_digits_dots_dashes_and_underscores_make_a_name(name):
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize("name", ["", "../x", "two words", ".hidden", "x" * 101, *TAKEN])
def test_what_would_be_no_folder_or_another_file_of_the_run_is_none(name):
    with pytest.raises(ValidationError):
        NAME.validate_python(name)
