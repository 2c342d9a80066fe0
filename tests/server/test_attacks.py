"""One test for each attack on another engine that could be one on ours (rows of the table in docs/*/security.md)."""

import ast
import re
import socket
import time
from pathlib import Path

import pytest
from tests.server.running import KEY, made_service, serving
from tests.server.speaker import write_speaker
from tests.tiny import write_tiny

import danlu
from danlu.server import auth
from danlu.server.app import Access, routers
from danlu.server.auth import Keys
from danlu.server.models import Served
from danlu.tokenizer import sandbox

SOURCES = [path for path in Path(danlu.__file__).parent.rglob("*.py") if path.parent.name != "__pycache__"]
ASK = {"model": "speaker", "max_tokens": 2}
CHAT = {**ASK, "messages": [{"role": "user", "content": "H"}]}
OTHER = "key-of-another-tenant"
HOSTILE = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ self.__init__.__globals__.__builtins__.__import__('os').system('true') }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "changes": "{% set _ = messages.append({'role': 'system', 'content': 'x'}) %}{{ messages }}",
    "endless": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "memory": "{{ 'a' * 9999999999 }}",
    "doubling": "{% set n = namespace(t='aaaa') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
    "broken": "{% if %}",
}


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    """A server with two keys."""
    root = tmp_path_factory.mktemp("tenants")
    write_speaker(root / "speaker")
    with serving(made_service(Served("speaker", root / "speaker")), Access(Keys([KEY, OTHER])), KEY) as running:
        yield running


def well(running):
    assert running.get("/health").status_code == 200
    assert running.post("/v1/chat/completions", CHAT).status_code == 200


