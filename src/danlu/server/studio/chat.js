// The chat: one conversation with one model, or the same questions to two side by side. It lives in this tab's memory and nowhere else.
import {Answer} from "./answer.js";
import {get} from "./api.js";
import {copy, download, h, kept, replace} from "./dom.js";
import {icon} from "./icons.js";
import {Growing} from "./markdown.js";
import {current, settingsPanel} from "./settings.js";
import {tokenView} from "./tokens.js";
import {compact, duration, number, t} from "./words.js";

const SPEAKS = new Set(["causal", "seq2seq"]);

let models = [];
const columns = [null, null]; // ids of the chosen models
let compare = false;
let turns = []; // {user, answers: [Answer or undefined, ...]}
let draft = "";
let panelOpen = kept.get("panel") === "open";

const chats = (model) => model.danlu?.chat !== false;
const chosen = (column) => models.find((model) => model.id === columns[column]) ?? models[0];
const active = () => (compare && models.length ? [0, 1] : [0]);
const running = () => turns.flatMap((turn) => turn.answers).filter((answer) => answer?.running);

export async function mount(root, {announce, problem}) {
  const view = new ChatView(root, announce);
  try {
    const listed = (await get("/v1/models")).data ?? [];
    models = listed.filter((model) => SPEAKS.has(model.danlu?.kind ?? "causal"));
    columns[0] = chosen(0)?.id ?? null;
    columns[1] = models.some((model) => model.id === columns[1]) ? columns[1] : (models[1] ?? models[0])?.id ?? null;
  } catch (error) {
    problem(error);
  }
  view.draw();
  return view;
}

class ChatView {
  constructor(root, announce) {
    Object.assign(this, {root, announce});
    this.frames = new Map(); // answers to be drawn at the next frame
    this.onKey = (event) => this.key(event);
    document.addEventListener("keydown", this.onKey);
  }

  unmount() {
    document.removeEventListener("keydown", this.onKey);
    for (const answer of turns.flatMap((turn) => turn.answers)) if (answer) answer.changed = () => {};
  }

