// The live engine: what runs, what waits, where the cache's blocks are. Numbers only; nobody's words are shown.
import {get} from "./api.js";
import {sparkline} from "./chart.js";
import {h, replace, s} from "./dom.js";
import {poll} from "./poll.js";
import {brief, duration, number, percent, t} from "./words.js";

const SECONDS = 1;
const REMEMBERED = 120; // points of the sparkline
const CELLS = 512; // of the picture of the cache: more blocks share a cell
const STATES = ["free", "kept", "used", "shared"];

const rates = new Map(); // model -> [tokens per second, oldest first]
const totals = new Map(); // model -> {time, generated}

export function mount(root, {problem}) {
  const box = h("div", {class: "models"});
  replace(root, h("div", {class: "page"}, h("h1", {}, t("nav.engine")), box));
  const sections = new Map();
  const end = poll(async (signal) => {
    const state = await get("/v1/danlu/engine", signal);
    const models = state.models ?? [];
    for (const [id, section] of sections) if (!models.some((model) => model.id === id)) { section.root.remove(); sections.delete(id); }
    for (const model of models) {
      remember(model, state.time);
      if (!sections.has(model.id)) {
        const section = modelSection();
        sections.set(model.id, section);
        box.append(section.root);
      }
      sections.get(model.id).update(model);
    }
    if (!models.length) replace(box, h("p", {class: "muted"}, t("engine.none")));
  }, SECONDS, problem);
  return {unmount: end};
}

/** Tokens a second since the last time we asked: the server's own mean over ten seconds is too slow for a picture that moves. */
function remember(model, time) {
  const before = totals.get(model.id);
  const now = {time, generated: model.tokens?.generated ?? 0};
  totals.set(model.id, now);
  if (!before || now.time <= before.time || now.generated < before.generated) return;
  const kept = rates.get(model.id) ?? [];
  kept.push((now.generated - before.generated) / (now.time - before.time));
  rates.set(model.id, kept.slice(-REMEMBERED));
}

function modelSection() {
  const root = h("section", {class: "card"});
  return {root, update};

  function update(model) {
    const history = rates.get(model.id) ?? [];
    const {queried_tokens: asked = 0, hit_tokens: found = 0} = model.prefix ?? {};
    const rate = model.rates?.generated_tokens_per_s ?? history.at(-1) ?? 0;
    replace(root,
      h("header", {class: "card-head"}, h("h2", {}, model.id), h("span", {class: `badge ${model.state}`}, t(`engine.state_${model.state}`)),
        h("span", {class: "muted small"}, [model.kernel, model.context && t("chat.context", {n: number(model.context)}), model.fingerprint]
          .filter(Boolean).join(" · "))),
      h("div", {class: "tiles"},
        tile(t("engine.running"), number(model.running ?? 0), model.rows && t("engine.of_rows", {n: number(model.rows)})),
        tile(t("engine.waiting"), number(model.waiting ?? 0), model.preemptions ? t("engine.preempted", {n: number(model.preemptions)}) : null),
        tile(t("engine.speed"), brief(rate), t("engine.generated", {n: number(model.tokens?.generated ?? 0)}), sparkline(history, Math.max(history.length, REMEMBERED / 4))),
        tile(t("engine.prefix"), asked ? percent(found / asked) : "–", t("engine.prefix_of", {found: number(found), asked: number(asked)}))),
      model.blocks ? cache(model.blocks) : h("p", {class: "muted small"}, t("engine.no_blocks")),
      requests(model));
  }
}

function tile(name, value, note, picture) {
  return h("div", {class: "tile"}, h("span", {class: "name"}, name), h("b", {}, value), note ? h("span", {class: "muted small"}, note) : null, picture);
}

/** A state for each block: where the server says where they are, its map; else the counts, one after the other. */
function states({total, used = 0, cached = 0, map}) {
  if (map) return [...map].map(Number);
  return Array.from({length: total}, (_, at) => (at < used ? 2 : at < used + cached ? 1 : 0));
}

function cache(blocks) {
  const all = states(blocks);
  const each = Math.max(1, Math.ceil(all.length / CELLS));
  const cells = [];
  for (let at = 0; at < all.length; at += each) cells.push(Math.max(...all.slice(at, at + each)));
  const across = Math.min(cells.length, innerWidth < 700 ? 32 : 64);
  const paths = STATES.map((_, state) => cells.map((cell, at) => (cell === state
    ? `M${10 * (at % across) + 1} ${10 * Math.floor(at / across) + 1}h8v8h-8z` : "")).join(""));
  const counts = STATES.map((_, state) => all.filter((one) => one === state).length);
  const words = STATES.map((name, state) => `${t(`engine.block_${name}`)} ${number(counts[state])}`);
  const shown = STATES.map((name, state) => ({name, state})).filter(({state}) => counts[state] || state < 3);
  return h("figure", {class: "cache"},
    h("figcaption", {}, h("span", {}, t("engine.blocks", {n: number(blocks.total), tokens: number(blocks.tokens ?? blocks.block_tokens)})),
      each > 1 ? h("span", {class: "muted small"}, t("engine.per_cell", {n: each})) : null,
      h("span", {class: "keys"}, shown.map(({name, state}) => h("span", {class: `block-key ${name}`}, words[state])))),
    s("svg", {class: "blocks", viewBox: `0 0 ${10 * across} ${10 * Math.ceil(cells.length / across)}`, role: "img", "aria-label": words.join(", ")},
      paths.map((d, state) => (d ? s("path", {d, class: STATES[state]}) : null))));
}

/** "row 3, choice 0" in figures; other names as they are. */
const place = (id) => id.replace(/^row (\d+), choice (\d+)$/, "$1 · $2").replace(/^waiting, choice \d+$/, "–").slice(0, 24);

function requests(model) {
  const rows = model.requests ?? [];
  if (!rows.length) return h("p", {class: "muted small"}, t("engine.idle"));
  const columns = ["request", "state", "age", "prompt", "cached", "written", "speed"];
  return h("div", {class: "scroll", tabindex: "0"}, h("table", {class: "numbers whole"},
    h("thead", {}, h("tr", {}, columns.map((name, at) => h("th", {class: at < 2 ? "text" : null}, t(`engine.column_${name}`))))),
    h("tbody", {}, rows.map((row) => h("tr", {},
      h("td", {class: "mono text"}, place(row.id)), h("td", {class: "text"}, t(`engine.request_${row.doing ?? row.state}`)), h("td", {}, duration(row.age_s)),
      h("td", {}, number(row.prompt_tokens)), h("td", {}, number(row.cached_tokens)),
      h("td", {}, row.max_tokens ? `${number(row.generated_tokens)} / ${number(row.max_tokens)}` : number(row.generated_tokens)),
      h("td", {}, row.generated_tokens && row.age_s ? brief(row.generated_tokens / row.age_s) : "–"))))));
}
