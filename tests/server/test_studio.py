"""The studio's files and how they are served; what the page does is in test_studio_browser.py."""

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from http.client import HTTPMessage
from importlib import resources
from urllib.error import HTTPError

import pytest
from tests.server.fake_backend import Fake, serving

from danlu.server import studio

FOLDER = resources.files("danlu.server") / "studio"
SOURCES = {name: asset.content.decode() for name, asset in studio.read_assets().items()}
SCRIPTS = {name: text for name, text in SOURCES.items() if name.endswith(".js")}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(Fake().app()) as found:
        yield found


def get(address: str, method: str = "GET", **headers: str) -> tuple[int, HTTPMessage, bytes]:
    asked = urllib.request.Request(
        address, method=method, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except HTTPError as error:
        return error.code, error.headers, error.read()


def test_every_file_is_served_with_its_type_and_the_policy(address):
    for name, asset in studio.read_assets().items():
        status, headers, body = get(address + studio.ASSETS + name)
        assert (status, headers["content-type"], body) == (200, asset.media_type, asset.content)
        assert headers["content-security-policy"] == studio.POLICY
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    status, headers, body = get(address + "/")
    assert (status, body) == (200, SOURCES["index.html"].encode())
    assert headers["content-security-policy"] == studio.POLICY


def test_the_policy_lets_in_nothing_inline_nothing_evaluated_and_nothing_from_elsewhere():
    rules = dict(rule.split(" ", 1) for rule in studio.POLICY.split("; "))
    assert rules["default-src"] == "'none'"
    assert {name: rules[name] for name in ("script-src", "style-src", "connect-src", "font-src")} == dict.fromkeys(
        ("script-src", "style-src", "connect-src", "font-src"), "'self'"
    )
    assert [rules[name] for name in ("base-uri", "form-action", "frame-ancestors")] == ["'none'"] * 3
    assert "unsafe" not in studio.POLICY and "http" not in studio.POLICY and "*" not in studio.POLICY


@pytest.mark.parametrize(
    "path", ["../studio.py", "%2e%2e/studio.py", "..%2fstudio.py", "lang/../../auth.py", "API.md", "", "lang", "//etc/passwd"]
)
def test_what_is_not_on_the_list_is_not_found(address, path):
    status, headers, body = get(address + studio.ASSETS + path)
    assert (status, body) == (404, b"no such file\n")
    assert headers["content-security-policy"] == studio.POLICY


def test_a_file_that_the_browser_has_is_not_sent_again(address):
    _, headers, _ = get(address + "/studio/main.js")
    status, _, body = get(address + "/studio/main.js", if_none_match=headers["etag"])
    assert (status, body) == (304, b"")
    assert get(address + "/studio/main.js", if_none_match='"other"')[0] == 200


def test_head_tells_what_get_would_and_other_methods_are_refused(address):
    status, headers, body = get(address + "/", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) == len(SOURCES["index.html"].encode())
    assert get(address + "/", method="POST")[0] == 405


def test_only_the_page_needs_no_key():
    assert [studio.is_public(path) for path in ("/", "/studio/main.js", "/studio/lang/zh.json")] == [True] * 3
    assert [studio.is_public(path) for path in ("/v1/models", "/studio", "/studiox", "/v1/danlu/runs", "/metrics", "")] == [
        False
    ] * 6


def test_both_languages_have_the_same_words_with_the_same_places():
    words = {name: json.loads(SOURCES[f"lang/{name}.json"]) for name in ("en", "zh")}
    assert list(words["en"]) == list(words["zh"])
    for key, text in words["en"].items():
        assert text and words["zh"][key]
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", words["zh"][key])), key


def test_every_word_that_is_asked_for_exists_and_every_word_is_asked_for():
    known = set(json.loads(SOURCES["lang/en.json"]))
    code = "\n".join(SCRIPTS.values())
    exact = set(re.findall(r'"([a-z]+(?:[._][a-z_]+)*)"', code)) & known
    asked = set(re.findall(r'\bt\(\s*"([\w.]+)"', code))
    prefixes = set(re.findall(r"t\(`([\w.]+)\$\{", code))
    assert asked <= known
    assert all(any(key.startswith(prefix) for key in known) for prefix in prefixes)
    assert {key for key in known - exact if not any(key.startswith(prefix) for prefix in prefixes)} == set()


FORBIDDEN = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|setHTML|srcdoc"
    r"|\beval\(|new Function"
)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_makes_markup_or_code_of_strings(name):
    assert not re.findall(FORBIDDEN, SCRIPTS[name])
    assert not re.findall(r"""["'`]javascript:""", SCRIPTS[name])
    assert not re.findall(r"""setAttribute\(["'](?:style|on\w+)""", SCRIPTS[name])
    imports = re.findall(r"""from ["']([^"']+)["']""", SCRIPTS[name])
    assert all(re.fullmatch(r"\./\w+\.js", target) and target[2:] in SCRIPTS for target in imports)


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    page = SOURCES["index.html"]
    assert not re.findall(r"<style|\sstyle=|\son\w+=", page)
    assert re.findall(r"<script[^>]*>([^<]+)</script>", page) == []
    for address in re.findall(r"""(?:src|href)=["']([^"']+)""", page):
        assert address.startswith("/studio/") and address.removeprefix("/studio/") in SOURCES
    for name, text in SOURCES.items():
        assert not re.findall(r"@import|url\(", text) or name.endswith(".js"), name
        hosts = set(re.findall(r"https?://([^/\s\"'`)]+)", text)) - {"www.w3.org"}
        assert not {host for host in hosts if "." in host and re.fullmatch(r"[\w.-]+", host)}, name


def test_the_whole_page_is_small():
    assert sum(len(asset.content) for asset in studio.read_assets().values()) < 200_000


def test_many_readers_at_once_get_the_same(address):
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(get(address + "/studio/chat.js")[2])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {SOURCES["chat.js"].encode()} and len(found) == 8