def calls(tree):
    """Names that a file imports or calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_nothing_unpickles_and_nothing_runs_code_that_came_with_a_model():
    """Pickle over sockets; torch.load of what clients send; auto_map and trust_remote_code."""
    forbidden = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "zmq", "eval", "exec", "__import__"}
    for path in SOURCES:
        if path.parts[-2] in ("server", "tools", "constrain", "stages") or path.parts[-3] in ("server", "engine"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found = {name.split(".")[0] for name in calls(tree)} & forbidden
            assert not found, (path.name, found)
            assert not [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
                        and not (isinstance(node.value, ast.Constant) and node.value.value is False)], path.name  # fmt: skip
            assert "torch.load" not in set(calls(tree)), path.name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_is_no_program(tmp_path, monkeypatch, name):
    """SGLang CVE-2026-5760, llama-cpp-python 2024: a chat template out of a model folder."""
    monkeypatch.setattr(sandbox.SHARED, "deadline_s", 1.0)
    write_tiny(tmp_path / "model", max_position_embeddings=64)
    (tmp_path / "model" / "chat_template.jinja").write_text(HOSTILE[name])
    with serving(made_service(Served("speaker", tmp_path / "model"))) as running:
        started = time.monotonic()
        answer = running.post("/v1/chat/completions", CHAT)
        assert answer.status_code == 400 and time.monotonic() - started < 25
        assert answer.json()["error"]["code"] in ("chat_template_refused", "too_slow", "invalid_value", "context_length_exceeded")
        assert "uid=" not in answer.text and "/" not in answer.json()["error"]["message"].replace("/v1", "")
        assert running.get("/health").status_code == 200


@pytest.mark.parametrize(
    "given", [{"tokenize": True}, {"chat_template": "x"}, {"messages": 1}, {"bos_token": "x"}, {"add_generation_prompt": False}]
)
def test_only_the_templates_own_switches_reach_it(tenants, given):
    """vLLM CVE-2025-62426."""
    answer = tenants.post("/v1/chat/completions", {**CHAT, "chat_template_kwargs": given})
    assert answer.status_code == 400 and answer.json()["error"]["param"].startswith("chat_template_kwargs")
    assert tenants.post("/v1/chat/completions", {**CHAT, "chat_template": "x"}).json()["error"]["code"] == "unknown_parameter"


@pytest.mark.parametrize(
    "name", ["prompt_embeds", "n_discard", "kv_transfer_params", "lora_path", "guided_json", "mm_processor_kwargs"]
)
def test_fields_of_other_engines_are_refused(tenants, name):
    """vLLM CVE-2025-62164 (tensors from clients), llama.cpp CVE-2026-21869 (a negative count)."""
    for path, body in (("/v1/chat/completions", CHAT), ("/v1/completions", {**ASK, "prompt": "x"})):
        answer = tenants.post(path, {**body, name: -1})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == name


def test_no_route_loads_uploads_or_controls():
    """ollama CVE-2026-7482; vLLM's unguarded control routes."""
    paths = [route.path for router in routers(page=True) for route in router.routes]
    words = (
        "load",
        "upload",
        "pull",
        "push",
        "create",
        "convert",
        "delete",
        "pause",
        "sleep",
        "reset",
        "lora",
        "shutdown",
        "debug",
    )
    assert not [path for path in paths if any(word in path.lower() for word in words)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308"])
@pytest.mark.parametrize("field", ["temperature", "top_p", "repetition_penalty", "frequency_penalty", "min_p", "logit_bias"])
def test_no_number_that_is_none_reaches_the_engine(tenants, field, value):
    """vLLM GHSA-7h4p-rffg-7823."""
    text = f'{{"5": {value}}}' if field == "logit_bias" else value
    content = f'{{"model": "speaker", "prompt": "x", "max_tokens": 1, "{field}": {text}}}'.encode()
    answer = tenants.post(
        "/v1/completions", content=content, headers={**tenants.headers, "content-type": "application/json"}, json=None
    )
    assert answer.status_code == 400


def test_no_token_beyond_the_vocabulary_is_taken_or_given(tenants):
    """vLLM GHSA-8wr5-jm2h-8r4f."""
    known = tenants.service.models.all[0].tokenizer.vocab_size
    for body in ({"prompt": [known]}, {"prompt": [[5, 2**31 - 1]]}, {"prompt": "x", "logit_bias": {str(known): 100}}):
        assert tenants.post("/v1/completions", {**ASK, **body}).status_code == 400
    drawn = tenants.post("/v1/completions", {**ASK, "prompt": "x", "max_tokens": 60, "temperature": 2, "logprobs": 20}).json()
    assert drawn["usage"]["completion_tokens"] >= 1


def held(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}


@pytest.mark.parametrize("body", [
    {"prompt": ""}, {"prompt": [""]}, {"prompt": "\x00"}, {"prompt": "\ufffe\ufdd0\ufdd1\ue000"}, {"prompt": "a", "suffix": ""},
    {"prompt": "a", "stop": "\u0301"}, {"prompt": "a", "choices": [" "]}, {"prompt": "a", "regex": "[^\\x00-\\x7f]+"},
    {"prompt": "a", **held({"type": ["no-such-type"], "pattern": 5})}, {"prompt": "a", **held({"$ref": "#"})},
    {"prompt": "a", "choices": ["b"], "logit_bias": {str(one): -100 for one in range(259)}},
], ids=range(11))  # fmt: skip
def test_odd_input_is_answered_or_refused_and_kills_nothing(tenants, body):
    """vLLM CVE-2024-8768 (an empty prompt), CVE-2025-48944 (malformed pattern and type)."""
    assert tenants.post("/v1/completions", {**ASK, **body}).status_code in (200, 400)
    well(tenants)


@pytest.mark.parametrize("spec", [
    {"regex": "((a{0,99}){0,99}){0,99}"}, {"regex": "(a|aa|aaa|aaaa)*" * 50 + "b"}, {"regex": "(?=(a+)+$)x"},
    {"regex": "[" * 5000},
    {"grammar": "start: " + " | ".join(f'"{number}"' for number in range(5000)), "temperature": 2, "seed": 3},
    held({"type": "string", "maxLength": 10**9}), held({"enum": [str(one) for one in range(9000)]}),
], ids=range(7))  # fmt: skip
def test_a_form_that_explodes_is_given_up_in_time(tenants, spec):
    """vLLM GHSA-rwxx-mrjm-wc2m."""
    started = time.monotonic()
    answer = tenants.post("/v1/completions", {**ASK, "prompt": "x", **spec})
    assert answer.status_code in (200, 400) and time.monotonic() - started < 20
    well(tenants)


@pytest.mark.parametrize("body", [
    {"n": 16384}, {"n": 9}, {"best_of": 100}, {"prompt": ["x"] * 1024}, {"stop": ["a"] * 5}, {"logprobs": 10**6},
    {"choices": ["a"] * 5000}, {"logit_bias": {str(one): 1 for one in range(1025)}}, {"max_tokens": 10**9, "n": 8},
    {"metadata": {str(one): "" for one in range(99)}}, {"stop": "x" * 10_000}, {"regex": "a" * 100_000}, {"model": "x" * 10_000},
], ids=range(13))  # fmt: skip
def test_counts_have_limits(tenants, body):
    """vLLM took n up to 16384."""
    assert tenants.post("/v1/completions", {**ASK, "prompt": "x", **body}).status_code in (400, 404)


def test_nothing_is_fetched(tenants):
    """TGI CVE-2026-0599, LMDeploy CVE-2026-33626: links in messages."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/x.png"
        image = [{"type": "image_url", "image_url": {"url": url}}]
        assert tenants.post("/v1/chat/completions", {**ASK, "messages": [{"role": "user", "content": image}]}).status_code == 400
        link = [{"role": "user", "content": f"![a]({url}) <img src='{url}'>"}]
        assert tenants.post("/v1/chat/completions", {**ASK, "messages": link}).status_code == 200
        with pytest.raises(TimeoutError):
            trap.accept()


def test_no_error_tells_about_this_machine(tenants, tmp_path):
    """vLLM CVE-2026-22778: an address in an error text."""
    bodies = [{}, {"model": None}, {**CHAT, "messages": {}}, {**CHAT, "tools": [5]}, {**ASK, "prompt": {"a": "b"}},
              {"model": "../../x", "prompt": "a"}, {**CHAT, "regex": "("}, {"model": str(tmp_path), "prompt": "a"}]  # fmt: skip
    routes = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/tokenize")
    texts = [tenants.post(path, body).text for path in routes for body in bodies]
    strange = ("/v1/models/../../etc/passwd", "/v1/danlu/runs/..%2f..%2fetc", "/studio/..%2f..%2fapp.py")
    texts += [tenants.get(path).text for path in strange]
    telling = re.compile(r"0x[0-9a-f]{6,}|object at|Traceback|site-packages|danlu/(server|engine)|/usr/|/tmp/pytest")
    for text in texts:
        assert not telling.search(text.replace(str(tmp_path), "")), text  # what was sent may be named


def test_keys_are_compared_in_constant_time_and_all_of_them(monkeypatch):
    """vLLM CVE-2025-59425."""
    compared = []
    real = auth.hmac.compare_digest
    monkeypatch.setattr(auth.hmac, "compare_digest", lambda one, other: compared.append(len(one)) or real(one, other))
    keys = Keys([KEY, OTHER, "a-third-key"])
    for asked in (KEY, OTHER, "nobody's key", "x" * 100_000):
        compared.clear()
        keys.owner(asked)
        assert compared == [32, 32, 32]


def test_one_tenants_cache_tells_another_nothing(tenants):
    """vLLM CVE-2025-46570: time tells what others asked."""
    body = {**ASK, "prompt": "a secret that only one tenant knows, and long enough to fill blocks" * 3}

    def cached(key):
        answer = tenants.post("/v1/completions", body, headers={"x-api-key": key})
        return answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached(KEY) == 0 and cached(KEY) > 0
    assert cached(OTHER) == 0 and cached(OTHER) > 0
