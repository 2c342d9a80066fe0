"""Filling gaps: the choices are the model's own, transformers' pipeline finds the same, and who cannot fill says so."""

import pytest
import torch
from tests.tiny import write_tiny

from danlu.core.errors import BadInput, BadSettings, PromptTooLong
from danlu.engine.model import load
from danlu.models import MODELS
from danlu.models.weights import save_model
from danlu.stages import STAGES, settings_of

MASKED = ["bert", "roberta", "modernbert"]
SPECIAL = {0, 1, 2, 3}


@pytest.fixture(params=MASKED)
def model(request, tmp_path):
    write_tiny(tmp_path / "model", request.param)
    return load(tmp_path / "model")


def test_choices_are_the_likeliest_ordinary_tokens_while_all_gaps_are_open(model):
    text = "a <|mask|> and <|mask|>."
    ids = [0, *model.tokenizer.encode(text, allow_special=["<|mask|>"])]
    chances = model.logits([ids])[0].softmax(-1)
    gaps = [at for at, token in enumerate(ids) if token == 3]
    found = model.fill(text, top_k=4)
    assert len(found.choices) == len(gaps) == 2
    for at, choices in zip(gaps, found.choices, strict=True):
        order = [token for token in chances[at].argsort(descending=True).tolist() if token not in SPECIAL][:4]
        assert [choice.token for choice in choices] == order
        torch.testing.assert_close(torch.tensor([choice.probability for choice in choices]), chances[at, order])
        assert [choice.text for choice in choices] == [model.tokenizer.decode([token]) for token in order]


def test_gaps_are_filled_the_surest_first_and_each_sees_those_before(model):
    text = "<|mask|>bc<|mask|>"
    ids = [0, *model.tokenizer.encode(text, allow_special=["<|mask|>"])]

    def chances():
        found = model.logits([ids])[0].softmax(-1)
        found[:, :4] = 0
        return found

    first = max((1, 4), key=lambda at: chances()[at].max())
    ids[first] = int(chances()[first].argmax())
    second = 5 - first
    ids[second] = int(chances()[second].argmax())
    assert model.fill(text).text == model.tokenizer.decode(ids[1:])


def test_transformers_fill_mask_pipeline_finds_the_same_on_the_folder(model):
    import transformers

    pipe = transformers.pipeline("fill-mask", model=str(model.path), device="cpu")
    found = pipe("丹<|mask|> oven", top_k=5)
    ids = model.tokenizer.encode("丹<|mask|> oven", allow_special=["<|mask|>"])
    values, tokens = model.logits([ids])[0, ids.index(3)].softmax(-1).topk(5)
    assert [one["token"] for one in found] == tokens.tolist()
    torch.testing.assert_close(torch.tensor([one["score"] for one in found]), values, rtol=1e-4, atol=1e-6)


def write_bert(folder):
    """A BERT as others publish them: words and their pieces, [CLS] and [SEP] around each text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "old", "monk", "sat", "##s", "##ting", ".", "山", "水", "tea"]
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.decoder = decoders.WordPiece()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)
    save_model(MODELS["bert"].tiny(vocab_size=15), folder)


def test_a_published_bert_is_framed_as_its_tokenizer_says(tmp_path):
    import transformers

    write_bert(tmp_path)
    text = "The old [MASK] sat."
    pipe = transformers.pipeline("fill-mask", model=str(tmp_path), device="cpu")
    wanted = [one for one in pipe(text, top_k=15) if one["token"] > 4]
    found = load(tmp_path).fill(text, top_k=len(wanted))
    assert [choice.token for choice in found.choices[0]] == [one["token"] for one in wanted]
    for choice, one in zip(found.choices[0], wanted, strict=True):
        assert choice.probability == pytest.approx(one["score"], rel=1e-4)
    assert found.text == wanted[0]["sequence"]


def test_other_special_tokens_stay_text(model):
    text = "<|im_start|><|mask|>"
    assert model.fill(text).text.startswith("<|im_start|>") and len(model.fill(text).choices) == 1


def test_what_cannot_be_filled_is_refused(model, tmp_path):
    with pytest.raises(BadInput, match=r"no gap.*<\|mask\|>"):
        model.fill("nothing is missing")
    with pytest.raises(BadInput, match="top_k 0"):
        model.fill("<|mask|>", top_k=0)
    with pytest.raises(PromptTooLong, match=r"tokens, and the model's context is 6\d"):
        model.fill("<|mask|>" * 70)
    with pytest.raises(BadInput, match=r"masked model.*<\|mask\|>.*causal"):
        model.generate("once")
    write_tiny(tmp_path / "causal")
    with pytest.raises(BadInput, match="cannot fill gaps"):
        load(tmp_path / "causal").fill("<|mask|>")


def test_a_tokenizer_without_a_mask_token_is_named(tmp_path):
    from tests.tiny import tiny_tokenizer

    write_tiny(tmp_path / "model", "modernbert")
    tiny_tokenizer().save(tmp_path / "model")
    with pytest.raises(BadInput, match="no mask token"):
        load(tmp_path / "model").fill("<|mask|>")


def test_the_command_prints_the_filled_text_and_refuses_settings_of_answers(model, capsys):
    def generate(**settings):
        STAGES["generate"](settings_of("generate")(model=model.path, **settings))

    generate(prompt="a <|mask|>!")
    assert capsys.readouterr().out == model.fill("a <|mask|>!").text + "\n"
    with pytest.raises(BadSettings, match="seed, temperature would change nothing"):
        generate(prompt="a <|mask|>!", temperature=0.5, seed=3)
    with pytest.raises(BadInput, match="masked model"):
        STAGES["chat"](settings_of("chat")(model=model.path))
