"""Checkpoints come back bit for bit, on any mesh, and nothing half written is taken for one."""

import errno
import gc
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.errors import ConfigError, RetryableError, T1Error, WeightsError
from t1_jax.train.infra import CheckpointConfig, Checkpoints, DamagedCheckpoint, abstract_like

HOST = {
    "position": np.asarray(2**63 + 1, dtype=np.uint64),
    "seen/ids": np.arange(5)[::2],
    "empty": np.zeros((0, 3), np.float32),
    "mask": np.array([True, False]),
}
META = {"model": "abc", "stage": "s1", "nested": {"list": [1, None, "x"]}}


class Moments(NamedTuple):
    mu: Any
    nu: Any


def make_state(mesh: jax.sharding.Mesh, *, seed: int = 0) -> dict[str, Any]:
    """A state with every kind of leaf: sharded, replicated, scalar, bfloat16, a key, an empty."""
    split = jax.NamedSharding(mesh, jax.P(mesh.axis_names[0]))
    whole = jax.NamedSharding(mesh, jax.P())
    weight = jax.random.normal(jax.random.key(seed), (8, 16))
    return {
        "w": jax.device_put(weight, split),
        "moments": Moments(
            mu=[jax.device_put(weight.astype(jnp.bfloat16), split)],
            nu=jax.device_put(jnp.zeros((0, 4)), whole),
        ),
        "step": jax.device_put(jnp.int32(seed), whole),
        "key": jax.device_put(jax.random.key(seed), whole),
    }


def assert_same(left: Any, right: Any) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        assert a.sharding == b.sharding
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def save_and_wait(checkpoints: Checkpoints, step: int, state: Any) -> None:
    checkpoints.save(step, state, {}, {})
    checkpoints.wait()


@pytest.fixture
def mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((8,), ("x",))


def test_what_is_saved_comes_back(tmp_path: Path, mesh: jax.sharding.Mesh) -> None:
    state = make_state(mesh)
    with Checkpoints(tmp_path / "c", CheckpointConfig()) as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(3, state, HOST, META)
        checkpoints.wait()
        assert checkpoints.latest() == 3
    with Checkpoints(tmp_path / "c", CheckpointConfig()) as checkpoints:
        restored = checkpoints.restore(3, abstract_like(state), expect={"model": "abc"})
    assert_same(restored.state, state)
    assert restored.meta == META
    assert restored.host.keys() == HOST.keys()
    for name, array in HOST.items():
        assert restored.host[name].dtype == array.dtype
        np.testing.assert_array_equal(restored.host[name], array)


def test_a_state_moves_to_another_mesh(tmp_path: Path, mesh: jax.sharding.Mesh) -> None:
    state = make_state(mesh)
    other = jax.make_mesh((2, 4), ("a", "b"))
    specs = {"w": jax.P("b", "a"), "step": jax.P(), "key": jax.P()}
    abstract = abstract_like(state)
    moved = {
        **{
            name: jax.ShapeDtypeStruct(
                abstract[name].shape,
                abstract[name].dtype,
                sharding=jax.NamedSharding(other, spec),
            )
            for name, spec in specs.items()
        },
        "moments": jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=jax.NamedSharding(other, jax.P())
            ),
            abstract["moments"],
        ),
    }
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, state)
        restored = checkpoints.restore(1, moved)
    expected = jax.tree.map(lambda x, to: jax.device_put(x, to.sharding), state, moved)
    assert_same(restored.state, expected)
    assert restored.host == {}


def test_a_state_may_be_overwritten_while_it_is_being_saved(tmp_path: Path) -> None:
    state = {"w": jnp.arange(2.0**20)}
    first = np.array(state["w"])
    step = jax.jit(lambda s: jax.tree.map(lambda x: x * 0 - 1, s), donate_argnums=0)
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        abstract = abstract_like(state)
        checkpoints.save(1, state, {}, {})
        state = step(state)
        checkpoints.wait()
        restored = checkpoints.restore(1, abstract)
    np.testing.assert_array_equal(np.asarray(restored.state["w"]), first)
    assert float(state["w"][0]) == -1


