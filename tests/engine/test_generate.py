"""Answers: reproducible, streamed or not, ended by what should end them, and equal to transformers' where chance is out."""

import numpy as np
import pytest
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.core.errors import BadInput, PromptTooLong
from danlu.engine.generate import Writing, answer_room
from danlu.engine.model import load
from danlu.engine.request import MOST_TOKENS, Sampling

PROMPT = "Once 丹 upon <|endoftext|>"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny(folder, max_position_embeddings=128)
    return load(folder)


class Script:
    """A decoder that says a given text, byte by byte, whatever it reads."""

    def __init__(self, text, tokenizer):
        self.ids, self.size, self.length, self.at = [*tokenizer.encode(text)], tokenizer.vocab_size, 0, 0

    def read(self, ids):
        logits = np.full(self.size, -30, np.float32)
        if self.at < len(self.ids):
            logits[self.ids[self.at]] = 30
        else:
            logits[0] = 30
        self.at += 1
        return logits


def say(text, room=50, **settings):
    tokenizer = tiny_tokenizer()
    return Writing(Script(text, tokenizer), [5], room, Sampling(**settings), tokenizer, {0})


def test_the_end_token_ends_and_is_not_text():
    writing = say("done")
    assert "".join(writing) == "done"
    assert writing.reason == "eos" and writing.ids[-1] == 0 and len(writing.ids) == 5


def test_a_stop_text_that_straddles_tokens_ends_the_answer_and_is_not_part_of_it():
    writing = say("first STOP second", stop=["STOP"])
    assert "".join(writing) == "first "
    assert writing.reason == "stop" and writing.stop == "STOP"


def test_the_limit_ends_and_a_half_stop_text_is_given_back():
    writing = say("first STOP", room=8, stop=["STOP"])
    assert "".join(writing) == "first ST"
    assert writing.reason == "length" and len(writing.ids) == 8


def test_pieces_are_whole_characters():
    pieces = list(say("炉火纯青"))
    assert pieces == ["炉", "火", "纯", "青"]


@pytest.mark.parametrize(("prompt", "asked", "context", "room"), [(5, None, 12, 7), (5, 3, 12, 3), (1, None, 9999, MOST_TOKENS)])
def test_room(prompt, asked, context, room):
    assert answer_room(prompt, asked, context) == room


@pytest.mark.parametrize(("prompt", "asked"), [(12, None), (13, None), (10, 3)])
def test_a_prompt_that_does_not_fit_is_refused_with_both_counts(prompt, asked):
    with pytest.raises(PromptTooLong, match=rf"{prompt} tokens .* context of 12"):
        answer_room(prompt, asked, 12)


def test_an_empty_prompt_without_a_beginning_is_refused():
    with pytest.raises(BadInput, match="empty"):
        Writing(Script("x", tiny_tokenizer()), [], 5, Sampling(), tiny_tokenizer(), {0})


WILD = {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2, "seed": 5}


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"seed": 3}, WILD])
def test_same_seed_same_answer_streamed_or_not_and_whatever_ran_before(model, settings):
    first = model.generate(PROMPT, max_tokens=30, **settings)
    other = model.stream("something else", max_tokens=30, seed=9)
    next(other)
    second = model.stream(PROMPT, max_tokens=30, **settings)
    pieces = []
    for piece in second:  # two answers in turn
        pieces.append(piece)
        next(other, None)
    assert "".join(pieces) == first


def test_another_seed_another_answer(model):
    assert model.generate(PROMPT, max_tokens=30, seed=1) != model.generate(PROMPT, max_tokens=30, seed=2)


def test_a_shorter_answer_begins_the_longer_one(model):
    short, long = (list(model.write(PROMPT, Sampling(max_tokens=size, seed=4)).tokens()) for size in (7, 20))
    assert long[:7] == short


@pytest.mark.parametrize("settings", [{}, {"seed": 11, "temperature": 1.0, "top_k": 40}])
def test_the_fast_decoder_and_the_model_write_the_same_tokens(model, settings):
    settings = Sampling(**{"temperature": 0, "max_tokens": 40, **settings})
    fast = list(model.write(PROMPT, settings).tokens())
    model.fast, model._prepared = False, None
    try:
        assert list(model.write(PROMPT, settings).tokens()) == fast
    finally:
        model.fast = True


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_greedy_answers_equal_transformers(tmp_path, family, penalty):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    write_tiny(tmp_path, family, seed=7)
    ours = load(tmp_path)
    prompt = ours.encode("a 丹 b")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, repetition_penalty=penalty)[0]
    writing = ours.write("a 丹 b", Sampling(temperature=0, max_tokens=20, repetition_penalty=penalty))
    list(writing)
    assert writing.ids == expected.tolist()[len(prompt) :]
