"""Collectives in the text of compiled programs."""

import jax
import jax.numpy as jnp
import pytest

from t1_jax.train.ahead.hlo import collectives

TEXT = """
HloModule jit_step, entry_computation_layout={()->f32[]}

%add.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %sum = f32[] add(%a, %b)
}

%body.2 (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]) parameter(0)
  %gathered = bf16[64,128]{1,0} all-gather(bf16[16,128] %w), replica_groups=[4,4]<=[16]
  ROOT %t = (s32[], f32[8,4]) tuple(%i, %x)
}

%cond.3 (p: (s32[], f32[8,4])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main.9 (q: f32[8,4]) -> f32[8,4] {
  %q = f32[8,4] parameter(0)
  %loop = (s32[], f32[8,4]) while(%i), condition=%cond.3, body=%body.2, backend_config={TRIPS}
  %reduced = f32[100]{0} all-reduce(f32[100] %g), replica_groups={{0,1,2,3}}, to_apply=%add.1
  %scattered = f32[10]{0} reduce-scatter(f32[40] %g), replica_groups={{0,1,2,3}}, to_apply=%add.1
  %moved = f32[10]{0} collective-permute(f32[10]{0} %h), source_target_pairs={{0,1}}
  ROOT %out = f32[8,4] get-tuple-element(%loop), index=1
}
""".replace("TRIPS", '"known_trip_count":{"n":"36"}')


def test_bytes_that_a_chip_sends() -> None:
    found = {each.kind: (each.count, each.sent) for each in collectives(TEXT, 16)}
    assert found == {
        # 36 trips; 64 x 128 x 2 bytes, of which a chip has a quarter.
        "all-gather": (36, 36 * 64 * 128 * 2 * 3 / 4),
        "all-reduce": (1, 2 * 400 * 3 / 4),
        "reduce-scatter": (1, 160 * 3 / 4),
        "collective-permute": (1, 40.0),
    }


def test_a_reduction_of_which_each_chip_keeps_a_share() -> None:
    """TPUs write it as a fusion around an all-reduce."""
    text = """
%all-reduce-scatter.1 (a: f32[400]) -> f32[100] {
  %a = f32[400] parameter(0)
  %whole = f32[400]{0} all-reduce(f32[400] %a), replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %share = f32[100] dynamic-slice(%whole, %i), dynamic_slice_sizes={100}
}

ENTRY %main.9 (q: f32[400]) -> f32[100] {
  %q = f32[400] parameter(0)
  ROOT %out = f32[100] fusion(%q), kind=kCustom, calls=%all-reduce-scatter.1
}
"""
    (found,) = collectives(text, 4)
    assert (found.kind, found.count, found.sent) == ("reduce-scatter", 1, 1600 * 3 / 4)


def test_a_program_of_this_backend() -> None:
    """A sum over sharded rows is one all-reduce of the result, in every trip of a scan."""
    mesh = jax.make_mesh((4,), ("rows",), devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        rows = jax.ShapeDtypeStruct(
            (8, 16), jnp.float32, sharding=jax.NamedSharding(mesh, jax.P("rows"))
        )

        def total(rows: jax.Array) -> jax.Array:
            def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
                return carry + jnp.sum(rows * carry, axis=0), None

            return jax.lax.scan(step, jnp.ones(16), None, length=5)[0]

        compiled = jax.jit(total).lower(rows).compile()
    found = collectives(compiled.as_text() or "", 4)
    assert [each.kind for each in found] == ["all-reduce"]
    assert found[0].sent == pytest.approx(found[0].count * 2 * 64 * 3 / 4)
    assert found[0].count in (1, 5)  # 5 where the backend states the trips