def test_metadata_may_change_while_they_are_being_saved(tmp_path: Path) -> None:
    meta: dict[str, Any] = {"steps": {"s1": 1}, "score": float("nan")}
    state = {"w": jnp.ones(2)}
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        checkpoints.save(1, state, {}, meta)
        meta["steps"]["s1"] = 2
        checkpoints.wait()
        assert checkpoints.restore(1, abstract_like(state)).meta["steps"] == {"s1": 1}


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    state = {"w": jnp.ones(2)}
    config = CheckpointConfig(keep_last=2, keep_best=1, metric="m")
    values = [0.1, 0.9, None, float("nan"), 0.3, 0.2]
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.best() is None
        for step, value in enumerate(values, start=1):
            metrics = {"loss": 1.0} if value is None else {"m": value}
            checkpoints.save(step, state, {}, {}, metrics)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert (checkpoints.best(), checkpoints.latest()) == (2, 6)
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.values() == {2: 0.9, 5: 0.3, 6: 0.2}
        assert checkpoints.best() == 2


def test_without_best_only_the_last_are_kept(tmp_path: Path) -> None:
    config = CheckpointConfig(keep_last=1, keep_best=0, metric="m")
    with Checkpoints(tmp_path, config) as checkpoints:
        for step, value in [(1, 0.9), (2, 0.1)]:
            checkpoints.save(step, {"w": jnp.ones(2)}, {}, {}, {"m": value})
        checkpoints.wait()
        assert checkpoints.steps() == [2]


def test_a_step_that_stands_is_not_written_again(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        checkpoints.save(2, {"w": jnp.ones(2)}, {}, {"n": 1})
        checkpoints.save(2, {"w": jnp.zeros(2)}, {}, {"n": 2})
        checkpoints.wait()
        assert checkpoints.meta(2) == {"n": 1}
        with pytest.raises(T1Error, match="checkpoint of step 2, which is after step 1"):
            checkpoints.save(1, {"w": jnp.ones(2)}, {}, {})


def test_a_checkpoint_of_which_more_is_known_is_replaced(tmp_path: Path) -> None:
    state = {"w": jnp.ones(2)}
    with Checkpoints(tmp_path, CheckpointConfig(metric="m")) as checkpoints:
        checkpoints.save(1, state, {}, {"n": 1})
        checkpoints.save(1, state, {}, {"n": 2}, {"m": 0.5}, replace=True)
        assert (checkpoints.meta(1), checkpoints.values()) == ({"n": 2}, {1: 0.5})
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    # The run was killed before the new one was complete: the former one takes its place again.
    (tmp_path / "1").rename(tmp_path / "1.replaced")
    (tmp_path / "1" / "state").mkdir(parents=True)
    with Checkpoints(tmp_path, CheckpointConfig(metric="m")) as checkpoints:
        assert (checkpoints.steps(), checkpoints.values()) == ([1], {1: 0.5})


def test_a_replacement_that_fails_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    state = {"w": jax.random.normal(jax.random.key(0), (64, 64))}
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, state)
        with full_disk(), pytest.raises(T1Error, match="step 1 could not be written"):
            checkpoints.save(1, state, {}, {}, replace=True)
        assert checkpoints.steps() == [1]
        assert_same(checkpoints.restore(1, abstract_like(state)).state, state)


def test_a_checkpoint_of_another_model_is_refused_with_both(tmp_path: Path) -> None:
    state = {"w": jnp.ones(2)}
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        checkpoints.save(1, state, {}, META)
        checkpoints.wait()
        with pytest.raises(WeightsError) as caught:
            checkpoints.restore(1, abstract_like(state), expect={"stage": "s1", "model": "xyz"})
        with pytest.raises(WeightsError, match="another prompt: it has None"):
            checkpoints.meta(1, expect={"prompt": "p"})
        assert checkpoints.meta(1, expect={"model": "abc"}) == META
    assert "another model: it has 'abc', this run has 'xyz'" in caught.value.message


def test_a_state_of_other_arrays_is_refused_by_name(tmp_path: Path) -> None:
    state = {"layer": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, "old": jnp.ones(1)}
    other = {"layer": {"w": jnp.ones((2, 4)), "b": jnp.ones(3, jnp.bfloat16)}, "new": jnp.ones(1)}
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, state)
        with pytest.raises(WeightsError) as caught:
            checkpoints.restore(1, abstract_like(other))
    for part in (
        "new is missing",
        "old is not expected",
        "layer/w has float32[2, 3], expected float32[2, 4]",
        "layer/b has float32[3], expected bfloat16[3]",
    ):
        assert part in caught.value.message


