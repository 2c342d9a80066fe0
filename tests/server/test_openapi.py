"""The document says what the server does: every field with its limits, no field that is refused, every error's shape."""

import pytest

from danlu.server import fields, readings
from danlu.server.conversation import Strict


def kinds(base=Strict):
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


@pytest.fixture(scope="module")
def document(live):
    return live.get("/openapi.json").json()


@pytest.mark.parametrize("kind", [fields.Chat, fields.Completion, readings.Embeddings, readings.Rerank, readings.Tokenize])
def test_every_field_stands_in_the_document(document, kind):
    schema = document["components"]["schemas"][kind.__name__]
    assert set(schema["properties"]) == {field.alias or name for name, field in kind.model_fields.items()}
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("kind", sorted({*kinds()}, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_field_is_explained(kind):
    assert [name for name, field in kind.model_fields.items() if not (field.description or "").strip()] == []


def test_limits_and_costs_are_told(document):
    chat = document["components"]["schemas"]["Chat"]["properties"]
    assert {"maximum": 8, "minimum": 1}.items() <= chat["n"]["anyOf"][0].items() and chat["n"]["x-cost"] == fields.EACH
    assert chat["store"]["enum"] == [None, False] and "anyOf" not in chat["store"]


def test_errors_have_their_shape_and_no_answer_is_422(document):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            if path.startswith("/v1/") and not path.startswith("/v1/messages"):
                refused = operation["responses"]["400"]["content"]["application/json"]["schema"]
                assert refused["$ref"].endswith("/Error") and operation["security"]


def test_all_references_point_somewhere(document):
    def refs(tree):
        if isinstance(tree, dict):
            yield from ([tree["$ref"]] if isinstance(tree.get("$ref"), str) else [])
            for part in tree.values():
                yield from refs(part)
        elif isinstance(tree, list):
            for part in tree:
                yield from refs(part)

    for ref in set(refs(document)):
        assert ref.removeprefix("#/components/schemas/") in document["components"]["schemas"]
