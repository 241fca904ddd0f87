"""Names of slices and hosts."""

import jax
import pytest

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.parallel import find_topology


@pytest.mark.parametrize(
    ("name", "devices", "shape"),
    [
        ("v5e-16", 16, "4x4"),
        ("v5e-256", 256, "16x16"),
        ("v5p-8", 4, "2x2x1"),  # named by cores, of which a chip has two
        ("v5p-128", 64, "4x4x4"),
        ("h100-8", 8, ""),
        ("cpu-3", 3, ""),
    ],
)
def test_a_name_is_a_number_of_devices(name: str, devices: int, shape: str) -> None:
    topology = find_topology(name)
    assert (topology.num_devices, topology.shape) == (devices, shape)
    assert topology.chip.memory > 10 * 10**9


@pytest.mark.parametrize(
    ("name", "links"),
    [("v5e-8", 2), ("v5e-128", 3), ("v5e-256", 4), ("v5p-8", 2), ("v5p-64", 3), ("v5p-128", 6)],
)
def test_a_chip_at_an_end_has_fewest_links(name: str, links: int) -> None:
    assert find_topology(name).links == links


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("v7-8", "known chips are v5e, v5p"),
        ("v5e", "as in v5e-16"),
        ("v5e-12", r"slices of 4, 8, 16.*not 12\n  hint: for example v5e-8"),
        ("h100-0", "from 1 to 64"),
    ],
)
def test_other_names_are_rejected(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        find_topology(name)


def test_devices_that_this_process_has() -> None:
    assert find_topology("h200-8").devices() == jax.devices("cpu")
    with pytest.raises(UnsupportedError, match="needs 9 virtual CPU devices"):
        find_topology("cpu-9").devices()
