"""Text from events: whole characters only, stop texts that straddle tokens, and pieces that join to the whole."""

import json
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.fake_runner import FakeRunner
from tests.tiny import SPECIAL, tiny_tokenizer, write_tiny

from danlu.core.errors import AnswerFault
from danlu.engine.answer import Delta, PromptRead, Reader, answered
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, FaultEvent, PromptEvent, TokenEvent
from danlu.engine.generate import Writing
from danlu.engine.job import Job
from danlu.engine.model import load
from danlu.engine.request import Sampling
from danlu.engine.runners.solo import SoloRunner
from danlu.engine.scheduler import Limits
from danlu.tokenizer.trainers import TRAINERS

BYTES = tiny_tokenizer()
TEXTS = st.text(st.sampled_from("ab丹炉é🙂\u0301 END"), max_size=14)


def bpe():
    """A tokenizer whose tokens hold several characters and parts of characters."""
    text = ["the END of the 丹炉 end 丹丹 abab EN D 🙂🙂 é"] * 9
    return TRAINERS.build(TRAINERS["bpe"].Config()).train(iter(text), ("<|endoftext|>",), 280)


PAIRS = bpe()


def told(tokenizer, ids, stops=(), ends=frozenset(), reason="length"):
    """All deltas of one answer, and where they ended."""
    reader = Reader(tokenizer, stops, 1, ends)
    made = []
    for place, token in enumerate(ids):
        made += reader.push(TokenEvent(0, token, -0.1 * place, ((token, -0.1),)))
        if reader.done:
            return made
    return made + reader.push(EndEvent(0, reason))


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, stops=st.lists(st.sampled_from(["END", "丹炉", "b", "ED", "🙂a"]), max_size=2), pairs=st.booleans())
def test_pieces_join_to_the_text_before_the_first_stop(text, stops, pairs):
    tokenizer = PAIRS if pairs else BYTES
    made = told(tokenizer, tokenizer.encode(text), stops)
    shown = "".join(delta.text for delta in made)
    found = [(text.find(stop), stop) for stop in stops if stop in text]
    wanted = text[: min(found)[0]] if found else text
    assert shown == wanted
    assert all("\ufffd" not in delta.text for delta in made)
    assert b"".join(token.bytes for delta in made for token in delta.tokens) == wanted.encode()
    assert made[-1].reason == ("stop" if found else "length") and all(delta.reason is None for delta in made[:-1])
    assert made[-1].stop == (min(found)[1] if found else None)


@given(cut=st.integers(1, 6))
def test_half_a_character_at_the_end_is_left_out(cut):
    ids = BYTES.encode("a丹🙂")[: 8 - cut]
    made = told(BYTES, ids)
    assert "".join(delta.text for delta in made) == bytes(BYTES.token_bytes(i)[0] for i in ids).decode(errors="ignore")
    assert made[-1].used == len(ids)


def test_the_token_that_ends_has_no_text_but_counts():
    end = BYTES.special_tokens["<|endoftext|>"]
    made = told(BYTES, [*BYTES.encode("hi"), end], ends=frozenset({end}), reason="eos")
    assert "".join(delta.text for delta in made) == "hi" and made[-1].reason == "eos" and made[-1].used == 3


def test_a_stop_text_shows_nothing_of_itself_even_for_a_moment():
    made = told(BYTES, BYTES.encode("the ENx END"), ["END"])
    texts = [delta.text for delta in made]
    assert "".join(texts) == "the ENx "
    ended = [so_far for so_far in accumulate(texts) if so_far.endswith("E")]
    assert not ended  # "ENx" came whole, once it could no longer become the stop text


def test_the_prompts_tokens_come_with_their_bytes():
    reader = Reader(BYTES, prompt=BYTES.encode("a丹"))
    scores = ((None, ()), (-1.0, ((98, -0.5),)), (-2.0, ()), (-3.0, ()))
    (read,) = reader.push(PromptEvent(4, 0, scores))
    assert isinstance(read, PromptRead)
    assert b"".join(token.bytes for token in read.tokens) == "a丹".encode()
    assert [token.logprob for token in read.tokens] == [None, -1.0, -2.0, -3.0]


def test_a_fault_is_raised():
    with pytest.raises(AnswerFault, match="too late") as caught:
        Reader(BYTES).push(FaultEvent("deadline", "too late"))
    assert caught.value.kind == "deadline"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny(folder, max_position_embeddings=128)
    return load(folder)


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 1.2, "seed": 4, "top_p": 0.9}, {"stop": ["e", "丹"]}])
def test_an_engine_writes_what_a_single_writing_does(model, sampling):
    sampling = Sampling(max_tokens=40, **sampling)
    prompt = model.encode("Once 丹 upon")
    writing = Writing(model.decoder(100), prompt, 40, sampling, model.tokenizer, model.ends)
    text = "".join(writing)
    for special in SPECIAL:  # the command line writes them out, a server's answers have text alone
        text = text.replace(special, "")
    with Engine(SoloRunner(model), model.tokenizer.vocab_size, Limits(4, 16, 8)) as engine:
        job = Job(tuple(prompt), sampling, 40, model.ends)
        made = [one for one in answered(engine, job, model.tokenizer, sampling.stop) if isinstance(one, Delta)]
    assert "".join(delta.text for delta in made).rstrip("\ufffd") == text.rstrip("\ufffd")
    assert made[-1].reason == writing.reason and made[-1].stop == writing.stop


def test_leaving_early_cancels():
    with Engine(FakeRunner(), 29, Limits(2, 8, 8)) as engine:
        stream = answered(engine, Job((1, 2), Sampling(temperature=0), 50), BYTES)
        next(stream)
        stream.close()
        for _ in range(200):
            if not engine.status().running:
                break
            engine._thread.join(0.01)
        assert engine.status().running == 0 and engine.status().blocks_used == 0


def test_deltas_can_be_told_as_json():
    made = told(BYTES, BYTES.encode("é"))
    assert json.loads(json.dumps([list(token.bytes) for delta in made for token in delta.tokens])) == [[195], [169]]
