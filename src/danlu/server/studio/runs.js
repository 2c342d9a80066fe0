// Runs of training while they go: curves, samples as the model grows, the ledger, what the guard and the log said.
import {get} from "./api.js";
import {lineChart, smooth} from "./chart.js";
import {h, replace} from "./dom.js";
import {poll} from "./poll.js";
import {fold, outline} from "./tree.js";
import {brief, duration, moment, number, percent, t} from "./words.js";

const SECONDS = 2;
const ROUNDS = 5; // the list, and runs that have ended, are asked for once in so many: the server reads their logs for it
const POINTS = 1000;
const MEASURES = ["loss", "bits_per_byte", "lr", "grad_norm", "tokens_per_s"];
const ACROSS = ["step", "tokens", "seconds"];

let measure = "loss";
let across = "step";
let log = false;

const address = (name) => `/v1/danlu/runs/${name.split("/").map(encodeURIComponent).join("/")}?points=${POINTS}`;

export function mount(root, {problem, rest, navigate}) {
  const listBox = h("nav", {class: "side-list", "aria-label": t("nav.runs")});
  const detail = h("div", {class: "detail"});
  let name = rest || null;
  let shown = null;
  let runs = [];
  const entries = new Map();
  let round = 0;
  replace(root, h("div", {class: "page split"}, h("h1", {}, t("nav.runs")), listBox, detail));
  const end = poll(async (signal) => {
    const all = round % ROUNDS === 0;
    if (all) runs = (await get("/v1/danlu/runs", signal)).data;
    round += 1;
    name ??= runs[0]?.name ?? null;
    if (name && (all || runs.find((run) => run.name === name)?.state === "running")) {
      const run = await get(address(name), signal);
      runs = runs.map((one) => (one.name === name ? run : one));
      if (shown === null) replace(detail, (shown = runView()).root);
      shown.update(run);
    }
    list();
    if (!name) replace(detail, h("p", {class: "muted"}, t("runs.none")));
  }, SECONDS, problem);
  return {unmount: end};

  /** The links stay the same elements while their words change: one that is being pressed, or has the focus, stays so. */
  function list() {
    const links = runs.map((run) => {
      const made = entries.get(run.name) ?? entry(run.name);
      entries.set(run.name, made);
      made.update(run, run.name === name);
      return made.root;
    });
    if (links.length === listBox.children.length && links.every((link, at) => link === listBox.children[at])) return;
    const focused = links.find((link) => link === document.activeElement);
    replace(listBox, links);
    focused?.focus();
  }

  function entry(called) {
    const state = h("span", {});
    const rest = h("span", {});
    const root = h("a", {href: `#/runs/${encodeURIComponent(called)}`, onclick: (event) => {
      if (event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      navigate(root.getAttribute("href"));
    }}, h("b", {}, called), h("span", {class: "small"}, state, rest));
    return {root, update(run, here) {
      if (here) root.setAttribute("aria-current", "page");
      else root.removeAttribute("aria-current");
      state.className = `badge ${run.state}`;
      state.textContent = t(`runs.state_${run.state}`);
      const part = run.steps ? percent(Math.min((run.step ?? 0) / run.steps, 1), 0) : "";
      const loss = run.loss === null || run.loss === undefined ? "" : ` · ${brief(run.heldout_loss ?? run.loss)}`;
      rest.textContent = ` ${part}${loss}`;
    }};
  }
}

function runView() {
  const title = h("h2", {});
  const state = h("p", {class: "muted"});
  const bar = h("progress", {max: "1", value: 0});
  const facts = h("dl", {class: "facts"});
  const chart = lineChart({label: t("runs.chart"), xName: t("runs.step")});
  const samples = h("section", {class: "samples"});
  const sections = h("div", {});
  const choose = (label, names, now, change) => h("label", {class: "choice"}, h("span", {}, label), h("select", {onchange: (event) => change(event.target.value)},
    names.map((one) => h("option", {value: one, selected: one === now}, t(`runs.${one}`)))));
  let last = null;
  let prompt = null;
  let seenSamples = "";
  let seenRest = "";
  let seenAlarms = 0;
  const tools = h("div", {class: "row chart-tools"},
    choose(t("runs.measure"), MEASURES, measure, (value) => { measure = value; plot(last); }),
    choose(t("runs.across"), ACROSS, across, (value) => { across = value; plot(last); }),
    h("label", {class: "choice check"}, h("input", {type: "checkbox", checked: log, onchange: (event) => { log = event.target.checked; plot(last); }}),
      h("span", {}, t("runs.log"))));
  const root = h("div", {}, title, state, bar, facts, h("section", {class: "card"}, tools, chart.root), samples, sections);
  return {root, update};

  function update(run) {
    last = run;
    title.textContent = run.name;
    replace(state, h("span", {class: `badge ${run.state}`}, t(`runs.state_${run.state}`)), " ",
      t("runs.updated", {time: moment(run.updated)}), run.step !== null && run.steps ? ` · ${t("runs.of_steps", {step: number(run.step), steps: number(run.steps)})}` : "");
    bar.value = run.steps ? Math.min((run.step ?? 0) / run.steps, 1) : 0;
    bar.setAttribute("aria-label", t("runs.progress"));
    bar.hidden = !run.steps;
    const left = run.state === "running" && run.steps && run.step && run.seconds ? (run.seconds / run.step) * (run.steps - run.step) : null;
    replace(facts, [
      [t("runs.loss"), brief(run.loss ?? NaN)], [t("runs.heldout_loss"), brief(run.heldout_loss ?? NaN)],
      run.heldout_bits_per_byte ? [t("runs.bits_per_byte"), brief(run.heldout_bits_per_byte)] : null,
      [t("runs.tokens"), number(run.tokens)], [t("runs.tokens_per_s"), brief(run.tokens_per_s ?? NaN)], [t("runs.took"), duration(run.seconds)],
      left !== null ? [t("runs.left"), duration(left)] : null,
    ].filter(Boolean).map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
    plot(run);
    drawSamples(run);
    drawRest(run);
  }

  function plot(run) {
    if (!run) return;
    const line = (table, column) => {
      const xs = table?.[across] ?? [];
      const ys = table?.[column] ?? [];
      return xs.map((x, at) => [x, ys[at]]).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
    };
    const trained = line(run.curve, measure);
    const held = line(run.heldout, measure);
    const many = measure === "loss" && trained.length > 20;
    chart.draw([
      {name: t("runs.train"), points: trained, kind: "a", faint: many},
      many ? {name: t("runs.train_smooth"), points: smooth(trained), kind: "a"} : {name: "", points: []},
      {name: t("runs.heldout"), points: held, kind: "b", dots: true},
    ], {xName: t(`runs.${across}`), log});
  }

  function drawSamples(run) {
    const all = run.samples ?? [];
    const key = `${all.length} ${all.at(-1)?.step} ${prompt}`;
    if (key === seenSamples) return;
    seenSamples = key;
    const prompts = [...new Set(all.map((one) => one.prompt))];
    if (!prompts.includes(prompt)) prompt = prompts[0] ?? null;
    const mine = all.filter((one) => one.prompt === prompt).reverse();
    replace(samples, all.length ? [
      h("h3", {}, t("runs.samples")),
      prompts.length > 1 ? h("label", {class: "choice"}, h("span", {}, t("runs.prompt")), h("select", {onchange: (event) => {
        prompt = prompts[event.target.selectedIndex];
        drawSamples(run);
      }}, prompts.map((one) => h("option", {selected: one === prompt}, one.slice(0, 80))))) : null,
      h("ol", {class: "timeline"}, mine.map((one) => h("li", {}, h("span", {class: "when"}, t("runs.at_step", {step: number(one.step)})),
        h("p", {class: "continuation"}, h("span", {class: "given"}, one.prompt), h("span", {class: "made"}, one.text))))),
    ] : []);
  }

  function drawRest(run) {
    const notes = [...(run.guard ?? []).map(guardLine), ...(run.notes ?? []).map((one) => ({time: one.time, kind: one.kind, text: one.text}))]
      .sort((one, other) => other.time - one.time);
    const parts = {ledger: run.ledger, metrics: run.metrics, plan: run.plan, settings: run.settings};
    const key = JSON.stringify([parts, notes.length, run.checkpoints?.length]);
    if (key === seenRest) return;
    const first = !seenRest;
    const alarms = notes.filter((one) => one.kind !== "say").length;
    const news = alarms > seenAlarms;
    seenAlarms = alarms;
    const open = new Set([...sections.querySelectorAll("details[open]")].map((one) => one.dataset.name));
    const named = (name, isOpen, ...content) => {
      const made = fold(t(`runs.${name}`), open.has(name) || isOpen, content);
      made.dataset.name = name;
      return made;
    };
    const {reasons, ...plan} = run.plan?.plan ?? run.plan ?? {}; // pre-training keeps the plan beside the pace it rests on
    replace(sections,
      run.ledger ? named("ledger", first, outline(run.ledger)) : named("ledger", first, h("p", {class: "muted"}, t("runs.ledger_later", {tokens: number(run.tokens)}))),
      run.metrics ? named("metrics", first, outline(run.metrics)) : null,
      notes.length ? named("notes", news, h("ul", {class: "notes"}, notes.slice(0, 100).map((one) =>
        h("li", {class: one.kind}, h("time", {class: "when"}, moment(one.time)), h("span", {}, one.text))))) : null,
      run.checkpoints?.length ? named("checkpoints", false, h("p", {}, run.checkpoints.map((one) => number(one.step)).join(", "))) : null,
      run.plan ? named("plan", false, reasons?.length ? h("ul", {}, reasons.map((one) => h("li", {}, one))) : null, outline(plan)) : null,
      run.settings ? named("settings", false, outline(run.settings)) : null);
    seenRest = key;
  }
}

function guardLine(event) {
  const where = event.culprit ? `: ${typeof event.culprit === "string" ? event.culprit : JSON.stringify(event.culprit)}` : "";
  return {time: event.time, kind: "guard", text: `${t("runs.guard", {step: number(event.step), action: event.action ?? "", reason: event.reason ?? ""})}${where}`};
}
