// Talking to the server this page came from, and to nobody else.
import {kept} from "./dom.js";

/** What went wrong, in the server's words where it had any. */
export class Failure extends Error {
  constructor(message, {status = 0, code = null} = {}) {
    super(message);
    Object.assign(this, {status, code});
  }
}

let askForKey = async () => null;
/** Who asks the reader for a key: a function that answers with it, or null. */
export function keyAsker(asker) { askForKey = asker; }

let asking = null; // one question, however many calls need its answer

async function call(path, options) {
  for (;;) {
    const key = kept.get("key", "sessionStorage");
    const headers = {...options.headers, ...(key ? {Authorization: `Bearer ${key}`} : {})};
    let answer;
    try {
      answer = await fetch(path, {...options, headers, credentials: "omit", cache: "no-store", redirect: "error"});
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Failure("", {code: "unreachable"});
    }
    if (answer.status !== 401) return answer;
    if (key !== kept.get("key", "sessionStorage")) continue; // meanwhile another call was given one
    asking ??= askForKey(Boolean(key)).finally(() => { asking = null; });
    const given = await asking;
    if (!given) throw await failure(answer);
    kept.set("key", given, "sessionStorage");
  }
}

async function failure(answer) {
  let found = {};
  try { found = (await answer.json()).error ?? {}; } catch { /* not our shape: the status must do */ }
  return new Failure(typeof found.message === "string" ? found.message : "", {status: answer.status, code: found.code ?? null});
}

export async function get(path, signal) {
  const answer = await call(path, {signal});
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

export async function post(path, body, signal) {
  const answer = await call(path, {method: "POST", signal, body: JSON.stringify(body), headers: {"Content-Type": "application/json"}});
  if (!answer.ok) throw await failure(answer);
  return answer.json();
}

/** Objects of a stream as they come. Ends after [DONE] or when the server closes; an error object in the stream is thrown. */
export async function* stream(path, body, signal) {
  const answer = await call(path, {
    method: "POST", signal, body: JSON.stringify(body), headers: {"Content-Type": "application/json"},
  });
  if (!answer.ok) throw await failure(answer);
  if (!(answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) throw new Failure("", {code: "not_a_stream"});
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      let part;
      try {
        part = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Failure("", {code: "cut"});
      }
      if (part.done) return;
      const lines = (rest + decoder.decode(part.value, {stream: true})).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue; // pings and event names
        const data = line.slice(5).trim();
        if (data === "[DONE]") return;
        if (!data) continue;
        let event;
        try { event = JSON.parse(data); } catch { throw new Failure("", {code: "cut"}); }
        if (event.error) {
          const said = event.error.message ?? event.error;
          throw new Failure(typeof said === "string" ? said : "", {code: event.error.code ?? null});
        }
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