@pytest.mark.parametrize(
    "missing",
    ["_CHECKPOINT_METADATA", "state/manifest.ocdbt", "host/_METADATA", "state", ""],
)
def test_an_incomplete_checkpoint_is_never_taken_for_one(tmp_path: Path, missing: str) -> None:
    state = {"w": jnp.ones(2)}
    config = CheckpointConfig(keep_last=2, keep_best=0)
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save(1, state, {}, {})
        checkpoints.save(2, state, {}, {})
    shutil.copytree(tmp_path / "2", tmp_path / "5")
    at = tmp_path / "5" / missing
    if at.is_dir():
        shutil.rmtree(at)
    else:
        at.unlink()
    (tmp_path / "5").mkdir(exist_ok=True)
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()

    with Checkpoints(tmp_path, config, writable=False) as checkpoints:
        assert checkpoints.latest() == 2
    assert (tmp_path / "5").exists()
    assert (tmp_path / "7.orbax-checkpoint-tmp").exists()

    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.latest() == 2
        with pytest.raises(WeightsError, match="no complete checkpoint of step 5; it has 1, 2"):
            checkpoints.restore(5, abstract_like(state))
        checkpoints.save(3, state, {}, {})
        checkpoints.wait()
        assert checkpoints.steps() == [2, 3]
    assert len(list(tmp_path.glob("5.incomplete-*"))) == 1
    assert not (tmp_path / "7.orbax-checkpoint-tmp").exists()


