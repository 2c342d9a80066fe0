"""Encoder-decoders in use: the answer to a source equals transformers', streams, ends; a middle is asked for by its tokens."""

import json

import numpy as np
import pytest
import torch
from tests.tiny import SPECIAL, tiny_tokenizer, write_tiny

from danlu.core.errors import BadInput, PromptTooLong
from danlu.engine.decode import ModelDecoder, PrefixDecoder, Seq2SeqDecoder
from danlu.engine.model import Model, load
from danlu.engine.request import Sampling
from danlu.engine.source import around_ids, source_ids
from danlu.models import MODELS
from danlu.models.weights import save_model
from danlu.objectives.fim import MIDDLE, PREFIX, SUFFIX
from danlu.objectives.span import MARKS

TEXT = "What 丹 is <|endoftext|>?"


@pytest.fixture(scope="module", params=["t5", "bart", "marian"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    odd = (
        {"initializer_range": 1.0, "num_decoder_layers": 2} if request.param == "t5" else {}
    )  # transformers 5.23 cannot decode more
    write_tiny(folder, request.param, decoder_start_token_id=tiny_tokenizer().start_id, **odd)
    return load(folder)


def test_the_likeliest_answer_equals_transformers(model):
    import transformers

    name = json.loads((model.path / "config.json").read_text())["architectures"][0]
    reference = getattr(transformers, name).from_pretrained(model.path).eval()
    source = source_ids(model.tokenizer, TEXT, model.context)
    assert source == [*model.tokenizer.encode(TEXT), model.tokenizer.eos_id]
    writing = model.write(TEXT, Sampling(temperature=0, max_tokens=30))
    said = "".join(writing)
    wanted = reference.generate(
        input_ids=torch.tensor([source]), do_sample=False, num_beams=1, max_new_tokens=30, pad_token_id=0,
        attention_mask=torch.ones(1, len(source), dtype=torch.int64),
    )[0].tolist()  # fmt: skip
    assert wanted[0] == model.model.config.decoder_start_token_id
    assert writing.ids == wanted[1:] and writing.prompt_tokens == len(source)
    assert said == model.tokenizer.decode([token for token in writing.ids if token not in model.ends])


def test_streamed_pieces_join_and_seeds_repeat(model):
    settings = {"temperature": 0.9, "seed": 3, "max_tokens": 20}
    pieces = list(model.stream(TEXT, **settings))
    assert len(pieces) > 3 and "".join(pieces) == model.generate(TEXT, **settings) != model.generate(TEXT, max_tokens=20, seed=4)
    stop = "".join(pieces)[4:6]
    assert model.generate(TEXT, stop=[stop], **settings) == "".join(pieces)[: "".join(pieces).index(stop)]


def test_a_step_at_a_time_equals_all_at_once(model):
    decoder, source = Seq2SeqDecoder(model.model, [5, 6, 7], 4), torch.tensor([[5, 6, 7]])
    ids = np.array([0, 9, 8, 11, 30])
    found = [decoder.read(ids[:2]), *(decoder.read(ids[at : at + 1]) for at in range(2, 5))]
    wanted = model.model(torch.from_numpy(ids)[None], source_BS=source)[0, 1:]
    torch.testing.assert_close(torch.from_numpy(np.stack(found)), wanted, rtol=1e-4, atol=1e-4)
    assert decoder.length == 5


def test_the_source_and_the_answer_may_each_fill_the_context(model):
    assert len(model.write("x" * 63, Sampling(max_tokens=63)).ids) == 0
    with pytest.raises(PromptTooLong, match="65 tokens, and the model reads 64"):
        model.generate("x" * 64)
    with pytest.raises(PromptTooLong, match="--max_tokens 63"):
        model.generate("x", max_tokens=64)
    with pytest.raises(BadInput, match="empty"):
        model.generate("")


def test_marks_of_hidden_stretches_are_read_as_such_and_other_special_tokens_are_not():
    tokenizer = tiny_tokenizer(*MARKS[:3])
    ids = source_ids(tokenizer, f"a{MARKS[1]}b<|im_end|>", 99)
    assert ids[1] == tokenizer.special_tokens[MARKS[1]]
    assert tokenizer.special_tokens["<|im_end|>"] not in ids and tokenizer.decode(ids[:-1]) == f"a{MARKS[1]}b<|im_end|>"


def test_a_tokenizer_of_another_tool_frames_its_sources_itself():
    """BART's tokens before and after a text stand in the post-processor of its tokenizer.json."""
    from danlu.tokenizer.tokenizer import Tokenizer

    definition = json.loads(json.dumps(tiny_tokenizer().parts))
    names = definition["added_tokens"]
    special = {
        SPECIAL[number]: {"id": SPECIAL[number], "ids": [names[number]["id"]], "tokens": [SPECIAL[number]]} for number in (1, 2)
    }
    single = [{"SpecialToken": {"id": SPECIAL[1], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
              {"SpecialToken": {"id": SPECIAL[2], "type_id": 0}}]  # fmt: skip
    pair = [*single, {"Sequence": {"id": "B", "type_id": 1}}]
    definition["post_processor"] = {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}
    tokenizer = Tokenizer.build(definition, SPECIAL)
    assert source_ids(tokenizer, "ab", 9) == [1, *tokenizer.encode("ab"), 2]


def test_conversation_is_refused_and_so_is_a_suffix(model):
    with pytest.raises(BadInput, match="encoder-decoder"):
        model.check_goes_on()
    with pytest.raises(BadInput, match="extra_0"):
        model.infill("a", "b")


def test_a_middle_is_asked_for_in_the_order_that_was_trained(tmp_path):
    tokenizer = tiny_tokenizer(PREFIX, MIDDLE, SUFFIX)
    before, middle, after = (tokenizer.special_tokens[name] for name in (PREFIX, MIDDLE, SUFFIX))
    prompt = [tokenizer.bos_id, before, *tokenizer.encode("ab丹"), after, *tokenizer.encode("cd"), middle]
    assert around_ids(tokenizer, "ab丹", "cd") == prompt
    plain = MODELS["qwen3"].tiny(vocab_size=tokenizer.vocab_size)
    model = Model(plain.eval(), tokenizer, tmp_path, frozenset({0}))
    writing = model.write_between("ab丹", "cd", Sampling(temperature=0, max_tokens=8))
    assert "".join(writing) == model.infill("ab丹", "cd", temperature=0, max_tokens=8)
    ids = torch.tensor([prompt])
    for token in writing.ids:
        assert int(plain(ids)[0, -1].argmax()) == token
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    with pytest.raises(BadInput, match=r"fim_prefix.*--objective.name fim"):
        Model(plain, tiny_tokenizer(), tmp_path).infill("a", "b")


def test_a_model_trained_on_prefixes_reads_its_prompt_both_ways(tmp_path):
    from danlu.core.artifact import publish
    from danlu.core.settings import Settings

    class Made(Settings):
        objective: dict

    for name in ("prefix", "causal"):
        with publish(tmp_path / name, kind="model", stage="pretrain", settings=Made(objective={"name": name})) as draft:
            write_tiny(draft.path)
    assert load(tmp_path / "prefix").both_ways and not load(tmp_path / "causal").both_ways
    model = load(tmp_path / "prefix").model
    ids = np.arange(5, 12)
    both, one = PrefixDecoder(model, 9), ModelDecoder(model, 9)
    seen = torch.zeros(1, 7, dtype=torch.bool)
    seen[0, :5] = True
    wanted = model.logits(model.hidden(torch.from_numpy(ids)[None], prefix_BT=seen))[0]
    found = [both.read(ids[:5]), both.read(ids[5:6]), both.read(ids[6:])]
    torch.testing.assert_close(torch.from_numpy(np.stack(found)), wanted[4:], rtol=1e-4, atol=1e-5)
    assert np.abs(one.read(ids[:5]) - found[0]).max() > 1e-3


def test_saved_models_say_what_opens_an_answer(tmp_path):
    save_model(MODELS["t5"].tiny(decoder_start_token_id=4), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["decoder_start_token_id"] == 4
