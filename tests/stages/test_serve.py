"""`danlu serve` as a process: it says where it listens, answers, drains on SIGTERM, and refuses what cannot be."""

import os
import re
import signal
import subprocess
import sys

import httpx2
import pytest
from tests.tiny import write_tiny

from danlu.cli import main
from danlu.core.errors import BadSettings, NotAnArtifact
from danlu.server.models import parse_models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("serve")
    write_tiny(root / "tiny", max_position_embeddings=512)
    return root / "tiny"


def started(*words, **environment):
    """The process and the address that it told."""
    command = [sys.executable, "-m", "danlu.cli", "serve", *map(str, words), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.strip() == "ready":
            break
    found = re.search(r"listening on (http://\S+)", "".join(lines))
    assert found, lines
    return process, found[1], lines


def test_a_server_answers_keeps_its_counsel_and_drains_on_sigterm(folder):
    process, url, lines = started(f"org/tiny={folder}", DANLU_API_KEY="key-of-the-test")
    headers = {"authorization": "Bearer key-of-the-test"}
    body = {"model": "org/tiny", "prompt": "unmistakable words", "max_tokens": 300, "ignore_eos": True, "stream": True}
    assert "curl" in "".join(lines) and "org/tiny" in "".join(lines) and "key-of-the-test" not in "".join(lines)
    try:
        assert httpx2.get(f"{url}/health").status_code == 200
        with httpx2.stream("POST", f"{url}/v1/completions", json=body, headers=headers, timeout=60) as answer:
            events = answer.iter_lines()
            next(events)
            process.send_signal(signal.SIGTERM)
            rest = list(events)
        assert rest[-2] == "data: [DONE]" and '"finish_reason":"length"' in rest[-4]
        told = process.stderr.read()
        assert process.wait(30) == 0 and "stopping" in told and "unmistakable" not in told
    finally:
        process.kill()


def test_a_folder_that_cannot_be_opened_ends_the_process_with_its_error(folder, tmp_path):
    write_tiny(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    command = [sys.executable, "-m", "danlu.cli", "serve", str(tmp_path / "cut"), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "danlu: " in done.stderr and "Traceback" not in done.stderr


def refused(capsys, *words):
    code = main(["serve", *map(str, words)])
    return code, capsys.readouterr().err


def test_what_cannot_be_is_refused_before_anything_listens(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DANLU_API_KEY", raising=False)
    assert refused(capsys, folder, "--host", "0.0.0.0")[0] == 2
    assert refused(capsys, tmp_path)[0] == 2
    assert "called tiny" in refused(capsys, folder, folder)[1]
    assert refused(capsys, folder, "--runs", tmp_path / "none")[0] == 2
    assert refused(capsys, folder, "--adapter", "law")[0] == 2
    assert refused(capsys, folder, "--chat_template", tmp_path / "none")[0] == 2
    assert refused(capsys, folder, "--api_key", "short")[0] == 2
    assert refused(capsys, folder, "--weights", "int3")[0] == 2
    assert refused(capsys)[0] == 2


def test_a_port_that_is_taken_is_said(folder, capsys):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, told = refused(capsys, folder, "--port", taken.getsockname()[1])
    assert code == 2 and "--port" in told


def test_models_are_named_by_their_folder_or_as_said(folder):
    named = parse_models([str(folder), f"a/b={folder}"], [f"law={folder}"])
    assert [(one.id, list(one.adapters)) for one in named.all] == [("tiny", ["law"]), ("a/b", [])]
    with pytest.raises(BadSettings):
        parse_models([str(folder)], [f"tiny={folder}"])
    with pytest.raises(NotAnArtifact, match="NAME=FOLDER"):
        parse_models(["no-such-folder"])
    with pytest.raises(BadSettings):
        parse_models([])


def test_settings_of_the_engine_reach_it_under_their_own_names(folder):
    from danlu.engine.opening import Serving
    from danlu.stages.serve import Serve, serving_of

    made = serving_of(Serve(models=[str(folder)], rows=3, batch_tokens=77, weights="int8"))
    assert (made.rows, made.batch_tokens, made.weights) == (3, 77, "int8")
    assert set(Serving.model_fields) <= set(Serve.model_fields)
