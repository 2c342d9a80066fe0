"""Several models in one process: adapters by name, encoder-decoders, masked models, and a lock that all share (decision 0134)."""

import json
import threading

import openai
import pytest
import torch
from safetensors.torch import save_file
from tests.server.running import made_service, serving
from tests.tiny import write_tiny

from danlu.core.errors import BadSettings
from danlu.engine.model import load
from danlu.server.models import Models, Served, fingerprint
from danlu.tokenizer.chat import CHATML

ASK = {"prompt": "abc", "max_tokens": 8, "temperature": 0, "extra_body": {"ignore_eos": True}}


def write_adapter(folder, size):
    """A strong adapter of the first layer's queries, as PEFT saves one."""
    folder.mkdir()
    told = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": size,
        "bias": "none",
        "init_lora_weights": True,
        "target_modules": ["q_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(told))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    part = torch.Generator().manual_seed(size)
    shapes = {"A": (2, 24), "B": (60, 2)}
    save_file(
        {name.format(key): torch.randn(shape, generator=part) for key, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A llama with two adapters, a T5, a BERT and a second llama."""
    root = tmp_path_factory.mktemp("many")
    for name, family in (("llama", "llama"), ("other", "llama"), ("t5", "t5"), ("bert", "bert")):
        write_tiny(root / name, family, seed=len(name))
    adapters = {name: write_adapter(root / name, size) for name, size in (("law", 40), ("poems", 60))}
    served = [Served("llama", root / "llama", adapters), *(Served(name, root / name) for name in ("other", "t5", "bert"))]
    with serving(made_service(*served)) as running:
        running.root = root
        yield running


def text(client, model, **more):
    return client.completions.create(model=model, **{**ASK, **more}).choices[0].text


def test_adapters_are_models_of_their_own_name_and_change_the_answer(many):
    client = many.client()
    assert {model.id for model in client.models.list()} == {"llama", "law", "poems", "other", "t5", "bert"}
    assert client.models.retrieve("law").danlu["parent"] == "llama" and client.models.retrieve("llama:law").id == "llama:law"
    base, law, poems = (text(client, name) for name in ("llama", "law", "poems"))
    assert len({base, law, poems}) == 3
    body = {"ignore_eos": True, "adapter": "law"}
    assert text(client, "llama:law") == text(client, "llama", extra_body=body) == text(client, "law", extra_body=body) == law
    answer = client.completions.create(model="law", **{**ASK, "extra_body": {"danlu": {"applied": True}}})
    assert answer.model == "law" and answer.danlu["applied"]["adapter"] == "law" and answer.danlu["applied"]["model"] == "llama"


@pytest.mark.parametrize(("model", "adapter"), [("llama", "none"), ("other", "law"), ("law", "poems")])
def test_an_adapter_that_a_model_has_not_is_refused(many, model, adapter):
    with pytest.raises(openai.BadRequestError) as refused:
        text(many.client(), model, extra_body={"adapter": adapter})
    assert refused.value.param == "adapter"


def test_an_encoder_decoder_reads_a_source_and_writes_as_the_model_does(many):
    model = load(many.root / "t5")
    expected = model.generate("abc", max_tokens=8, temperature=0, ignore_eos=True)
    client = many.client()
    assert text(client, "t5") == expected
    with pytest.raises(openai.BadRequestError) as echo:
        text(client, "t5", echo=True)
    assert echo.value.param == "echo"
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        client.chat.completions.create(model="t5", messages=[{"role": "user", "content": "a"}])


def test_a_model_that_fills_gaps_writes_no_text(many):
    with pytest.raises(openai.BadRequestError) as refused:
        text(many.client(), "bert")
    assert refused.value.code == "unsupported_model" and refused.value.param == "model"


def test_models_that_are_asked_at_the_same_time_answer_as_if_alone(many):
    client, names = many.client(), ["llama", "law", "other", "t5"]
    alone, found = [text(client, name) for name in names], {}
    threads = [threading.Thread(target=lambda name=name: found.update({name: text(many.client(), name)})) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[name] for name in names] == alone


def test_a_fingerprint_names_weights_template_and_adapters(tmp_path):
    write_tiny(tmp_path / "one", seed=1)
    write_tiny(tmp_path / "two", seed=2)

    def of(folder, **more):
        one = Served("m", tmp_path / folder, **more)
        one.model = load(one.path)
        one.template = one.given_template
        return fingerprint(one)

    assert of("one") == of("one") and len({of("one"), of("two"), of("one", given_template=CHATML)}) == 3


def test_names_are_given_once(tmp_path):
    with pytest.raises(BadSettings, match="called a"):
        Models([Served("a", tmp_path), Served("a", tmp_path)])
    with pytest.raises(BadSettings, match="called a"):
        Models([Served("a", tmp_path, {"a": tmp_path})])


def test_a_template_given_on_the_command_line_makes_a_base_model_converse(tmp_path):
    write_tiny(tmp_path / "base", max_position_embeddings=256)
    service = made_service(Served("base", tmp_path / "base", given_template=CHATML))
    with serving(service) as running:
        answer = running.client().chat.completions.create(model="base", messages=[{"role": "user", "content": "a"}], max_tokens=2)
        assert answer.usage.completion_tokens >= 1
    ends = service.models.all[0].turn_ends
    assert ends == {service.models.all[0].tokenizer.special_tokens["<|im_end|>"]}
