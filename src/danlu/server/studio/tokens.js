// The token view: an answer token by token, coloured by how expected each was; a chosen one shows what else could have stood there.
import {h, replace, setVar} from "./dom.js";
import {alternatives, completed, pieces, shade} from "./probability.js";
import {brief, number, percent, t} from "./words.js";

/** The view of `answer.tokens`; `answer.selected` remembers which token is open. */
export function tokenView(answer) {
  const strip = h("div", {class: "strip", role: "group", "aria-label": t("tokens.strip"), onkeydown: move, onclick: pick});
  const panel = h("div", {class: "token-panel", "aria-live": "polite"});
  const root = h("div", {class: "token-view"}, legend(), strip, panel);
  let shown = 0;
  update();
  return {root, update};

  function update() {
    const whole = completed(answer.tokens);
    shown = Math.max(shown - 8, 0); // the last ones may have become whole characters since
    while (strip.childNodes.length > shown) strip.lastChild.remove();
    for (; shown < answer.tokens.length; shown += 1) strip.append(chip(shown, whole[shown]));
    if (answer.selected >= 0) select(answer.selected, false);
    else if (strip.firstChild) strip.firstChild.tabIndex = 0;
  }

  function chip(at, whole) {
    const token = answer.tokens[at];
    return h("span", {
      class: `token shade-${shade(token.logprob)}${whole ? " part" : ""}`, role: "button", tabindex: "-1", "data-at": at,
      title: token.logprob === null ? null : percent(Math.exp(token.logprob)),
    }, label(token));
  }

  function pick(event) {
    const target = event.target.closest(".token");
    if (target) select(Number(target.dataset.at), true);
  }

  function move(event) {
    const from = Number(event.target.dataset?.at ?? -1);
    const to = {ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: answer.tokens.length - 1, Enter: from, " ": from}[event.key];
    if (to === undefined || !answer.tokens[to]) return;
    event.preventDefault();
    select(to, true);
  }

  function select(at, focus) {
    if (!strip.children[at]) return;
    for (const old of strip.querySelectorAll("[aria-pressed], [tabindex='0']")) {
      old.removeAttribute("aria-pressed");
      old.tabIndex = -1;
    }
    answer.selected = at;
    const now = strip.children[at];
    now.setAttribute("aria-pressed", "true");
    now.tabIndex = 0;
    if (focus) now.focus({preventScroll: true});
    replace(panel, inside(answer.tokens[at], at, completed(answer.tokens)[at]));
    setVar(strip, "panel", `${panel.offsetHeight}px`); // the panel stays in sight; what it would cover is scrolled out from under it
    if (focus) now.scrollIntoView({block: "nearest"});
  }
}

function inside(token, at, whole) {
  const {rows, rest, bits, exact} = alternatives(token);
  const rank = rows.findIndex((row) => row.chosen);
  const facts = [
    [t("tokens.place"), number(at + 1)],
    [t("tokens.probability"), token.logprob === null ? "–" : percent(Math.exp(token.logprob), 2)],
    [t("tokens.logprob"), token.logprob === null ? "–" : brief(token.logprob)],
    [t("tokens.rank"), rank < 0 || rank >= token.top.length ? t("tokens.rank_beyond", {n: token.top.length}) : number(rank + 1)],
    [t("tokens.entropy"), `${exact ? "" : "≥ "}${bits.toFixed(2)} ${t("tokens.bits")}`],
  ];
  return [
    h("div", {class: "token-head"}, h("span", {class: "token big"}, label(token, false)),
      whole ? h("span", {class: "muted"}, t("tokens.part_of", {whole})) : null),
    h("dl", {class: "facts small"}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("ol", {class: "bars", "aria-label": t("tokens.alternatives")},
      rows.map((row) => bar(label(row, false), row.p, row.chosen ? "chosen" : "")),
      rest > 1e-4 && rows.length ? bar(t("tokens.rest"), rest, "rest") : null),
  ];
}

function bar(name, p, kind) {
  const fillBar = setVar(h("span", {class: "fill"}), "part", Math.max(p, 0.002));
  return h("li", {class: kind, "aria-current": kind === "chosen" ? "true" : null},
    h("span", {class: "name"}, name), h("span", {class: "track"}, fillBar), h("span", {class: "value"}, percent(p, p < 0.01 ? 2 : 1)));
}

/** A token as it is shown: white space made visible, half characters as bytes. breaks: a newline also begins a new line. */
function label(token, breaks = true) {
  const found = pieces(token).map((piece) => (piece.bytes !== undefined ? h("span", {class: "byte"}, piece.bytes) : visible(piece.text, breaks)));
  return found.length ? found : h("span", {class: "byte"}, t("tokens.empty"));
}

function visible(text, breaks) {
  const found = [];
  for (const part of text.split(/(\n|\t|^ +| +$)/)) {
    if (!part) continue;
    if (part === "\n") found.push(h("span", {class: "space"}, "↵"), breaks ? "\n" : "");
    else if (part === "\t") found.push(h("span", {class: "space"}, "⇥"));
    else if (!part.trim()) found.push(h("span", {class: "space"}, "·".repeat(part.length)));
    else found.push(part);
  }
  return found;
}

function legend() {
  const limits = ["≥ 90 %", "≥ 50 %", "≥ 20 %", "≥ 5 %", "< 5 %"];
  return h("p", {class: "legend"}, h("span", {}, t("tokens.legend")),
    limits.map((limit, level) => h("span", {class: `token shade-${level}`}, limit)), h("span", {class: "muted"}, t("tokens.hint")));
}
