"""What `--help` and the guides say about a config comes from the config itself."""

from dataclasses import dataclass

import pytest

from t1_jax.config import FieldDoc, describe, undocumented_fields
from tests.config.recipe import Optimizer, Recipe


def test_every_field_is_described_with_key_type_default_and_doc() -> None:
    fields = {field.key: field for field in describe(Recipe)}
    assert list(fields)[:4] == ["name", "optimizer", "optimizer.rate", "optimizer.schedule"]
    assert fields["name"] == FieldDoc(key="name", type="str", default=None, doc="of the run.")
    assert fields["optimizer.schedule"] == FieldDoc(
        key="optimizer.schedule",
        type="'constant' | 'cosine'",
        default="cosine",
        doc="how the rate changes; `cosine` falls to zero at the last step.",
    )
    assert fields["optimizer.betas"].default == "[0.9, 0.95]"
    assert fields["weights"].default == "model"
    assert fields["steps"].default == "null"
    assert fields["warm_up"].group


def test_a_nested_default_is_the_one_the_parent_gives() -> None:
    defaults = {field.key: field.default for field in describe(Recipe)}
    assert defaults["optimizer.rate"] == "1.0e-05"
    assert defaults["warm_up.rate"] == "0.0001"


def test_undocumented_fields_are_found_also_in_nested_configs() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Careless:
        """Forgets one.

        Attributes:
            known: explained.
            outer: explained.

        Note:
            forgotten: not among the attributes.
        """

        known: int = 0
        forgotten: int = 0
        outer: Optimizer = Optimizer()

    assert undocumented_fields(Careless) == ["forgotten"]
    assert undocumented_fields(Recipe) == []


def test_a_derived_config_keeps_the_docs_of_its_base() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Derived(Optimizer):
        """Adds one field.

        Attributes:
            decay: of the weights.
        """

        decay: float = 0.0

    assert undocumented_fields(Derived) == []


def test_a_dict_of_configs_is_described_under_a_placeholder() -> None:
    fields = {field.key: field for field in describe(Recipe)}
    assert fields["stages"].group
    assert fields["stages"].type == "dict[str, Stage]"
    assert fields["stages.<name>.optimizer.rate"].default == "2.0e-05"
    assert fields["stages.<name>.rate_factor"].doc == "multiplies every rate."


def test_configs_in_a_sequence_are_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Staged:
        """Stages in a list.

        Attributes:
            stages: out of reach of keys.
        """

        stages: tuple[Optimizer, ...] = ()

    with pytest.raises(TypeError, match="cannot be nested in a sequence"):
        describe(Staged)


def test_configs_in_a_dict_by_number_are_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Numbered:
        """Stages by number.

        Attributes:
            stages: out of reach of keys.
        """

        stages: dict[int, Optimizer]

    with pytest.raises(TypeError, match="whose keys are not strings"):
        describe(Numbered)
