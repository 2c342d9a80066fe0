"""Answers: reproducible, streamed or not, ended by what should end them, and equal to transformers' where chance is out."""

import numpy as np
import pytest
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.core.errors import BadInput, BadSettings, PromptTooLong
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


def test_an_answer_cannot_end_before_so_many_tokens():
    writing = say("done", min_tokens=9, temperature=0)
    assert len("".join(writing)) >= 9 and writing.reason == "eos"
    assert len(writing.ids) == 10  # the end itself comes as soon as it may


def test_an_answer_that_ignores_ends_has_all_its_tokens():
    writing = say("done", room=20, ignore_eos=True, temperature=0)
    text = "".join(writing)
    assert writing.reason == "length" and len(writing.ids) == 20 and text.startswith("done") and 0 not in writing.ids


def test_biased_tokens_are_forbidden_or_forced():
    tokenizer = tiny_tokenizer()
    (a,), (z,) = tokenizer.encode("a"), tokenizer.encode("z")
    assert "a" not in "".join(say("abracadabra", room=9, logit_bias={a: -100}))
    assert set("".join(say("abracadabra", room=9, logit_bias={z: 100}))) == {"z"}


@pytest.mark.parametrize("settings", [{"frequency_penalty": 2.0}, {"presence_penalty": 2.0}])
def test_penalties_of_the_answer_make_it_more_various(model, settings):
    plain = list(model.write(PROMPT, Sampling(max_tokens=60, temperature=0)).tokens())
    various = list(model.write(PROMPT, Sampling(max_tokens=60, temperature=0, **settings)).tokens())
    assert len(set(various)) > len(set(plain))


def test_typical_sampling_leaves_the_too_likely_and_the_too_unlikely_out(model):
    said = [model.write(PROMPT, Sampling(max_tokens=1, temperature=1, typical_p=0.2, seed=seed)) for seed in range(40)]
    free = [model.write(PROMPT, Sampling(max_tokens=1, temperature=1, seed=seed)) for seed in range(40)]
    assert len({next(writing.tokens()) for writing in said}) < len({next(writing.tokens()) for writing in free})


def test_a_bias_for_a_token_that_does_not_exist_is_refused_and_nothing_left_to_say_is_an_error():
    with pytest.raises(BadSettings, match=r"no token 999.*0 to 258"):
        say("x", logit_bias={999: 1.0})
    broken = say("x")
    broken._decoder.read = lambda ids: np.full(259, np.nan, np.float32)
    with pytest.raises(BadInput, match=r"token 0 of the answer: .*not finite"):
        list(broken)


def test_an_answer_held_to_a_form_is_of_that_form(model):
    pytest.importorskip("llguidance", reason="forms need the extra `serve`")
    from danlu.engine.constrain.compile import compile

    form = compile("choices", ["left", "right"], model.tokenizer, model.ends)
    writing = model.write(PROMPT, Sampling(temperature=1), form.clone())
    assert "".join(writing) in ("left", "right") and writing.reason == "stop"
    cut = model.write(PROMPT, Sampling(temperature=1, max_tokens=3), form)
    assert "".join(cut) in ("lef", "rig") and cut.reason == "length"
