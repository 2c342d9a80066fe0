"""Before step 1: each fault that spoils a model that converses, planted alone, is found; without one nothing is."""

import importlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.tiny import tiny_tokenizer, write_tiny

import danlu
from danlu.core.errors import BadInput, PreflightFailed
from danlu.core.labels import NO_LABEL
from danlu.data.shards import Document
from danlu.models.weights import load_model
from danlu.objectives import OBJECTIVES
from danlu.objectives.frame import Frame
from danlu.tokenizer.chat import CHATML
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.turns import with_template
from danlu.train import preflight
from danlu.train.leaks import packing_leak
from danlu.train.samples import SampleBatches, Samples, pack, read
from danlu.train.served import closes, conversations, differences, stretches

OTHER = (
    "{% for message in messages %}<|im_start|>{{ message.role | upper }}: {{ message.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>ASSISTANT: {% endif %}"
)
SAID = [
    ("Name a metal.", "Gold."),
    ("丹炉是什么？", "炼丹的炉子。"),
    ("Count to five.", "One, two, three, four, five."),
    ("Say nothing.", ""),
    ("Write <|im_end|> out.", "It is <|im_end|>, a token's name."),
]


def talk(*turns):
    return [{"role": role, "content": words} for pair in turns for role, words in zip(("user", "assistant"), pair, strict=True)]


def document(number, messages, path="talks.jsonl"):
    text = "\n".join(message["content"] for message in messages)
    sample = {"messages": json.dumps(messages, ensure_ascii=False), "tools": ""}
    return Document(f"d{number}", "talks", path, number, text, sample=sample)