def test_a_removal_that_was_interrupted_is_finished(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, CheckpointConfig(keep_last=2)) as checkpoints:
        save_and_wait(checkpoints, 1, {"w": jnp.ones(2)})
        save_and_wait(checkpoints, 2, {"w": jnp.ones(2)})
    shutil.rmtree(tmp_path / "1" / "state")
    with Checkpoints(tmp_path, CheckpointConfig(keep_last=2)) as checkpoints:
        assert checkpoints.steps() == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["2"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    state = {"w": jnp.arange(1000.0)}
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, state)
        save_and_wait(checkpoints, 2, state)
        (tmp_path / "2" / "state" / "manifest.ocdbt").write_bytes(b"nothing")
        with pytest.raises(WeightsError, match="2 cannot be read") as caught:
            checkpoints.restore(2, abstract_like(state))
    assert f"delete {tmp_path / '2'}: the run resumes" in (caught.value.hint or "")
    shutil.rmtree(tmp_path / "2")
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        assert checkpoints.latest() == 1
        checkpoints.restore(1, abstract_like(state))


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Steps 1 and 2 of a state with an array that is too large to be part of a table."""
    mesh = jax.make_mesh((8,), ("x",))
    large = jax.random.normal(jax.random.key(1), (256, 64))
    state = {**make_state(mesh), "large": jax.device_put(large, jax.NamedSharding(mesh, jax.P()))}
    folder = tmp_path_factory.mktemp("two")
    with Checkpoints(folder, CheckpointConfig()) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state, HOST, META)
    return folder, state


DAMAGES = {
    "missing": None,
    "truncated": lambda data: data[: len(data) // 2],
    "changed": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :]
    ),
}


# Orbax leaves what it had begun to read when a part cannot be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damage_of_any_file_is_taken_for_the_state(tmp_path: Path, two_checkpoints, damage):
    """Every file in turn: what is restored is right, or the checkpoint before it is used."""
    whole, state = two_checkpoints
    abstract, used = abstract_like(state), set()
    files = [path for path in sorted((whole / "2").rglob("*")) if path.is_file()]
    assert len(files) > 10
    for number, file in enumerate(files):
        folder = Path(shutil.copytree(whole, tmp_path / str(number)))
        damaged, change = folder / file.relative_to(whole), DAMAGES[damage]
        if change is None:
            damaged.unlink()
        else:
            damaged.write_bytes(change(damaged.read_bytes()))
        with Checkpoints(folder, CheckpointConfig()) as checkpoints:
            step = checkpoints.steps()[-1]
            try:
                restored = checkpoints.restore(step, abstract)
            except DamagedCheckpoint:
                checkpoints.set_aside_damaged(step)
                step = checkpoints.steps()[-1]
                restored = checkpoints.restore(step, abstract)
            used.add(step)
            assert_same(restored.state, state)
            assert restored.meta == META
            for name, array in HOST.items():
                np.testing.assert_array_equal(restored.host[name], array)
        shutil.rmtree(folder)
    gc.collect()
    assert used == {1, 2}  # some files repeat what others hold


PASSING = [
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"),
    MemoryError(),
    OSError(errno.EIO, "Input/output error"),
    TimeoutError("no answer from the bucket"),
    ValueError("UNAVAILABLE: Error reading gs://bucket/1/state"),
]


@pytest.mark.parametrize("reason", PASSING, ids=lambda reason: type(reason).__name__)
@pytest.mark.parametrize("method", ["checkpointables_metadata", "load_checkpointables"])
def test_what_may_pass_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, reason: Exception
) -> None:
    state = {"w": jnp.arange(4.0)}
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, state)

        def fails(*args: object) -> None:
            try:
                raise reason
            except Exception as error:
                raise KeyError("an error of Orbax that hides the reason") from error

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._orbax, method, fails)
            with pytest.raises(RetryableError) as caught:
                checkpoints.restore(1, abstract_like(state))
        assert f"{tmp_path / '1'} could not be read: " in caught.value.message
        assert "give the same command again" in (caught.value.hint or "")
        assert_same(checkpoints.restore(1, abstract_like(state)).state, state)


def test_a_file_that_cannot_be_looked_up_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, {"w": jnp.ones(2)})

        def unreachable(path: object) -> None:
            raise ConnectionError("no answer")

        with monkeypatch.context() as patch:
            patch.setattr(type(checkpoints.folder), "stat", unreachable)
            with pytest.raises(RetryableError, match="no answer"):
                checkpoints.steps()
        assert checkpoints.steps() == [1]


def test_processes_agree_on_what_they_have_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All take part in the same collectives, and an error of one is raised on all."""
    mine: list[bool] = []
    theirs: list[bool] = []

    def together(flag: bool) -> bool:
        mine.append(flag)
        return flag or (bool(theirs) and theirs[len(mine) - 1])

    monkeypatch.setattr("t1_jax.train.infra.checkpoints.any_process", together)
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, {"w": jnp.ones(2)})
        metadata = tmp_path / "1/_CHECKPOINT_METADATA"
        sound = metadata.read_bytes()
        metadata.write_bytes(b"{")
        with pytest.raises(DamagedCheckpoint):
            checkpoints.meta(1)
        metadata.write_bytes(sound)
        assert mine == [True, True]
        mine, theirs = [], mine
        with pytest.raises(DamagedCheckpoint, match="another process found it damaged"):
            checkpoints.meta(1)
        assert len(mine) == 2
        mine, theirs = [], [False, True]
        with pytest.raises(RetryableError, match="another process could not read it"):
            checkpoints.meta(1)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 2,000 bytes: writes fail as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_and_leaves_the_run_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {"w": jax.random.normal(jax.random.key(0), (64, 64))}
    with Checkpoints(tmp_path, CheckpointConfig()) as checkpoints:
        save_and_wait(checkpoints, 1, state)
        with full_disk(), pytest.raises(T1Error) as caught:
            save_and_wait(checkpoints, 2, state)
        assert "step 2 could not be written" in caught.value.message
        assert "resumes from step 1" in (caught.value.hint or "")
        assert checkpoints.steps() == [1]
        assert_same(checkpoints.restore(1, abstract_like(state)).state, state)
        save_and_wait(checkpoints, 2, state)
        assert checkpoints.steps() == [1, 2]
    assert not caplog.records
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_folder_opened_for_reading_is_not_written(tmp_path: Path) -> None:
    with (
        Checkpoints(tmp_path, CheckpointConfig(), writable=False) as checkpoints,
        pytest.raises(T1Error, match="opened read-only"),
    ):
        checkpoints.save(1, {"w": jnp.ones(1)}, {}, {})


def test_checkpoints_are_due_by_steps_and_by_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("t1_jax.train.infra.checkpoints.time.monotonic", lambda: now[0])
    config = CheckpointConfig(every_steps=10, every_minutes=2.0)
    with Checkpoints(tmp_path, config) as checkpoints:
        assert [step for step in range(1, 31) if checkpoints.due(step)] == [10, 20, 30]
        now[0] = 119.0
        assert not checkpoints.due(31)
        now[0] = 120.0
        assert checkpoints.due(31)
        checkpoints.save(31, {"w": jnp.ones(1)}, {}, {})
        assert not checkpoints.due(32)


@pytest.mark.parametrize(
    "fields", [{"every_steps": 0}, {"every_minutes": 0.0}, {"keep_last": 0}, {"keep_best": -1}]
)
def test_senseless_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        CheckpointConfig(**fields)
