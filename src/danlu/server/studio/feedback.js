// Two answers, one choice: what people prefer, blind. Each judgement is on the server's disk before the next pair is shown.
import {get, post} from "./api.js";
import {h, kept, replace} from "./dom.js";
import {render} from "./markdown.js";
import {number, t} from "./words.js";

const ADDRESS = "/v1/danlu/feedback";
const KEYS = {1: "first", "=": "tie", 0: "bad", 2: "second", s: "skip"};
const CHOICES = [["first", "1"], ["tie", "="], ["bad", "0"], ["second", "2"], ["skip", "S"]];
const UNDO = "u";

export function mount(root, {problem, announce}) {
  const controller = new AbortController();
  const page = h("div", {class: "page judging"});
  let annotator = kept.get("annotator") ?? "";
  let told = null; // what the server said last
  let reason = null;
  let watch = null;
  let busy = false;
  replace(root, page);
  document.addEventListener("keydown", keyed);
  document.addEventListener("visibilitychange", seen);
  ask(() => get(`${ADDRESS}?annotator=${encodeURIComponent(annotator)}`, controller.signal));
  return {unmount() {
    controller.abort();
    document.removeEventListener("keydown", keyed);
    document.removeEventListener("visibilitychange", seen);
  }};

  /** Ask the server for the next state and show it; whether it answered. */
  async function ask(call, said = "") {
    if (busy) return;
    busy = true;
    page.setAttribute("aria-busy", "true");
    try {
      told = await call();
      problem(null);
    } catch (error) {
      if (controller.signal.aborted) return;
      problem(error);
      busy = false;
      page.removeAttribute("aria-busy");
      if (!told) nameForm(t("feedback.name_again"));
      return;
    }
    busy = false;
    page.removeAttribute("aria-busy");
    draw();
    if (said) announce(said);
  }

  function draw() {
    if (told.name === null) return replace(page, head(), h("p", {class: "muted"}, t("feedback.off")));
    if (!annotator) return nameForm();
    const {question} = told;
    if (!question) return replace(page, head(), h("p", {class: "notice"}, t("feedback.done")), h("div", {class: "row"}, undoButton()));
    const title = h("h2", {tabindex: "-1"}, t("feedback.which"));
    reason = h("textarea", {rows: "2", maxlength: "2000", id: "reason", placeholder: t("feedback.reason_help"), value: question.before?.reason ?? ""});
    replace(page, head(),
      h("section", {class: "card judge-prompt", "aria-label": t("feedback.prompt")}, question.prompt.map((one) => h("div", {class: "judge-said"},
        h("p", {class: "who"}, role(one.role)), h("div", {class: "continuation"}, one.content)))),
      title,
      h("div", {class: "rivals"}, question.answers.map((text, at) => h("section", {class: "card", "aria-labelledby": `answer-${at}`},
        h("h3", {id: `answer-${at}`}, t("feedback.answer", {n: at + 1})),
        text.trim() ? h("div", {class: "content"}, render(text)) : h("p", {class: "muted"}, t("feedback.empty"))))),
      h("div", {class: "row choices", role: "group", "aria-label": t("feedback.which")}, CHOICES.map(([choice, key]) =>
        h("button", {type: "button", class: choice === "skip" ? "quiet" : "", "aria-keyshortcuts": key, "aria-pressed": question.before ? String(question.before.choice === choice) : null,
          onclick: () => judge(choice)}, h("kbd", {"aria-hidden": "true"}, key), h("span", {}, t(`feedback.${choice}`)))), undoButton()),
      h("div", {class: "field"}, h("label", {for: "reason"}, t("feedback.reason")), reason),
      h("p", {class: "hint"}, t("feedback.hint")));
    watch = {spent: 0, since: document.hidden ? null : performance.now()};
    title.focus({preventScroll: true}); // readers by ear begin at the new question, and keys judge at once
    root.scrollTop = 0;
  }

  function head() {
    const {progress} = told ?? {};
    return [
      h("h1", {}, t("nav.feedback")),
      annotator && progress ? h("div", {class: "judge"},
        h("p", {class: "muted small"}, t("feedback.progress", {judged: number(progress.judged), pairs: number(progress.pairs), yours: number(progress.yours)}), " · ",
          t("feedback.as", {name: annotator}), " ", h("button", {type: "button", class: "quiet", onclick: () => nameForm()}, t("feedback.change"))),
        h("progress", {max: String(Math.max(progress.pairs, 1)), value: progress.judged, "aria-label": t("feedback.judged")})) : null,
    ];
  }

  function role(name) {
    return ["system", "user", "assistant", "tool"].includes(name) ? t(`feedback.role_${name}`) : name;
  }

  function undoButton() {
    return told.progress?.yours ? h("button", {type: "button", class: "quiet", "aria-keyshortcuts": "U", onclick: undo}, h("kbd", {"aria-hidden": "true"}, "U"), h("span", {}, t("feedback.undo"))) : null;
  }

  function nameForm(wrong = "") {
    const input = h("input", {id: "annotator", maxlength: "64", autocomplete: "nickname", spellcheck: "false", value: annotator, "aria-invalid": wrong ? "true" : null});
    const use = () => {
      const name = input.value.trim();
      if (!name) return input.focus();
      annotator = name;
      kept.set("annotator", name);
      told = null;
      ask(() => get(`${ADDRESS}?annotator=${encodeURIComponent(name)}`, controller.signal));
    };
    input.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) use(); });
    replace(page, h("h1", {}, t("nav.feedback")), h("p", {}, t("feedback.about")),
      h("div", {class: "field judge-name"}, h("label", {for: "annotator"}, t("feedback.name")), h("div", {class: "row"}, input, h("button", {type: "button", class: "main", onclick: use}, t("feedback.begin"))),
        h("small", {}, t("feedback.name_help")), wrong ? h("p", {class: "notice bad", role: "alert"}, wrong) : null));
    input.focus();
  }

  function judge(choice) {
    const {pair} = told.question;
    const seconds = Math.round(spent() / 10) / 100;
    ask(() => post(ADDRESS, {annotator, pair, choice, reason: reason.value, seconds}, controller.signal), t("feedback.kept"));
  }

  function undo() {
    ask(() => post(`${ADDRESS}/undo`, {annotator}, controller.signal), t("feedback.undone"));
  }

  /** Milliseconds that the question was looked at. */
  function spent() {
    return Math.min(watch.spent + (watch.since === null ? 0 : performance.now() - watch.since), 86_400_000);
  }

  function seen() {
    if (!watch) return;
    watch = document.hidden ? {spent: spent(), since: null} : {spent: watch.spent, since: watch.since ?? performance.now()};
  }

  function keyed(event) {
    const typing = event.target.closest?.("input, textarea, select, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat || !annotator || !told || busy) return;
    const key = event.key.toLowerCase();
    if (key in KEYS && told.question && page.querySelector(".choices")) judge(KEYS[key]);
    else if (key === UNDO && told.progress?.yours && !page.querySelector(".judge-name")) undo();
    else return;
    event.preventDefault();
  }
}
