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
    assert found[0].count == 5
    assert found[0].sent == pytest.approx(5 * 2 * 64 * 3 / 4)


def test_trips_of_a_loop_are_read_from_its_condition() -> None:
    """TPUs state none; an unrolled body counts twice as fast, and a decoding loop may end early."""
    text = """
%body.2 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[], f32[8]) parameter(0)
  %two = s32[] constant(2)
  %i = s32[] get-tuple-element(%p), index=0
  %next = s32[]{:T(128)} add(%i, %two), metadata={op_name="while/add"}
  %x = f32[100]{0} all-gather(f32[25] %w), replica_groups={{0,1,2,3}}
  ROOT %t = (s32[], f32[8]) tuple(%next, /*index=1*/%x)
}

%cond.3 (p: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  %q = (s32[], f32[8]) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %less = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

%early.4 (p: (s32[], f32[8])) -> pred[] {
  ROOT %both = pred[] and(%less, %going)
}

ENTRY %main.9 (q: f32[8]) -> f32[8] {
  %loop = (s32[], f32[8]) while(%i), condition=%cond.3, body=%body.2
  ROOT %other = (s32[], f32[8]) while(%loop), condition=%early.4, body=%body.2
}
"""
    (found,) = collectives(text, 4, loop_trips=32)
    assert (found.kind, found.count, found.sent) == ("all-gather", 4 + 32, (4 + 32) * 300)


def test_a_collective_that_overlaps_computation_counts_once() -> None:
    """It is written into the fusions that start, continue and end it. Groups may be mesh axes."""
    text = """
%start.1 (a: f32[25]) -> f32[100] {
  ROOT %g = f32[100]{0} all-gather(%a), channel_id=9, replica_groups=mesh['data'=2,'fsdp'=4] \
{'fsdp'}, frontend_attributes={chain_id="3"}
}

%done.2 (a: f32[25]) -> f32[100] {
  ROOT %g = f32[100]{0} all-gather(%a), channel_id=9, replica_groups=mesh['data'=2,'fsdp'=4] \
{'fsdp'}, frontend_attributes={chain_id="3"}
}

ENTRY %main.9 (q: f32[25]) -> f32[100] {
  %kernel = f32[25] custom-call(%q), custom_call_target="tpu_custom_call", metadata={op_name="a
}}, metadata of a Pallas kernel"}
  %first = f32[100] fusion(%kernel), kind=kCustom, calls=%start.1
  ROOT %last = f32[100] fusion(%first), kind=kCustom, calls=%done.2
}
"""
    (found,) = collectives(text, 8)
    assert (found.kind, found.count, found.sent) == ("all-gather", 1, 300)


@pytest.mark.parametrize(
    ("instruction", "kind", "sent"),
    [
        ("(f32[32]{0}, f32[32]{0:T(128)}, f32[32]{0}) all-gather(%a, %b, %c)", "all-gather", 288),
        (
            "((f32[8], f32[8]{0:T(128)S(1)}), (f32[32], f32[32])) all-gather-start(%a, %b)",
            "all-gather",
            192,
        ),
        ("(f32[8], f32[32]) all-gather-start(%a)", "all-gather", 96),
        ("(f32[8], bf16[8]) reduce-scatter(%a, %b)", "reduce-scatter", 3 * (32 + 16)),
        (
            "((f32[32], f32[32]), (f32[8], f32[8])) reduce-scatter-start(%a, %b)",
            "reduce-scatter",
            192,
        ),
        ("(f32[8], /*index=1*/f32[8]) all-reduce(%a, %b)", "all-reduce", 2 * 64 * 3 / 4),
        ("f32[8]{0} all-reduce-start(%a)", "all-reduce", 2 * 32 * 3 / 4),
        ("(f32[8], f32[8]) all-reduce-start(%a, %b)", "all-reduce", 2 * 64 * 3 / 4),
        ("(f32[8], f32[8], f32[8], f32[8]) all-to-all(%a, %b, %c, %d)", "all-to-all", 96),
        (
            "(f32[8]{0:T(128)S(1)}, f32[8]{0}, u32[]{:S(2)}, u32[]{:S(2)}) "
            "collective-permute-start(%a)",
            "collective-permute",
            32,
        ),
        (
            "((f32[8], f32[8]), (f32[8], f32[8])) collective-permute-start(%a, %b)",
            "collective-permute",
            64,
        ),
    ],
)
def test_a_combined_or_asynchronous_collective_sends_each_result_once(
    instruction: str, kind: str, sent: float
) -> None:
    text = f"ENTRY %main.9 (q: f32[8]) -> f32[8] {{\n  %x = {instruction}\n}}"
    (found,) = collectives(text, 4)
    assert (found.kind, found.count, found.sent) == (kind, 1, sent)
