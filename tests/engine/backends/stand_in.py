"""A server of OpenAI's protocol over the local backend, as strict clients know it, with faults on demand."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from danlu.engine.backends.ids import prompt_ids
from danlu.engine.job import Job
from danlu.engine.request import Sampling


class StandIn:
    """Answers by `local`; `faults` are done first, one a request: a status, "cut" or "garbage"."""

    def __init__(self, local, key=None):
        self.local, self.key, self.faults, self.asked = local, key, [], []

    def completions(self, body):
        if body.get("echo"):
            return self.echoed(body["prompt"])
        return self.written(body, body["prompt"], lambda answer: {"text": answer.text})

    def chat(self, body):
        return self.written(body, body["messages"], lambda answer: {"message": {"role": "assistant", "content": answer.text}})

    def written(self, body, prompt, shape):
        known = {name: body[name] for name in Sampling.model_fields if name in body}
        answer = self.local.write([prompt], Sampling(**known))[0]
        usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.tokens}
        return {"choices": [{**shape(answer), "finish_reason": answer.reason}], "usage": usage}

    def echoed(self, prompt):
        tokenizer = self.local.model.tokenizer
        ids = prompt if isinstance(prompt, list) else prompt_ids(tokenizer, prompt)
        job = Job(tuple(ids), Sampling(), room=0, prompt_logprobs=0)
        event = next(event for _, _, event in self.local._asked(self.local.model, [job]) if hasattr(event, "logprobs"))
        ends = np.cumsum([len(tokenizer.token_bytes(token)) for token in ids])
        text = b"".join(tokenizer.token_bytes(token) for token in ids)
        offsets = [len(text[:end].decode("utf-8", "ignore")) for end in [0, *ends[:-1]]]
        tokens = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids]
        logprobs = {"tokens": tokens, "token_logprobs": [nats for nats, _ in event.logprobs], "text_offset": offsets}
        return {"choices": [{"text": text.decode("utf-8", "replace"), "logprobs": logprobs, "finish_reason": "length"}]}

    def embeddings(self, body):
        vectors = [[float(len(text)), 2.0, 0.0] for text in body["input"]]
        return {"data": [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)][::-1]}


@contextlib.contextmanager
def serving(stand_in):
    """The URL of its /v1 on this machine."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def say(self, code, found, **headers):
            text = json.dumps(found).encode()
            self.send_response(code)
            for name, value in {"content-length": str(len(text)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            self.say(200, {"data": [{"id": "tiny", "object": "model"}]})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            stand_in.asked.append((self.path, body, dict(self.headers)))
            fault = stand_in.faults.pop(0) if stand_in.faults else None
            if fault == "cut":
                return self.connection.close()
            if fault == "garbage":
                return self.say(200, ["no", "object"])
            if fault == 307:
                return self.say(307, {}, location="http://127.0.0.1:1/elsewhere")
            if fault is not None:
                return self.say(fault, {"error": {"message": f"fault {fault}", "code": None}}, retry_after="0.01")
            if stand_in.key and self.headers.get("authorization") != f"Bearer {stand_in.key}":
                return self.say(401, {"error": {"message": "wrong key"}})
            routes = {
                "/v1/completions": stand_in.completions,
                "/v1/chat/completions": stand_in.chat,
                "/v1/embeddings": stand_in.embeddings,
            }
            try:
                return self.say(200, routes[self.path](body))
            except Exception as error:
                return self.say(400, {"error": {"message": f"{type(error).__name__}: {error}"}})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
