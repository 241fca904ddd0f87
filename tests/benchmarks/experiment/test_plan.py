from pathlib import Path

import pytest

from benchmarks.experiment.plan import PLAN, Plan, SystemConfig, load_plan
from t1_jax.config import undocumented_fields
from t1_jax.errors import ConfigError
from tests.benchmarks.experiment.toys import toy_plan

ROOT = Path(__file__).parents[3]


def test_the_plan_of_the_page_is_read_and_explained():
    plan = load_plan(ROOT / PLAN, ("only=[t1-s3]", "split=validation"))
    assert plan.row_of("t1-s3") == ("t1-s3", "own")
    assert plan.row_of("contrastive") == ("contrastive", "no-think")
    assert plan.row_of("t1-s3/no-think") == ("t1-s3", "no-think")
    assert list(plan.chosen) == ["t1-s3"]
    assert undocumented_fields(Plan) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"only": ("s4",)}, "no system 's4'"),
        ({"reference": "t1"}, "no system 't1'"),
        ({"temperature": 0.0}, "temperature"),
        (
            {"max_queries": 5, "results": Path("docs/experiment/results")},
            "would replace the full ones",
        ),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(tmp_path, fields, message):
    with pytest.raises(ConfigError, match=message):
        toy_plan(**{"results": tmp_path} | fields)


def test_a_model_without_a_thought_is_not_asked_for_one():
    with pytest.raises(ConfigError, match="has no measurement samples"):
        SystemConfig(label="x", kind="no-thought", path=Path("x"), measurements=("samples",))
    with pytest.raises(ConfigError, match="needs a path"):
        SystemConfig(label="x", kind="t1")