  key(event) {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key === "Escape") {
      if (running().length) this.stop();
      else if (panelOpen) this.togglePanel(false);
    } else if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      this.composer.focus();
    }
  }

  // -- the page ---------------------------------------------------------------------------------------------------------------------

  draw() {
    this.thread = h("div", {class: "thread", tabindex: "-1"});
    this.notice = h("div", {class: "notices"});
    this.composer = h("textarea", {
      class: "composer-text", rows: "1", value: draft, "aria-label": t("chat.composer"), oninput: () => { draft = this.composer.value; this.grow(); },
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return; // 229: an input method is at work
        event.preventDefault();
        this.send();
      },
    });
    this.button = h("button", {type: "button", class: "send"});
    this.panel = settingsPanel(() => this.togglePanel(false));
    this.head = h("header", {class: "chat-head"});
    this.body = h("div", {class: "chat-body"},
      h("section", {class: "conversation", "aria-label": t("nav.chat")}, this.head,
        h("div", {class: "scroller"}, this.thread),
        h("div", {class: "composer"}, this.notice, h("div", {class: "composer-box"}, this.composer, this.button),
          h("p", {class: "hint"}, t("chat.hint")))),
      this.panel);
    replace(this.root, this.body);
    this.scroller = this.body.querySelector(".scroller");
    this.togglePanel(panelOpen, false);
    this.drawHead();
    this.drawThread();
    this.grow();
  }

  drawHead() {
    const picker = (column) => h("label", {class: "picker"}, h("span", {class: "offscreen"}, t(column ? "chat.model_two" : "chat.model")),
      h("select", {onchange: (event) => { columns[column] = event.target.value; this.drawHead(); this.drawThread(); }},
        models.map((model) => h("option", {value: model.id, selected: model.id === columns[column]}, model.id))));
    const tool = (name, words, act, extra = {}) => h("button", {type: "button", class: "tool", title: words, "aria-label": words, onclick: act, ...extra},
      icon(name), h("span", {class: "wide"}, words));
    replace(this.head,
      h("div", {class: "pickers"}, active().map(picker)),
      h("div", {class: "tools"},
        tool("compare", t("chat.compare"), () => { compare = !compare; this.drawHead(); this.drawThread(); }, {"aria-pressed": String(compare)}),
        tool("fresh", t("chat.new"), () => this.fresh(), {disabled: !turns.length}),
        tool("save", t("chat.export"), () => this.save(), {disabled: !turns.length}),
        tool("settings", t("settings.title"), () => this.togglePanel(!panelOpen), {"aria-expanded": String(panelOpen), "aria-controls": "settings"})));
    const base = [...new Set(active().map(chosen).filter((model) => model && !chats(model)).map((model) => model.id))];
    replace(this.notice, base.length ? h("p", {class: "notice"}, icon("more"), h("span", {}, t("chat.base_notice", {model: base.join(", ")}))) : null);
    this.composer.placeholder = models.length && active().every((column) => !chats(chosen(column))) ? t("chat.begin") : t("chat.ask");
    this.drawButton();
  }

  drawButton() {
    const busy = running().length > 0;
    this.button.onclick = () => (busy ? this.stop() : this.send());
    this.button.classList.toggle("busy", busy);
    this.button.disabled = !models.length;
    const words = busy ? t("chat.stop") : t("chat.send");
    this.button.title = words;
    this.button.setAttribute("aria-label", words);
    replace(this.button, icon(busy ? "stop" : "send"));
  }

  drawThread() {
    this.thread.classList.toggle("two", compare);
    if (turns.length) replace(this.thread, turns.map((turn, at) => this.turn(turn, at)));
    else replace(this.thread, this.welcome());
    this.follow(true);
  }

  welcome() {
    if (!models.length) return h("div", {class: "welcome"}, h("p", {}, t("chat.no_models")));
    const model = chosen(0);
    const facts = [model.danlu?.parameters && t("chat.parameters", {n: compact(model.danlu.parameters)}),
      model.danlu?.context && t("chat.context", {n: number(model.danlu.context)})].filter(Boolean);
    return h("div", {class: "welcome"}, h("img", {src: "/studio/mark.svg", alt: "", width: "72", height: "72"}),
      h("h1", {}, t(chats(model) ? "chat.welcome" : "chat.welcome_base", {model: model.id})),
      facts.length ? h("p", {class: "muted"}, facts.join(" · ")) : null,
      h("p", {class: "muted"}, t("chat.private")));
  }

  grow() {
    this.composer.style.height = "auto";
    this.composer.style.height = `${Math.min(this.composer.scrollHeight, 240)}px`;
  }

  togglePanel(open, remember = true) {
    panelOpen = open;
    if (remember) kept.set("panel", open ? "open" : "closed");
    const had = this.panel.contains(document.activeElement);
    this.panel.hidden = !open;
    this.body.classList.toggle("with-panel", open);
    this.head.querySelector("[aria-controls]")?.setAttribute("aria-expanded", String(open));
    if (had && !open) this.composer.focus();
  }

  follow(always = false) {
    const {scroller} = this;
    if (always || scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 120) scroller.scrollTop = scroller.scrollHeight;
  }

  // -- turns ------------------------------------------------------------------------------------------------------------------------

  turn(turn, at) {
    const last = at === turns.length - 1;
    const onlyText = turn.answers.every((answer) => !answer || answer.mode === "completion");
    const asked = turn.editing ? this.editor(turn) : h("div", {class: "asked"}, h("div", {class: "bubble"}, turn.user),
      last ? h("button", {type: "button", class: "quiet edit", title: t("chat.edit"), "aria-label": t("chat.edit"),
        onclick: () => { this.stop(); turn.editing = true; this.drawThread(); this.thread.querySelector(".editor textarea").focus(); }}, icon("edit")) : null);
    turn.root = h("article", {class: `turn${onlyText ? " text-only" : ""}`}, asked,
      h("div", {class: "answers"}, active().map((column) => h("div", {class: "column"}, this.answer(turn, column, last)))));
    return turn.root;
  }

  editor(turn) {
    const area = h("textarea", {rows: String(Math.min(turn.user.split("\n").length + 1, 12)), value: turn.user, "aria-label": t("chat.edit")});
    const done = () => {
      if (!area.value.trim()) return;
      turns.pop();
      this.ask(area.value);
    };
    const leave = () => { turn.editing = false; this.drawThread(); this.composer.focus(); };
    area.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); done(); }
      if (event.key === "Escape") { event.preventDefault(); leave(); }
    });
    return h("div", {class: "editor"}, area, h("div", {class: "row"},
      h("button", {type: "button", class: "main", onclick: done}, t("chat.send")), h("button", {type: "button", onclick: leave}, t("cancel"))));
  }

  answer(turn, column, last) {
    const answer = turn.answers[column];
    if (!answer) return h("p", {class: "muted"}, t("chat.not_asked"));
    const content = h("div", {class: "content"});
    const growing = new Growing(content);
    const foot = h("div", {class: "foot"});
    const root = h("section", {class: "answer", "aria-label": answer.model.id}, h("h3", {class: "who"}, answer.model.id), content, foot);
    let tokens = null;
    let thoughts = null;
    const update = () => {
      root.className = `answer ${answer.status}`;
      if (answer.showTokens) {
        if (tokens) tokens.update();
        else { tokens = tokenView(answer); replace(content, tokens.root); growing.keys = []; }
      } else {
        if (tokens) { tokens = null; replace(content); }
        if (answer.mode === "completion") replace(content, this.plainText(answer));
        else growing.show(answer.text);
      }
      if (answer.reasoning) {
        if (!thoughts) root.insertBefore(thoughts = h("details", {class: "thoughts"}, h("summary", {}, t("chat.reasoning")), h("div", {})), content);
        thoughts.lastChild.textContent = answer.reasoning;
      }
      replace(foot, this.calls(answer), this.ending(answer), this.actions(turn, column, last, () => update()));
    };
    answer.changed = () => this.later(answer, update);
    update();
    return root;
  }

  plainText(answer) {
    const given = answer.model.danlu?.kind === "seq2seq" ? null : h("span", {class: "given"}, answer.prompt);
    return h("p", {class: "continuation"}, given, h("span", {class: "made"}, answer.text));
  }

  calls(answer) {
    return answer.calls.map((call) => h("pre", {class: "call"}, `${call.name}(${call.arguments})`));
  }

  ending(answer) {
    if (answer.status === "waiting") return h("p", {class: "waiting"}, h("span", {class: "pulse", "aria-hidden": "true"}), t("chat.waiting"));
    if (answer.status === "failed") return h("p", {class: "notice bad", role: "alert"}, icon("warning"), h("span", {}, explain(answer.problem)));
    if (answer.status === "stopped") return h("p", {class: "muted small"}, t("chat.stopped"));
    if (answer.finish === "length") return h("p", {class: "muted small"}, t("chat.length"));
    if (answer.finish === "content_filter") return h("p", {class: "muted small"}, t("chat.filtered"));
    if (answer.status === "done" && !answer.text && !answer.reasoning && !answer.calls.length) return h("p", {class: "muted small"}, t("chat.empty"));
    return null;
  }

  actions(turn, column, last, update) {
    const answer = turn.answers[column];
    if (answer.running) return null;
    const act = (name, words, run, extra = {}) => h("button", {type: "button", class: "quiet", title: words, "aria-label": words, onclick: run, ...extra},
      icon(name), h("span", {class: "wide"}, words));
    const facts = [
      answer.count && t("chat.tokens", {n: number(answer.count)}),
      answer.rate && t("chat.rate", {n: number(answer.rate, answer.rate < 100 ? 1 : 0)}),
      answer.times.first && t("chat.first", {time: duration((answer.times.first - answer.times.sent) / 1000)}),
      answer.usage?.prompt_tokens_details?.cached_tokens ? t("chat.cached", {n: number(answer.usage.prompt_tokens_details.cached_tokens)}) : null,
      t("chat.seed", {n: answer.seed}),
    ].filter(Boolean);
    const copied = async (event) => {
      const words = event.currentTarget.querySelector(".wide");
      words.textContent = (await copy(answer.text)) ? t("copied") : t("copy_failed");
      setTimeout(() => { words.textContent = t("copy"); }, 1500);
    };
    return h("div", {class: "row"},
      act("copy", t("copy"), copied),
      answer.tokens.length ? act("tokens", t("tokens.title"), () => { answer.showTokens = !answer.showTokens; update(); },
        {"aria-pressed": String(answer.showTokens)}) : null,
      last ? act("again", t("chat.again"), () => this.again(turn, column)) : null,
      last && answer.mode === "completion" && answer.model.danlu?.kind !== "seq2seq" && answer.text
        ? act("more", t("chat.go_on"), () => this.ask(answer.prompt + answer.text)) : null,
      h("span", {class: "muted small measures"}, facts.join(" · ")));
  }

  /** Draw at the next frame, however many pieces come before it. */
  later(answer, update) {
    if (!this.frames.size) requestAnimationFrame(() => {
      const due = [...this.frames.values()];
      this.frames.clear();
      for (const draw of due) draw();
      this.follow();
    });
    this.frames.set(answer, update);
    if (!answer.running) {
      this.drawButton();
      this.announce(answer.status === "done" ? t("chat.said", {model: answer.model.id, text: answer.text.slice(0, 2000)})
        : answer.status === "stopped" ? t("chat.stopped") : explain(answer.problem));
    }
  }

  // -- asking -----------------------------------------------------------------------------------------------------------------------

  send() {
    const text = this.composer.value;
    if (!text.trim() || running().length || !models.length) return;
    draft = this.composer.value = "";
    this.grow();
    this.ask(text);
  }

  ask(user) {
    const turn = {user, answers: []};
    turns.push(turn);
    const settings = current();
    settings.seed ??= randomSeed(); // side by side, chance is the same for both
    for (const column of active()) turn.answers[column] = this.begin(turn, column, settings);
    this.started();
  }

  again(turn, column) {
    turn.answers[column]?.stop();
    turn.answers[column] = this.begin(turn, column, {seed: randomSeed(), ...current()});
    this.started();
  }

  started() {
    this.drawHead();
    this.drawThread();
    this.announce(t("chat.waiting"));
  }

  begin(turn, column, settings) {
    const model = chosen(column);
    const asked = chats(model) ? {messages: this.messages(turn, column, settings.system)} : {prompt: turn.user};
    const answer = new Answer({model, settings, changed: () => {}, ...asked});
    answer.run();
    return answer;
  }

  messages(until, column, system) {
    const found = system.trim() ? [{role: "system", content: system}] : [];
    for (const turn of turns) {
      found.push({role: "user", content: turn.user});
      if (turn === until) break;
      const said = turn.answers[column] ?? turn.answers[0];
      if (said?.text) found.push({role: "assistant", content: said.text});
      else found.pop(); // what got no answer is not asked again by the way
    }
    return found;
  }

  stop() { for (const answer of running()) answer.stop(); }

  fresh() {
    this.stop();
    turns = [];
    this.drawHead();
    this.drawThread();
    this.composer.focus();
  }

  save() {
    const {system, ...settings} = current();
    const conversation = {format: "danlu.conversation", version: 1, exported: new Date().toISOString(), system, settings,
      turns: turns.map(({user, answers}) => ({user, answers: answers.filter(Boolean)}))};
    download(`danlu-${new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-")}.json`, `${JSON.stringify(conversation, null, 1)}\n`);
  }
}

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 2 ** 31;

/** A failure in words: the server's own where it had any. */
export function explain(problem) {
  const known = {no_finish_reason: "fail.cut", cut: "fail.cut", unreachable: "fail.unreachable", not_a_stream: "fail.not_a_stream"};
  if (known[problem.code]) return t(known[problem.code]);
  if (problem.status === 401) return t("fail.key");
  return problem.message || t("fail.status", {status: problem.status || "?"});
}
