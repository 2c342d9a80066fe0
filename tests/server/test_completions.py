"""Texts that go on: indices, echo and log-probabilities as the harness reads them, compared with the model's own logits."""

import openai
import pytest
import torch

from danlu.engine.model import load

ASK = {"model": "speaker", "prompt": "H", "max_tokens": 12, "seed": 3}


def test_answers_of_several_prompts_have_the_indices_of_their_prompts(client):
    prompts = ["H", "i", [70, 71]]
    alone = [client.completions.create(**{**ASK, "prompt": one, "n": 2}) for one in prompts[:2]]
    both = client.completions.create(**{**ASK, "prompt": prompts[:2], "n": 2})
    assert [choice.index for choice in both.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in both.choices] == [choice.text for one in alone for choice in one.choices]
    assert both.usage.completion_tokens == sum(one.usage.completion_tokens for one in alone)
    ids = client.completions.create(**{**ASK, "prompt": [prompts[2], [72]]})
    assert len(ids.choices) == 2 and ids.object == "text_completion" and ids.id.startswith("cmpl-")


@pytest.mark.parametrize("asked", [{}, {"prompt": ["H", "中"], "n": 2}, {"stop": "中"}, {"echo": True, "logprobs": 2}])
def test_a_stream_joined_is_the_answer_in_one_piece(client, asked):
    whole = client.completions.create(**{**ASK, **asked})
    texts, tokens, ends = {}, {}, {}
    chunks = list(client.completions.create(**{**ASK, **asked}, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            if choice.logprobs:
                tokens.setdefault(choice.index, []).extend(zip(choice.logprobs.tokens, choice.logprobs.text_offset))
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == {choice.index: choice.text for choice in whole.choices}
    assert ends == {choice.index: choice.finish_reason for choice in whole.choices}
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == whole.usage.total_tokens
    if "logprobs" in asked:
        said = whole.choices[0].logprobs
        assert tokens[0] == list(zip(said.tokens, said.text_offset))


@pytest.mark.parametrize("most", [0, 1])
def test_echoed_log_probabilities_are_those_of_the_model(folders, client, most):
    """As lm-evaluation-harness asks: ids in, echo, one token or none."""
    model = load(folders / "speaker")
    ids = model.tokenizer.encode("Hi 😀,é!中文.Hi")
    answer = client.completions.create(model="speaker", prompt=ids, max_tokens=most, echo=True, logprobs=2, temperature=0)
    told = answer.choices[0].logprobs
    scores = torch.log_softmax(model.logits([ids])[0].double(), -1)
    expected = [None, *(float(scores[at, token]) for at, token in enumerate(ids[1:]))]
    assert len(told.token_logprobs) == len(ids) + most and told.token_logprobs[0] is None and told.top_logprobs[0] is None
    assert told.token_logprobs[1 : len(ids)] == pytest.approx(expected[1:], abs=1e-4)
    best = [max(one, key=one.get) for one in told.top_logprobs[1 : len(ids)]]
    greedy = [token == int(scores[at].argmax()) for at, token in enumerate(ids[1:])]
    assert [token == name for token, name in zip(told.tokens[1 : len(ids)], best)] == greedy
    assert answer.choices[0].text.startswith("Hi 😀,é!中文.Hi") and answer.usage.completion_tokens == most


def test_an_echo_of_text_is_the_text_and_offsets_point_into_it(client):
    answer = client.completions.create(**{**ASK, "prompt": "中文 text"}, echo=True, logprobs=0)
    choice = answer.choices[0]
    assert choice.text.startswith("中文 text") and len(choice.logprobs.tokens) == answer.usage.total_tokens
    for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset):
        if not token.startswith("bytes:") and not token.startswith("<|"):
            assert choice.text[offset : offset + len(token)] == token


def test_a_token_that_ends_the_answer_is_counted_where_the_prompt_is_echoed(live, client):
    """Else the harness, which drops the last of prompt and answer, would drop one of the prompt's."""
    served = live.service.models.all[0]
    end = str(served.tokenizer.eos_id)
    answer = client.completions.create(**{**ASK, "prompt": [75, 108], "max_tokens": 1, "echo": True, "logprobs": 1},
                                       logit_bias={end: 100})  # fmt: skip
    assert answer.choices[0].finish_reason == "stop" and len(answer.choices[0].logprobs.tokens) == 3


@pytest.mark.parametrize("kind", ["half a character", "a special token"])
def test_a_last_token_without_text_is_counted_where_the_prompt_is_echoed(live, client, kind):
    tokenizer = live.service.models.all[0].tokenizer
    special = next(number for number in tokenizer.special_tokens.values() if number != tokenizer.eos_id)
    half = tokenizer.encode("中")[0] if kind == "half a character" else special
    answer = client.completions.create(**{**ASK, "prompt": [75, 108], "max_tokens": 1, "echo": True, "logprobs": 1},
                                       logit_bias={str(half): 100})  # fmt: skip
    assert len(answer.choices[0].logprobs.tokens) == len(answer.choices[0].logprobs.token_logprobs) == 3


def test_best_of_gives_the_likeliest_of_all(client):
    asked = {**ASK, "temperature": 1.8, "logprobs": 0}
    every = client.completions.create(**asked, n=5).choices
    best = client.completions.create(**asked, n=2, best_of=5).choices
    merit = {choice.text: sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs) for choice in every}
    assert [choice.text for choice in best] == sorted(merit, key=lambda text: -merit[text])[:2]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"prompt": []}, "prompt"), ({"prompt": [[]]}, "prompt[0]"), ({"prompt": [9999]}, "prompt"),
        ({"best_of": 1, "n": 2}, "best_of"), ({"best_of": 3, "stream": True}, "best_of"), ({"max_tokens": 0}, "max_tokens"),
        ({"suffix": "x"}, "suffix"), ({"suffix": "x", "echo": True}, "echo"), ({"logprobs": 21}, "logprobs"),
        ({"prompt": ["x"] * 65}, "prompt"), ({"max_tokens": 5000}, "prompt"),
        ({"n": 8, "best_of": 8, "max_tokens": 1100}, "max_tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(client, asked, param):
    asked = {**ASK, **asked}
    with pytest.raises(openai.BadRequestError) as refused:
        list(client.completions.create(**asked)) if asked.get("stream") else client.completions.create(**asked)
    assert refused.value.param == param and refused.value.message
