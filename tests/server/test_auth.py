"""Nobody without a key, under no foreign name, from no foreign page; and nothing open beyond this machine by accident."""

import http.client

import httpx2
import openai
import pytest
from tests.server.running import KEY, keyed, made_service, serving

from danlu.core.errors import BadSettings
from danlu.server.app import Access, routers
from danlu.server.auth import Keys, check_bind
from danlu.server.models import Served


@pytest.fixture(scope="module")
def guarded(folders):
    """A server that wants a key, and lets one other page in."""
    access = Access(keyed().keys, origins=["https://friend.example"])
    with serving(made_service(Served("base", folders / "base")), access, KEY) as running:
        yield running


def routes():
    for router in routers(page=True):
        for route in router.routes:
            for method in sorted(route.methods):
                yield method, route.path.replace("{model:path}", "base").replace("{name:path}", "x")


MORE = {("GET", "/openapi.json"), ("GET", "/docs"), ("OPTIONS", "/v1/models")}


@pytest.mark.parametrize(("method", "path"), sorted({*routes()} | MORE))
def test_every_route_but_health_and_the_page_wants_a_key(guarded, method, path):
    answer = httpx2.request(method, guarded.url + path, timeout=30)
    if path == "/health" or path == "/" or path.startswith("/studio/"):
        assert answer.status_code in (200, 404) and KEY not in answer.text
    else:
        assert answer.status_code == 401
        assert method == "HEAD" or "key" in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY}"}, {"x-api-key": KEY}])
def test_a_key_is_taken_in_either_header_and_any_case_of_the_scheme(guarded, headers):
    assert guarded.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", [
    {}, {"authorization": "Bearer"}, {"authorization": f"Bearer {KEY}x"}, {"authorization": KEY},
    {"authorization": f"Basic {KEY}"},
    {"x-api-key": KEY[:-1]}, {"authorization": f"Bearer {KEY[:-1]}", "x-api-key": KEY},
    {"authorization": "Bearer \xff".encode("latin-1")},
])  # fmt: skip
def test_any_other_key_is_401_with_a_body(guarded, headers):
    answer = guarded.get("/v1/models", headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer" and answer.headers["x-request-id"]
    assert KEY not in answer.text


def test_the_clients_exception_is_authentication(guarded):
    with pytest.raises(openai.AuthenticationError) as wrong:
        guarded.client(api_key="wrong-key-entirely").models.list()
    assert wrong.value.code == "invalid_api_key" and wrong.value.request_id


def test_a_name_that_dns_points_here_is_refused(guarded):
    for host, status in (
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost:1", 200),
        ("[::1]:5", 200),
        ("[", 403),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", guarded.port)
        connection.putrequest("GET", "/v1/models", skip_host=True)
        connection.putheader("host", host)
        connection.putheader("authorization", f"Bearer {KEY}")
        connection.endheaders()
        assert connection.getresponse().status == status, host
        connection.close()


def test_pages_of_others_are_refused_and_those_named_are_told_so(guarded):
    asked = {**guarded.headers, "origin": "https://evil.example"}
    refused = guarded.post("/v1/completions", {"model": "base", "prompt": "a", "max_tokens": 1}, headers=asked)
    assert refused.status_code == 403 and "access-control-allow-origin" not in refused.headers
    own = guarded.post("/v1/completions", {"model": "base", "prompt": "a", "max_tokens": 1},
                       headers={**guarded.headers, "origin": guarded.url})  # fmt: skip
    assert own.status_code == 200 and "access-control-allow-origin" not in own.headers
    friend = {"origin": "https://friend.example"}
    asking = httpx2.options(f"{guarded.url}/v1/completions", headers={**friend, "access-control-request-method": "POST"})
    assert asking.status_code == 204 and asking.headers["access-control-allow-origin"] == "https://friend.example"
    assert "access-control-allow-credentials" not in asking.headers
    answer = guarded.get("/v1/models", headers={**guarded.headers, **friend})
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://friend.example"
    assert guarded.get("/v1/models", headers=friend).status_code == 401


def test_keys_come_from_file_environment_and_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("DANLU_API_KEY", "from-the-environment")
    file = tmp_path / "keys"
    file.write_text("# team\nfrom-the-file-1\n\nfrom-the-file-2\n")
    keys = Keys.read("from-the-setting", file)
    known = ["from-the-environment", "from-the-file-1", "from-the-file-2", "from-the-setting"]
    assert len({keys.owner(key) for key in known}) == 4 and keys.owner("# team") is None and keys.owner("") is None
    assert not any(key in repr(vars(keys)) for key in known)
    for bad in ("short", "with blank inside", "ключ-ключ"):
        with pytest.raises(BadSettings):
            Keys([bad])
    file.write_text("# nothing\n")
    for place in (file, tmp_path / "missing"):
        with pytest.raises(BadSettings, match="api_key_file"):
            Keys.read(file=place)


def test_other_machines_are_let_in_only_with_a_key_or_by_saying_so():
    with pytest.raises(BadSettings, match="--insecure"):
        check_bind("0.0.0.0", Keys(), insecure=False)
    check_bind("0.0.0.0", Keys([KEY]), insecure=False)
    check_bind("0.0.0.0", Keys(), insecure=True)
    for own in ("127.0.0.1", "localhost", "::1", "[::1]"):
        check_bind(own, Keys(), insecure=False)
