"""What the small server of fake_server.py takes, and what it answers."""

import base64
import itertools
import json
import math
import re
import struct
import time

MODEL, CONTEXT = "maker/fake", 9000
TEXT = "Hello, 你好, 😀! A cup of tea é, 一杯茶; so quick brown foxes jump over lazy dogs. "
OPEN_ENDED = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
WHOLE = {"n": (1, 128), "max_tokens": (1, 10**9), "max_completion_tokens": (1, 10**9), "max_output_tokens": (1, 10**9),
         "seed": (-(2**63), 2**63 - 1), "top_logprobs": (0, 20), "best_of": (0, 20), "dimensions": (1, 8)}  # fmt: skip
CHAT_FIELDS = {*OPEN_ENDED, *WHOLE, "model", "messages", "stop", "logit_bias", "logprobs", "stream", "stream_options", "tools",
               "tool_choice", "response_format", "moderation"} - {"best_of", "dimensions", "max_output_tokens"}  # fmt: skip


class Refusal(Exception):
    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = "invalid_value"):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


def read(raw):
    def refuse(literal):
        raise Refusal(400, f"{literal} is no JSON")

    try:
        text = raw.decode("utf-8")
        body = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "the body is no JSON object")
    return body


def problem(status, message, param=None, code=None):
    return {"message": message, "type": "invalid_request_error" if status < 500 else "server_error", "param": param, "code": code}


def model():
    return {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "tests"}


def need(holds, param, message="cannot be", code="invalid_value"):
    if not holds:
        raise Refusal(400, f"{param} {message}", param, code)


def whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def validate(path, body):
    need(isinstance(body.get("model"), str), "model")
    if body["model"] != MODEL:
        raise Refusal(404, "no such model", "model", "model_not_found")
    for field, (low, high) in OPEN_ENDED.items():
        value = body.get(field)
        need(value is None or ((whole(value) or isinstance(value, float)) and low <= value <= high), field)
    for field, (low, high) in WHOLE.items():
        low = 0 if path == "/v1/completions" and field == "max_tokens" else low
        need(body.get(field) is None or (whole(body[field]) and low <= body[field] <= high), field)
    stop = body.get("stop")
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    need(isinstance(stops, list) and len(stops) <= 4 and all(isinstance(one, str) and one for one in stops), "stop")
    need(isinstance(body.get("stream"), bool | None), "stream")
    need(not body.get("stream_options") or body.get("stream"), "stream_options")
    need("logit_bias" not in body or body["logit_bias"] is None or (isinstance(body["logit_bias"], dict) and all(
        re.fullmatch(r"\d{1,3}", key) and whole(value) and -100 <= value <= 100 for key, value in body["logit_bias"].items())),
        "logit_bias")  # fmt: skip
    if path == "/v1/chat/completions":
        for field in body:
            need(field in CHAT_FIELDS, field, "is not known", "unknown_parameter")
        need(body.get("top_logprobs") is None or body.get("logprobs"), "top_logprobs")
        validate_messages(body.get("messages"))
        validate_tools(body)
    if path == "/v1/completions":
        prompt = body.get("prompt")
        need(isinstance(prompt, str | list) and prompt, "prompt")
        for one in prompt if isinstance(prompt, list) else ():
            for part in one if isinstance(one, list) else (one,):
                need((isinstance(part, str) and part) or (whole(part) and 0 <= part < 100_000), "prompt")
        need(whole(body.get("logprobs") or 0) and 0 <= (body.get("logprobs") or 0) <= 5, "logprobs")
        need(body.get("best_of") is None or body["best_of"] >= (body.get("n") or 1), "best_of")
        need("suffix" not in body, "suffix", "is not supported", "unsupported_parameter")
    if path in ("/v1/embeddings", "/v1/responses"):
        given = body.get("input")
        need(isinstance(given, str | list) and given, "input")
        need(all(one or one == 0 for one in given) if isinstance(given, list) else True, "input")
        need("previous_response_id" not in body, "previous_response_id", "is not supported", "unsupported_parameter")


def validate_messages(messages):
    need(isinstance(messages, list) and messages, "messages")
    called = set()
    for one in messages:
        need(isinstance(one, dict) and one.get("role") in ("system", "developer", "user", "assistant", "tool"), "messages")
        need(one.get("content") is not None or one.get("tool_calls"), "messages")
        called |= {call["id"] for call in one.get("tool_calls") or ()}
        need(one["role"] != "tool" or one.get("tool_call_id") in called, "messages")
    size = sum(len(plain(one)) for one in messages)
    need(size <= CONTEXT, "messages", f"has {size} tokens, the context {CONTEXT}", "context_length_exceeded")