def documents(count=10):
    system = [{"role": "system", "content": "Be brief."}]
    return [
        document(at + 1, [*(system if at % 3 == 0 else []), *talk(SAID[at % 5], *([SAID[(at + 2) % 5]] if at % 2 else []))])
        for at in range(count)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model that converses."""
    found = tmp_path_factory.mktemp("preflight") / "speaker"
    write_tiny(found, max_position_embeddings=256)
    with_template(Tokenizer.open(found), CHATML).save(found)
    (found / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    return found


@pytest.fixture
def tokenizer(folder):
    return Tokenizer.open(folder)


def encoded(tokenizer, found, most=256, overlong="raise"):
    objective = OBJECTIVES.build(OBJECTIVES["sft"].Config(), tokenizer)
    return read(found, len(found), objective, Frame(tokenizer, False, most, False), overlong)


def check(folder, tokenizer, samples, found=None, **more):
    given = {"folder": folder, "most": 256, "ends": {0, 2}, **more}
    return preflight.check({"train": samples}, {"train": found or documents()}, tokenizer, **given)


def changed(samples, change):
    """The same samples, each after `change`."""
    return Samples([change(one) for one in samples.encoded], samples.places, samples.ledger)


def test_samples_made_here_pass_and_are_counted(folder, tokenizer):
    samples = encoded(tokenizer, documents())
    report = check(folder, tokenizer, samples)
    figures = report.figures["train"]
    assert report.errors == [] and figures["rendered_anew"] == figures["samples"] == 10
    assert figures["taught_turns"] == 15 and figures["left_open"] == 0  # five with two answers, five with one
    assert figures["taught_tokens"] == sum(int((one.targets != NO_LABEL).sum()) for one in samples.encoded)
    assert figures["spell_special_tokens"] and "they stay text" in report.warnings[0]


def test_a_sample_that_lost_its_end_in_silence_is_found(folder, tokenizer):
    """As a tokenizer does that truncates by its own settings: what is left looks whole, and only its length tells."""

    def cut(one):
        whole = len(one.ids) < 60
        return (
            one
            if whole
            else replace(one, **{name: getattr(one, name)[:60] for name in ("ids", "targets", "values", "documents")})
        )

    with pytest.raises(PreflightFailed, match=r"talks.jsonl:\d+ .*learned without its end") as caught:
        check(folder, tokenizer, changed(encoded(tokenizer, documents()), cut))
    assert "tokens are missing at its end, and nobody asked for that" in str(caught.value)


def test_a_sample_cut_by_request_passes_and_one_cut_otherwise_does_not(folder, tokenizer):
    found = [*documents(), document(11, talk(("Go on.", "and on " * 60)))]
    samples = encoded(tokenizer, found, overlong="truncate")
    assert check(folder, tokenizer, samples, found, overlong="truncate").figures["train"]["cut"] == 1
    with pytest.raises(PreflightFailed, match=r"talks.jsonl:11 .*--overlong is drop"):
        check(folder, tokenizer, samples, found, overlong="drop")


def test_another_template_than_that_of_serving_is_found(folder, tokenizer):
    other = with_template(tokenizer, OTHER)
    with pytest.raises(PreflightFailed, match=r"talks.jsonl:\d+ .*training reads other tokens than serving from token 1 on"):
        check(folder, tokenizer, encoded(other, documents()))
    with pytest.raises(PreflightFailed, match="another chat template than"):
        check(folder, other, encoded(other, documents()))
    assert check(folder, other, encoded(other, documents()), template_given=True).errors == []


def test_an_end_of_turn_without_loss_is_found(folder, tokenizer):
    def silent(one):
        targets = one.targets.copy()
        targets[targets == tokenizer.vocab["<|im_end|>"]] = NO_LABEL
        return replace(one, targets=targets)

    found = [one for one in documents() if "nothing" not in one.text]  # an empty answer has no other target
    with pytest.raises(PreflightFailed, match=r"in 7 of 7 samples .*carries no loss.*never stop") as caught:
        check(folder, tokenizer, changed(encoded(tokenizer, found), silent), found)
    assert "talks.jsonl:1 " in str(caught.value)


def test_ends_that_serving_does_not_know_are_found(folder, tokenizer, tmp_path):
    with pytest.raises(PreflightFailed, match=r"<\|im_end\|> \(id 2\).*eos_token_id"):
        check(folder, tokenizer, encoded(tokenizer, documents()), ends={0})
    preflight.check_saved(folder, tokenizer)
    write_tiny(tmp_path / "out")
    plain = Tokenizer(tokenizer.definition, {**tokenizer.config, "eos_token": "<|endoftext|>"}, CHATML)
    plain.save(tmp_path / "out")
    with pytest.raises(PreflightFailed, match=r"eos_token_id does not name <\|im_end\|>"):
        preflight.check_saved(tmp_path / "out", plain)
    with pytest.raises(PreflightFailed, match="not the template that was trained with"):
        preflight.check_saved(tmp_path / "out", with_template(plain, OTHER))


def test_a_template_that_ends_no_turn_is_found(folder, tokenizer):
    endless = Tokenizer(
        tokenizer.definition, tokenizer.config, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )
    with pytest.raises(PreflightFailed, match="closes no answer with a special token"):
        check(folder, endless, encoded(tokenizer, documents()), template_given=True)


def test_taught_tokens_of_others_are_found(folder, tokenizer):
    def greedy(one):
        return replace(one, targets=np.append(one.ids[1:], one.targets[-1:]))

    with pytest.raises(PreflightFailed, match="where serving begins no answer"):
        check(folder, tokenizer, changed(encoded(tokenizer, documents()), greedy))


def test_two_answers_that_fit_each_by_itself_are_no_long_sample(folder, tokenizer):
    """The texts of a pair do not see one another, so the model's context holds each."""
    samples = encoded(tokenizer, documents())
    longest = int(samples.lengths.max())

    def pair(one):
        documents = np.repeat(np.arange(2, dtype=np.int32), len(one.ids))
        doubled = {name: np.tile(getattr(one, name), 2) for name in ("ids", "targets", "values")}
        return replace(one, **doubled, documents=documents)

    report = preflight.Report(figures={"train": {}})
    preflight._check_lengths(report, "train", changed(samples, pair), longest, "raise")
    assert report.errors == []
    preflight._check_lengths(report, "train", changed(samples, pair), longest - 1, "raise")
    assert len(report.errors) == 1


def test_samples_without_labels_padding_and_length_are_found(folder, tokenizer):
    samples = encoded(tokenizer, documents())
    silent = changed(samples, lambda one: replace(one, targets=np.full_like(one.targets, NO_LABEL)))
    with pytest.raises(PreflightFailed, match="10 of 10 samples of the train split ask for no token"):
        check(folder, tokenizer, silent)
    with pytest.raises(PreflightFailed, match="are longer than the 50 tokens"):
        check(folder, tokenizer, samples, most=50)

    def padded(one):
        targets = one.targets.copy()
        targets[-2] = tokenizer.pad_id
        return replace(one, targets=targets)

    with pytest.raises(PreflightFailed, match=r"write the padding token <\|endoftext\|>"):
        check(folder, tokenizer, changed(samples, padded))


def test_held_out_copies_are_told_and_do_not_stop(folder, tokenizer):
    found = documents()
    splits = {"train": encoded(tokenizer, found), "validation": encoded(tokenizer, found[3:5])}
    report = preflight.check(splits, {"train": found, "validation": found[3:5]}, tokenizer, folder=folder, most=256, ends={0, 2})
    assert report.figures["validation"]["also_in_train"] == 2
    assert any("2 of 2 samples of the validation split are in the training part too" in line for line in report.warnings)


def batch_of(tokenizer, row_tokens=256):
    samples = encoded(tokenizer, documents())
    objective = OBJECTIVES.build(OBJECTIVES["sft"].Config(), tokenizer)
    return samples, objective, SampleBatches(samples, objective, 6, row_tokens, 4096, seed=3).step(0)[0]


def test_rows_of_isolated_texts_do_not_leak(folder, tokenizer):
    samples, _, batch = batch_of(tokenizer)
    model = load_model(folder)
    report = check(folder, tokenizer, samples, model=model.train(), batch=batch)
    assert 0 <= report.figures["packing_leak"] < 1e-4 and model.training


@pytest.mark.parametrize("fault", ["one document", "model sees all"])
def test_rows_that_leak_are_found_whoever_is_at_fault(folder, tokenizer, fault):
    samples, objective, batch = batch_of(tokenizer)
    model = load_model(folder)
    if fault == "one document":
        batch.documents = torch.zeros_like(batch.documents)
    else:
        hidden = model.hidden
        model.hidden = lambda ids, documents_BT=None: hidden(ids)
    with pytest.raises(PreflightFailed, match=r"talks.jsonl:\d+ .* and talks.jsonl:\d+ .*see one another"):
        check(folder, tokenizer, samples, model=model, batch=batch)
    alone = pack(objective, [(0, samples.encoded[0])], 16)
    assert packing_leak(model, alone) is None


def test_positions_that_go_on_are_found(folder, tokenizer):
    """Nothing is seen across the border, and yet a text reads otherwise than alone: rotary distances alone would hide it."""
    samples, _, batch = batch_of(tokenizer)
    model = load_model(folder)
    hidden = model.hidden

    def shifted(ids, documents_BT=None):
        found = hidden(ids, documents_BT=documents_BT)
        place = torch.arange(ids.size(1)) if documents_BT is not None else torch.zeros(ids.size(1))
        return found + 0.1 * place[None, :, None]

    model.hidden = shifted
    with pytest.raises(PreflightFailed, match="see one another"):
        check(folder, tokenizer, samples, model=model, batch=batch)


def test_filling_that_asks_is_found(folder, tokenizer):
    samples, _, batch = batch_of(tokenizer)
    row = next(at for at, origin in enumerate(batch.origin) if origin[:, 2].sum() < batch.ids.size(1))
    batch.targets[row, -1] = 7
    with pytest.raises(PreflightFailed, match=rf"row {row} of the first batch asks for tokens in its filling"):
        check(folder, tokenizer, samples, model=load_model(folder), batch=batch)


def test_unknown_characters_are_told_and_many_refused(folder):
    """A vocabulary that knows few letters."""
    bytes_ = tiny_tokenizer("<unk>")
    tokenizer = with_template(Tokenizer(bytes_.definition, {**bytes_.config, "unk_token": "<unk>"}), CHATML)
    samples = encoded(tokenizer, documents())
    unknown = tokenizer.vocab["<unk>"]

    def lost(letters):
        return lambda one: replace(
            one, ids=np.where(np.isin(one.ids, [tokenizer.vocab[letter] for letter in letters]), unknown, one.ids)
        )

    report = preflight.Report(figures={"train": {"tokens": int(samples.lengths.sum())}})
    preflight._check_vocabulary(report, "train", changed(samples, lost("G")), tokenizer, frozenset({2}))
    assert not report.errors and "<unk>" in report.warnings[0]
    preflight._check_vocabulary(report, "train", changed(samples, lost("aeiou")), tokenizer, frozenset({2}))
    assert "the vocabulary cannot write these characters" in report.errors[0]


def test_what_ends_a_turn_with_and_without_calls(tokenizer):
    assert closes(tokenizer, CHATML) == {tokenizer.vocab["<|im_end|>"]}
    before, call, after = CHATML.partition("</tool_call>' }}\n        {%- endfor %}")
    calls = before + call + after.replace("<|im_end|>", "<|endoftext|>", 1)
    assert calls != CHATML
    assert closes(tokenizer, calls) == {tokenizer.vocab["<|im_end|>"], tokenizer.vocab["<|endoftext|>"]}


def test_ids_are_those_of_transformers(folder, tokenizer):
    """The rule that is checked without transformers is the rule of transformers."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    samples = encoded(tokenizer, documents())
    for found, one in zip(documents(), samples.encoded, strict=True):
        (whole,) = conversations(found)
        if "<|" in found.text:
            continue
        ids = theirs.apply_chat_template(whole.messages, tokenize=True, return_dict=False)
        assert ids[: len(one.ids)] == one.ids.tolist()
        for start, _ in stretches(one.targets):
            at = sum(ids[: start + 1].count(tokenizer.vocab[name]) for name in ("<|im_end|>",))
            prompt = theirs.apply_chat_template(whole.messages[:at], add_generation_prompt=True, return_dict=False)
            assert prompt == ids[: start + 1]
        assert list(differences([one], [whole], tokenizer, closes(tokenizer, CHATML), False)) == []


FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content and loop.last %}<think>{{ m.reasoning_content }}</think>\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Shows what was thought in the last answer alone, as Qwen3's does."""


def test_turns_that_need_sequences_of_their_own_are_looked_at_one_by_one(folder, tokenizer):
    forgetful = with_template(tokenizer, FORGETFUL)
    messages = talk(("One?", "1"), ("Two?", "2"))
    for at in (1, 3):
        messages[at]["reasoning_content"] = f"Hm {at}"
    found = [document(1, messages), document(2, talk(("Three?", "3")))]
    samples = encoded(forgetful, found)
    assert len(samples) == 3
    assert check(folder, forgetful, samples, found, template_given=True).figures["train"]["rendered_anew"] == 2
    last = samples.encoded[1]
    both = np.where(
        last.targets == NO_LABEL, np.append(last.ids[1:], NO_LABEL), last.targets
    )  # teaches the turn without thoughts
    spoilt = Samples([samples.encoded[0], replace(last, targets=both), samples.encoded[2]], samples.places, samples.ledger)
    with pytest.raises(PreflightFailed, match=r"talks.jsonl:1 .*where serving begins no answer"):
        check(folder, forgetful, spoilt, found, template_given=True)


@pytest.mark.parametrize(("name", "columns"), [
    ("dpo", ("chosen", "rejected")), ("orpo", ("chosen", "rejected")), ("kto", ("completion",)),
])  # fmt: skip
def test_answers_that_people_judged_are_looked_at_too(folder, tokenizer, name, columns):
    asked = [{"role": "system", "content": "Be kind."}, *talk(("Hello", "Hi")), {"role": "user", "content": "How are you?"}]
    found = []
    for number in range(1, 5):
        said = {column: [{"role": "assistant", "content": f"{column} {number}"}] for column in columns}
        sample = {"prompt": json.dumps(asked), **{key: json.dumps(part) for key, part in said.items()}, "tools": ""}
        found.append(
            Document(f"d{number}", "s", "judged.jsonl", number, "x", sample={**sample, "label": ("true", "false")[number % 2]})
        )
    objective = OBJECTIVES.build(OBJECTIVES[name].Config(), tokenizer)
    samples = read(found, len(found), objective, Frame(tokenizer, False, 256, False), "raise")
    batch = SampleBatches(samples, objective, 4, 256, 4096, seed=3).step(0)[0]
    report = check(folder, tokenizer, samples, found, model=load_model(folder), batch=batch)
    assert report.figures["train"]["taught_turns"] == 8  # two answers each; KTO's second is a stranger's
    assert report.figures["train"]["rendered_anew"] == 4
    assert report.figures["packing_leak"] < 1e-4
    swapped = [Document(**{**vars(one), "sample": {**one.sample, columns[0]: one.sample["prompt"]}}) for one in found]
    with pytest.raises(PreflightFailed, match=r"judged.jsonl:1 .*training reads other tokens"):
        check(folder, tokenizer, samples, swapped)


# ---- through `danlu finetune` itself


@pytest.fixture(scope="module")
def lesson(folder, tmp_path_factory):
    """A speaker, and a data set to teach it."""
    place = tmp_path_factory.mktemp("lesson")
    told = [{"messages": talk((f"Say {'again and ' * (at % 7)}{at}.", f"{at}, {at} " * (1 + at % 5)))} for at in range(24)]
    (place / "talks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    danlu.prepare(str(place / "talks.jsonl"), out=place / "talks", form="messages", holdout=0.1, dedups=[], filters=[],
                  engine="sequential")  # fmt: skip
    return folder, place / "talks"


def finetune(lesson, out, **settings):
    return danlu.finetune(*lesson, out=out, **{"objective": "sft", "steps": 2, "batch": 8, **settings})


def quiet_cut(kept):
    """Truncation in silence: a sample loses its end and says nothing of it."""

    def whole(ids, targets, frame, overlong):
        one = kept(ids, targets, frame, overlong)
        return replace(one, **{name: getattr(one, name)[:50] for name in ("ids", "targets", "values", "documents")})

    return whole


def other_template(kept):
    """Training writes turns in another manner than the folder's template."""
    return lambda tokenizer, template, *more, **named: kept(with_template(tokenizer, OTHER), OTHER, *more, **named)


def endless(kept):
    """The token that ends a turn carries no loss."""

    def lessons(tokenizer, template, *more, **named):
        end = tokenizer.vocab["<|im_end|>"]
        return [
            replace(one, mask=[asked and token != end for token, asked in zip(one.ids, one.mask, strict=True)])
            for one in kept(tokenizer, template, *more, **named)
        ]

    return lessons


def leaky(kept):
    """Samples of a row are one document."""
    return lambda parts, width: replace(kept(parts, width), documents=np.zeros(width, np.int32))


PLANTED = {
    "silent truncation": ("danlu.objectives.sft.whole", quiet_cut, "tokens are missing at its end, and nobody asked for that"),
    "wrong template": ("danlu.objectives.answers.lessons", other_template, "training reads other tokens than serving"),
    "missing end of turn": ("danlu.objectives.answers.lessons", endless, "carries no loss.*would never stop"),
    "packing leak": ("danlu.train.samples._row", leaky, "packed samples see one another"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_caught_before_the_first_step(lesson, tmp_path, monkeypatch, fault):
    place, plant, words = PLANTED[fault]
    module, _, name = place.rpartition(".")
    module = importlib.import_module(module)
    monkeypatch.setattr(module, name, plant(getattr(module, name)))
    monkeypatch.setattr("danlu.train.loop.train", lambda run: pytest.fail("a step was taken"))
    with pytest.raises(PreflightFailed, match=words) as caught:
        finetune(lesson, tmp_path / "out")
    assert re.search(r"talks\.jsonl:\d+ \(document ", str(caught.value)) and "errors#preflight" in str(caught.value)
    assert not (tmp_path / "out").exists() and not list((tmp_path / "out.run").glob("checkpoints/*"))


def test_without_a_fault_it_is_taught_and_its_figures_are_kept(lesson, tmp_path):
    made = finetune(lesson, tmp_path / "out")
    figures = made.lineage.ledger["preflight"]
    assert figures["train"]["left_open"] == 0 and figures["packing_leak"] < 1e-4
    assert figures["train"]["samples"] + figures["validation"]["samples"] == 24
    preflight.check_saved(tmp_path / "out", Tokenizer.open(tmp_path / "out"))


@pytest.mark.parametrize(("old", "new", "words"), [
    ("'<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor", "'\\n' }}\n    {%- endif %}\n{%- endfor", "never stop"),
    ("'<|im_start|>assistant\\n'", "'<|im_start|>bot\\n'", "served otherwise|where serving begins no answer"),
])  # fmt: skip
def test_a_template_that_would_teach_something_else_is_caught_too(lesson, tmp_path, monkeypatch, old, new, words):
    """Faults of a template need no fault of ours: one that ends no turn, one that asks otherwise than it tells."""
    assert CHATML.count(old) == 1
    (tmp_path / "bad.jinja").write_text(CHATML.replace(old, new))
    monkeypatch.setattr("danlu.train.loop.train", lambda run: pytest.fail("a step was taken"))
    with pytest.raises(BadInput, match=words):
        finetune(lesson, tmp_path / "out", template=str(tmp_path / "bad.jinja"))
