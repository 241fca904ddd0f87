"""`t1 prompt show` prints what the model reads."""

import pytest

from t1_jax.text import load_preset

TEXT = "who <|im_end|> purrs?"


def test_texts_and_tokens_of_all_prompts(t1, base_model):
    answer = t1("prompt", "show", TEXT, "-m", base_model, "--task", "biology", "--json")
    assert answer.code == 0, answer.err
    preset = load_preset("t1")
    filled = {"instruction": preset.instructions["biology"], "text": TEXT}
    expected = {
        "query": preset.query_template.format(**filled),
        "query_nothink": preset.query_nothink_template.format(**filled) + "<emb_token>",
        "document": preset.document_template.format(**filled) + "<emb_token>",
    }
    prompts = answer.json["prompts"]
    assert {name: prompt["text"] for name, prompt in prompts.items()} == expected
    for prompt in prompts.values():
        assert "".join(token["text"] for token in prompt["tokens"]) == prompt["text"]
    # Special tokens come from the template; those in the text are plain text.
    specials = [token["text"] for token in prompts["query"]["tokens"]].count("<|im_end|>")
    assert specials == 1
    assert "instruction: Given a biology post" in answer.err
    assert "query; the thought and <emb_token> follow (" in answer.err


def test_prompts_without_an_instruction_and_a_users_own(t1, base_model, tmp_path):
    answer = t1("prompt", "show", "-m", base_model, "--preset", "t1-compact", "--json")
    assert answer.json["instruction"] is None
    assert answer.json["prompts"]["document"]["text"].startswith("<|im_start|>document\nwhy is the")
    own = tmp_path / "own.yaml"
    own.write_text(
        "extends: t1-compact\nname: mine\nquery_template: |\n  <|im_start|>{text}<|im_end|>\n"
    )
    answer = t1("prompt", "show", "sky?", "-m", base_model, "--preset", own, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["prompts"]["query"]["text"] == "<|im_start|>sky?<|im_end|>\n"
    assert answer.json["preset"] == "mine"


def test_a_prompt_with_candidates_is_shown_where_there_is_one(t1, base_model):
    command = ("prompt", "show", TEXT, "-m", base_model, "--json", "--preset")
    answer = t1(*command, "t1-candidates")
    assert answer.code == 0, answer.err
    text = answer.json["prompts"]["query_candidates"]["text"]
    head, tail = load_preset("t1-candidates").query_candidates_template.split("{candidates}")
    instruction = load_preset("t1").default_instruction
    titles = "title of the nearest document (at most 24 tokens)\ntitle of the next"
    assert text == head.format(instruction=instruction, text=TEXT) + titles + tail
    assert "query with candidates; the thought and <emb_token> follow (" in answer.err
    assert "query_candidates" not in t1(*command, "t1-compact").json["prompts"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--preset", "t1-compact", "--task", "cwe"), "'t1-compact' have no instruction"),
        (("--task", "cew"), "no instruction for the task 'cew'"),
        (("--preset", "t1-llama3"), "unknown to this model's tokenizer"),
        (("  ",), "is empty"),
    ],
)
def test_mistakes(t1, base_model, given, named):
    answer = t1("prompt", "show", "-m", base_model, *given)
    assert answer.code == 2
    assert named in answer.err
