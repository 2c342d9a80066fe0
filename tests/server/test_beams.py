"""Beams over HTTP: the answers that transformers finds, and a refusal of all that means nothing beside them."""

import json

import openai
import pytest
import torch
from transformers import AutoModelForCausalLM

from danlu.engine.model import load

ASK = {"model": "speaker", "prompt": "Hi", "max_tokens": 9}


def test_the_best_beams_are_those_of_transformers(folders, client):
    answer = client.completions.create(**ASK, n=2, extra_body={"beams": 4, "length_penalty": 0.6})
    model = load(folders / "speaker")
    ids = model.encode("Hi")
    peer = AutoModelForCausalLM.from_pretrained(folders / "speaker", dtype=torch.float32)
    found = peer.generate(
        torch.tensor([ids]), num_beams=4, num_return_sequences=2, length_penalty=0.6, max_new_tokens=9, do_sample=False
    )
    texts = [model.tokenizer.decode([token for token in row[len(ids) :].tolist() if token not in model.ends]) for row in found]
    assert [choice.text for choice in answer.choices] == [text.rstrip("\ufffd") for text in texts]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage.prompt_tokens == len(ids) and answer.usage.completion_tokens > 0


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"beams": 4, "temperature": 1.0}, "temperature"), ({"beams": 2, "stream": True}, "stream"), ({"beams": 1}, "beams"),
        ({"beams": 2, "n": 3}, "beams"), ({"length_penalty": 1.0}, "length_penalty"), ({"beams": 3, "stop": "x"}, "stop"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_beside_beams_is_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**ASK, extra_body=more)
    assert caught.value.param == param and json.dumps(caught.value.body)
