"""Chat templates: the same text as transformers renders, refusals as clear errors, nothing reaches out of the sandbox."""

import pytest

from danlu.core.errors import BadInput
from danlu.tokenizer.chat import CHATML, render
from danlu.tokenizer.trainers.bytes import Bytes

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "炉火? {{ 1 + 1 }}"},
    {"role": "assistant", "content": "Warm."},
]


@pytest.mark.parametrize("prompt", [True, False])
def test_transformers_renders_the_same_text_and_ids(prompt, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = Bytes(Bytes.Config()).train()
    tokenizer.chat_template = CHATML
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = render(CHATML, TALK, add_generation_prompt=prompt)
    assert theirs.apply_chat_template(TALK, tokenize=False, add_generation_prompt=prompt) == text
    assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text, allow_special=tokenizer.special_tokens)


def test_a_template_may_refuse_and_a_message_may_not_fit():
    with pytest.raises(BadInput, match="system comes first"):
        render("{{ raise_exception('system comes first') }}", TALK)
    with pytest.raises(BadInput, match="a role and a content"):
        render(CHATML, [{"role": "user"}])


def test_a_template_cannot_reach_python():
    with pytest.raises(BadInput, match="unsafe"):
        render("{{ messages.__class__.__mro__ }}", TALK)
    with pytest.raises(BadInput, match="unsafe"):
        render("{{ messages.append(1) }}", TALK)