def validate_tools(body):
    tools, choice, shape = body.get("tools"), body.get("tool_choice"), body.get("response_format")
    need(tools is None or isinstance(tools, list), "tools")
    for tool in tools or ():
        need(isinstance(tool, dict) and re.fullmatch(r"[\w-]+", (tool.get("function") or {}).get("name", "")), "tools")
    need(choice is None or choice in ("none", "auto", "required") or isinstance(choice, dict), "tool_choice")
    if shape is None:
        return
    need(isinstance(shape, dict) and shape.get("type") in ("text", "json_object", "json_schema"), "response_format")
    if shape["type"] == "json_schema":
        schema = (shape.get("json_schema") or {}).get("schema")
        need(isinstance(schema, dict), "response_format")
        need(len(json.dumps(schema)) < 65536 and depth(schema) < 64, "response_format", "is too large")
        need('"not"' not in json.dumps(schema), "response_format", "has the keyword `not`, which is not supported")
        for hard in ("https://", "1000000000", "(a|a)*", '{"a": {"$ref"', '"it": 7'):
            need(hard not in json.dumps(schema), "response_format", "is too hard")


def depth(value):
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, parts), default=0)


def plain(message):
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def written(prompt: str, body, most: int, salt: int = 0) -> tuple[str, str]:
    """An answer and why it ended."""
    places = range(len(TEXT))
    at = (sum(map(ord, prompt)) + salt + (body.get("seed") or 0) * 3) % len(places)
    text = (TEXT[at:] + TEXT * (1 + most // len(TEXT)))[:most]
    stops = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or []
    found = [text.index(stop) for stop in stops if stop in text]
    return (text[: min(found)], "stop") if found else (text, "length")


def usage(prompt: int, completion: int):
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip


def entry(letter, tops):
    def one(text, value):
        return {"token": text, "logprob": value, "bytes": [*text.encode()]}

    return {
        **one(letter, -0.25),
        "top_logprobs": [one(letter, -0.25), *(one(chr(97 + k), -2.0 - k) for k in range(tops - 1))][:tops],
    }


def chat(handler, body):
    prompt = "".join(f"{'system' if one['role'] == 'developer' else one['role']}{plain(one)}" for one in body["messages"])
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 64
    head = {
        "id": f"chatcmpl-{next(handler.server.ids)}",
        "created": int(time.time()),
        "model": MODEL,
        "system_fingerprint": "fp_1",
    }
    choices = []
    for index in range(body.get("n") or 1):
        text, reason = written(prompt, body, most, 0 if body.get("temperature") == 0 else index)
        message = {"role": "assistant", "content": text, "refusal": None}
        if (shape := body.get("response_format")) and shape["type"] != "text":
            schema = shape.get("json_schema", {}).get("schema", {"type": "object"})
            text = json.dumps(example(schema, schema), ensure_ascii=False)
            reason = "length" if len(text) > most else "stop"
            message["content"] = text[:most]
        if body.get("tools") and (body.get("tool_choice") == "required" or isinstance(body.get("tool_choice"), dict)):
            call = {"name": "look_up", "arguments": '{"word": "tea", "exact": true}'}
            message |= {"content": None, "tool_calls": [{"id": f"call_{index}", "type": "function", "function": call}]}
            reason = "tool_calls"
        tops = body.get("top_logprobs") or 0
        logs = (
            {"content": [entry(letter, tops) for letter in message["content"] or ""], "refusal": None}
            if body.get("logprobs")
            else None
        )
        choices.append({"index": index, "message": message, "logprobs": logs, "finish_reason": reason})
    used = usage(len(prompt), sum(len(one["message"]["content"] or "1") for one in choices))
    if body.get("stream"):
        wanted = (body.get("stream_options") or {}).get("include_usage")
        handler.stream(chat_chunks({**head, "object": "chat.completion.chunk"}, choices, used, wanted))
        return handler.slow(most)
    handler.slow(most)
    more = {"moderation": {side: {"type": "error", "code": "none", "message": "no guard"} for side in ("input", "output")}}
    more = more if body.get("moderation") else {}
    handler.reply(200, {**head, "object": "chat.completion", "choices": choices, "usage": used, **more})


def chat_chunks(head, choices, used, wanted):
    def chunk(index, delta, reason=None, logprobs=None):
        more = {"usage": None} if wanted else {}
        return {**head, "choices": [{"index": index, "delta": delta, "finish_reason": reason, "logprobs": logprobs}], **more}

    for one in choices:
        yield chunk(one["index"], {"role": "assistant", "content": ""})
    for one in choices:
        for place, letter in enumerate(one["message"]["content"] or ""):
            logs = {"content": [one["logprobs"]["content"][place]], "refusal": None} if one["logprobs"] else None
            yield chunk(one["index"], {"content": letter}, logprobs=logs)
        for place, call in enumerate(one["message"].get("tool_calls") or ()):
            words = call["function"]["arguments"]
            yield chunk(
                one["index"], {"tool_calls": [{**call, "index": place, "function": {**call["function"], "arguments": ""}}]}
            )
            for part in (words[:9], words[9:]):
                yield chunk(one["index"], {"tool_calls": [{"index": place, "function": {"arguments": part}}]})
    for one in choices:
        yield chunk(one["index"], {}, one["finish_reason"])
    if wanted:
        yield {**head, "choices": [], "usage": used}
    yield "[DONE]"


def example(schema, root, depth=0):
    """A value that fits a schema of the checks."""
    if "$ref" in schema:
        place = root
        for key in schema["$ref"].removeprefix("#/").split("/"):
            place = place[key]
        return example(place, root, depth + 1)
    for key in ("anyOf", "allOf"):
        if key in schema:
            return example(schema[key][-1] if depth > 2 else schema[key][0], root, depth + 1)
    if "enum" in schema or "const" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    match schema.get("type"):
        case "object":
            return {name: example(part, root, depth + 1) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [example(schema["items"], root, depth + 1) for _ in range(schema.get("minItems", 0))]
        case "string":
            return "2026-01-31" if "format" in schema else "ab"[: schema.get("maxLength", 2)]
        case "integer":
            return schema.get("minimum", 0)
        case "null":
            return None
    return True


def completions(handler, body):
    prompts = body["prompt"]
    prompts = [prompts] if isinstance(prompts, str) or whole(prompts[0]) else prompts
    prompts = [one if isinstance(one, str) else "".join(map(chr, one)) for one in prompts]
    most = 16 if body.get("max_tokens") is None else body["max_tokens"]
    choices, count = [], 0
    for prompt, _ in itertools.product(prompts, range(body.get("n") or 1)):
        text, reason = written(prompt, body, most)
        count += len(text)
        shown = prompt + text if body.get("echo") else text
        logs = None
        if body.get("logprobs") is not None:
            values = [None if body.get("echo") and k == 0 else -0.5 for k in range(len(shown))]
            tops = [
                None if value is None else {letter: -0.5, "x": -1.5, "y": -2.5}
                for letter, value in zip(shown, values, strict=True)
            ]
            logs = {"tokens": [*shown], "token_logprobs": values, "top_logprobs": tops, "text_offset": [*range(len(shown))]}
        choices.append({"text": shown, "index": len(choices), "logprobs": logs, "finish_reason": reason})
    head = {"id": "cmpl-1", "object": "text_completion", "created": int(time.time()), "model": MODEL}
    used = usage(sum(map(len, prompts)), count)
    if body.get("stream"):
        parts = [
            {**head, "choices": [{**one, "text": letter, "finish_reason": None}], "usage": None}
            for one in choices
            for letter in one["text"]
        ]
        ends = [{**head, "choices": [{**one, "text": ""}], "usage": None} for one in choices]
        last = [{**head, "choices": [], "usage": used}] if body.get("stream_options") else []
        return handler.stream([*parts, *ends, *last, "[DONE]"])
    handler.reply(200, {**head, "choices": choices, "usage": used})


def embeddings(handler, body):
    given = body["input"]
    given = [given] if isinstance(given, str) or whole(given[0]) else given
    data = []
    for index, one in enumerate(given):
        values = [math.sin(sum(map(ord, str(one))) + k) for k in range(body.get("dimensions") or 8)]
        values = [
            *struct.unpack(
                f"<{len(values)}f", struct.pack(f"<{len(values)}f", *(value / math.hypot(*values) for value in values))
            )
        ]
        packed = base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
        data.append(
            {"object": "embedding", "index": index, "embedding": packed if body.get("encoding_format") == "base64" else values}
        )
    used = {"prompt_tokens": 5, "total_tokens": 5}
    handler.reply(200, {"object": "list", "data": data, "model": MODEL, "usage": used})


def responses(handler, body):
    text, _ = written(body["input"], body, body["max_output_tokens"])
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "incomplete", "content": [part]}
    used = {"input_tokens": 9, "output_tokens": len(text), "total_tokens": 9 + len(text),
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    whole_ = {"id": "resp_1", "object": "response", "created_at": int(time.time()), "model": MODEL, "status": "incomplete",
              "error": None,
              "incomplete_details": {"reason": "max_output_tokens"}, "output": [item], "usage": used, "parallel_tool_calls": True,
              "tool_choice": "auto", "tools": []}  # fmt: skip
    if not body.get("stream"):
        return handler.reply(200, whole_)
    begun = {**whole_, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.created", "response": begun}, {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": [], "status": "in_progress"}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": letter, "logprobs": []} for letter in text),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.incomplete", "response": whole_},
    ]  # fmt: skip
    handler.stream([{**event, "sequence_number": number} for number, event in enumerate(events)], named=True)


ROUTES = {"/v1/chat/completions": chat, "/v1/completions": completions, "/v1/embeddings": embeddings, "/v1/responses": responses}
