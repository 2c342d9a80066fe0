"""Templates of published models, as trl carries them: our ids are transformers', and what we teach is what their marks say
within a turn, no header and nothing behind its end; without the marks rendering finds the same."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from danlu.tokenizer.chat import encode_chat
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers.bytes import Bytes
from danlu.tokenizer.turns import end_of_turn, lessons, taught

FOUND = find_spec("trl")
FOLDER = Path(FOUND.origin).parent / "chat_templates" if FOUND and FOUND.origin else None
needs_trl = pytest.mark.skipif(FOLDER is None, reason="trl, whose published templates are read, is not installed")
NAMES = ["cohere", "gemma", "gemma3", "lfm2", "llama3", "phi3", "qwen2_5", "qwen3_instruct_2507", "smolvlm"]
CONTROL = re.compile(r"<\|[^\s<>'\"{}|]+\|>|</?s>|<(?:start_of_turn|end_of_turn|end_of_utterance)>")
TALK = [
    {"role": "user", "content": "炉火?"},
    {"role": "assistant", "content": "Warm."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Hot\n\n  yes."},
]


def read(name):
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def model_of(template):
    """Bytes with the control tokens that a template writes, and those at which its answers end."""
    special = list(dict.fromkeys(["<BOS>", "<EOS>", *CONTROL.findall(template)]))
    made = Bytes(Bytes.Config()).train(special_tokens=special)
    config = {**made.config, "bos_token": "<BOS>", "eos_token": "<EOS>"}
    end = end_of_turn(Tokenizer(made.definition, config, template), template)
    return Tokenizer(made.definition, config, template, [made.special_tokens[end]])


def theirs(tokenizer, messages):
    """Ids and mask by transformers."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer.reference, bos_token="<BOS>", eos_token="<EOS>")
    found = made.apply_chat_template(
        messages, chat_template=tokenizer.chat_template, return_dict=True, return_assistant_tokens_mask=True
    )
    return found["input_ids"], [bool(one) for one in found["assistant_masks"]]


@needs_trl
@pytest.mark.parametrize("name", NAMES)
def test_marks_of_published_templates(name):
    marked, plain = read(f"{name}_training"), read(name)
    tokenizer = model_of(marked + plain)
    tokenizer.chat_template = marked
    found = taught(tokenizer, marked, TALK)
    ids, mask = theirs(tokenizer, TALK)
    assert found.ids == ids == encode_chat(tokenizer, marked, TALK, add_generation_prompt=False)
    inside = [any(turn.start <= at < turn.end for turn in found.turns) for at in range(len(ids))]
    assert found.mask == [one and within for one, within in zip(mask, inside, strict=True)] == inside
    extra = [at for at in range(len(ids)) if mask[at] and not inside[at]]  # newlines of the frame, and the end of the text
    assert {tokenizer.decode([ids[at]]) for at in extra} <= {"\n", "<EOS>"}
    assert taught(tokenizer, plain, TALK) == found


@needs_trl
@pytest.mark.parametrize("name", ["qwen3", "qwen3_5_think", "gptoss"])
def test_templates_that_rewrite_history_teach_each_turn_as_it_is_served(name):
    tokenizer = model_of(read(name))
    found = lessons(tokenizer, tokenizer.chat_template, TALK)
    assert [[turn.message for turn in one.turns] for one in found] == [[1], [3]]
    for one, at in zip(found, (1, 3), strict=True):
        (turn,) = one.turns
        assert one.ids[: turn.start] == encode_chat(tokenizer, tokenizer.chat_template, TALK[:at])
        assert one.ids == encode_chat(tokenizer, tokenizer.chat_template, TALK[: at + 1], add_generation_prompt=False)


@needs_trl
def test_a_switch_is_set_for_lessons_as_for_serving():
    tokenizer = model_of(read("qwen3_5_think"))
    off = {"enable_thinking": False}
    (one, two) = lessons(tokenizer, tokenizer.chat_template, TALK, variables=off)
    for found, at in ((one, 1), (two, 3)):
        prompt = encode_chat(tokenizer, tokenizer.chat_template, TALK[:at], variables=off)
        assert found.ids[: found.turns[0].start] == prompt and "</think>" in tokenizer.decode(prompt[-20:])
        assert "think" not in tokenizer.decode(found.ids[found.turns[0].start :])
