// One answer: asking for it, what has come so far, how it ended.
//
// An answer that ends without a finish reason has failed, however much of it came: a cut connection must not pass for an end.
import {post, stream} from "./api.js";
import {tokensOf} from "./probability.js";

export const CHAT_TOP = 10;
export const COMPLETION_TOP = 5; // as many as the older form allows
const MOST = 256; // of a text that goes on: the API itself would stop after 16 tokens where nobody says

/**
 * model: an entry of /v1/models. messages for a model with a chat template, prompt for one without. settings: see settings.js.
 * `changed` is called after each piece of the stream.
 */
export class Answer {
  constructor({model, messages = null, prompt = null, settings, changed}) {
    Object.assign(this, {model, messages, prompt, settings, changed});
    this.mode = messages ? "chat" : "completion";
    this.status = "waiting"; // then writing, then done, stopped or failed
    this.text = "";
    this.reasoning = "";
    this.calls = [];
    this.tokens = [];
    this.finish = null;
    this.usage = null;
    this.problem = null;
    this.showTokens = false;
    this.selected = -1;
    this.seed = settings.seed;
    this.times = {sent: performance.now(), first: null, last: null};
    this.controller = new AbortController();
  }

  get running() { return this.status === "waiting" || this.status === "writing"; }

  /** Tokens of the answer: as the server counted them, or as many as it named. */
  get count() { return this.usage?.completion_tokens ?? (this.tokens.length || null); }

  get rate() {
    const {first, last} = this.times;
    return this.count > 1 && last > first ? ((this.count - 1) * 1000) / (last - first) : null;
  }

  stop() { this.controller.abort(); }

  async run() {
    const chat = this.mode === "chat";
    try {
      if (!chat && !this.settings.max_tokens) this.settings = {...this.settings, max_tokens: await this.room()};
      for await (const event of stream(chat ? "/v1/chat/completions" : "/v1/completions", this.body(), this.controller.signal)) {
        this.take(event);
        this.changed(this);
      }
      if (this.finish) this.status = "done";
      else this.fail({code: "no_finish_reason", message: ""});
    } catch (error) {
      if (error.name === "AbortError") this.status = this.finish ? "done" : "stopped";
      else this.fail({code: error.code ?? null, status: error.status ?? 0, message: error.message});
    }
    this.changed(this);
  }

  /** Most tokens that the context still has room for; null where there is none, and the server says so in its own words. */
  async room() {
    const {count, max_model_len: context} = await post("/tokenize", {model: this.model.id, prompt: this.prompt}, this.controller.signal);
    return context > count ? Math.min(context - count, MOST) : null;
  }

  fail(problem) {
    this.status = "failed";
    this.problem = problem;
  }

  body() {
    const {max_tokens: most, logprobs, seed, system, ...sampling} = this.settings;
    const common = {model: this.model.id, stream: true, stream_options: {include_usage: true}, seed: this.seed, ...sampling};
    if (this.mode === "chat") {
      const extra = {...(most ? {max_completion_tokens: most} : {}), ...(logprobs ? {logprobs: true, top_logprobs: CHAT_TOP} : {})};
      return {...common, ...extra, messages: this.messages};
    }
    return {...common, ...(most ? {max_tokens: most} : {}), ...(logprobs ? {logprobs: COMPLETION_TOP} : {}), prompt: this.prompt};
  }

  take(event) {
    if (event.usage) this.usage = event.usage;
    const choice = event.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? {};
    const text = this.mode === "chat" ? (delta.content ?? delta.refusal ?? "") : (choice.text ?? "");
    const thought = delta.reasoning_content ?? "";
    const tokens = tokensOf(choice.logprobs);
    if (text || thought || tokens.length || delta.tool_calls) {
      this.times.last = performance.now();
      this.times.first ??= this.times.last;
      this.status = "writing";
    }
    this.text += text;
    this.reasoning += thought;
    this.tokens.push(...tokens);
    for (const call of delta.tool_calls ?? []) {
      const known = (this.calls[call.index] ??= {name: "", arguments: ""});
      known.name += call.function?.name ?? "";
      known.arguments += call.function?.arguments ?? "";
    }
    if (choice.finish_reason) this.finish = choice.finish_reason;
  }

  /** For the exported conversation. */
  toJSON() {
    const {mode, status, text, reasoning, calls, tokens, finish, usage, problem, seed} = this;
    return {model: this.model.id, mode, status, text, ...(reasoning ? {reasoning} : {}), ...(calls.length ? {tool_calls: calls} : {}),
      finish_reason: finish, seed, usage, ...(problem ? {problem} : {}),
      tokens: tokens.map(({text: token, bytes, logprob, top}) => ({token, bytes, logprob, top_logprobs: top.map((one) => (
        {token: one.text, bytes: one.bytes, logprob: one.logprob}))}))};
  }
}
