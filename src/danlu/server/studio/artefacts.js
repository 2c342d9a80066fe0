// Artefacts behind the served models: the card, sizes, where they come from down to the raw files, licences, figures.
import {get} from "./api.js";
import {h, replace} from "./dom.js";
import {render} from "./markdown.js";
import {fold, outline} from "./tree.js";
import {bytes, duration, number, t} from "./words.js";

export function mount(root, {problem, rest, navigate}) {
  const controller = new AbortController();
  const listBox = h("nav", {class: "side-list", "aria-label": t("nav.artefacts")});
  const detail = h("div", {class: "detail"});
  replace(root, h("div", {class: "page split"}, h("h1", {}, t("nav.artefacts")), listBox, detail));
  load().catch((error) => { if (!controller.signal.aborted) problem(error); });
  return {unmount: () => controller.abort()};

  async function load() {
    const {data} = await get("/v1/danlu/artefacts", controller.signal);
    const chosen = data.find((one) => one.model === rest) ?? data[0];
    replace(listBox, data.map((one) => h("a", {href: `#/artefacts/${encodeURIComponent(one.model)}`, "aria-current": one === chosen ? "page" : null,
      onclick: (event) => {
        if (event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        navigate(`#/artefacts/${encodeURIComponent(one.model)}`);
      }}, h("b", {}, one.model), h("span", {class: "small muted"}, [one.kind, one.stage].filter(Boolean).join(" · ")))));
    replace(detail, chosen ? artefact(chosen) : h("p", {class: "muted"}, t("artefacts.none")));
  }
}

function artefact(one) {
  const size = (one.files ?? []).reduce((sum, file) => sum + file.bytes, 0);
  const facts = [
    [t("artefacts.kind"), one.kind], [t("artefacts.id"), one.id], [t("artefacts.stage"), one.stage && `danlu ${one.stage}`],
    [t("artefacts.created"), one.created?.replace("T", " ").replace(/(\+00:00|Z)$/, " UTC")],
    [t("artefacts.took"), one.wall_s ? duration(one.wall_s) : null], [t("artefacts.size"), size ? bytes(size) : null],
    [t("artefacts.licences"), one.licences?.join(", ")], [t("artefacts.sources"), one.sources?.join(", ")],
  ].filter(([, value]) => value);
  const part = (title, data) => (data && Object.keys(data).length ? h("section", {class: "card"}, h("h3", {}, title), outline(data)) : null);
  return [
    h("h2", {}, one.name ?? one.model),
    facts.length ? h("dl", {class: "facts"}, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))) : h("p", {class: "muted"}, t("artefacts.foreign")),
    one.tree?.length ? h("section", {class: "card"}, h("h3", {}, t("artefacts.lineage")), h("p", {class: "muted small"}, t("artefacts.lineage_help")), lineage(one.tree)) : null,
    part(t("artefacts.metrics"), one.metrics),
    one.card ? h("section", {class: "card"}, h("h3", {}, t("artefacts.card")), render(withoutFront(one.card))) : null,
    part(t("artefacts.ledger"), one.ledger),
    one.files?.length ? h("section", {class: "card"}, h("h3", {}, t("artefacts.files")), files(one.files)) : null,
    one.settings ? fold(t("artefacts.settings"), false, outline(one.settings)) : null,
  ];
}

/** A card without the lines that model hubs read. */
const withoutFront = (card) => card.replace(/^---\n[^]*?\n---\n+/, "");

function files(list) {
  return h("div", {class: "scroll", tabindex: "0"}, h("table", {class: "numbers"}, h("tbody", {}, [...list].sort((one, other) => other.bytes - one.bytes).map((file) =>
    h("tr", {}, h("th", {scope: "row", class: "mono"}, file.file), h("td", {}, bytes(file.bytes)))))));
}

/** Nested lists from rows with a depth: what an artefact was made from stands below it. */
function lineage(rows) {
  const root = h("ul", {class: "lineage"});
  const open = [root];
  for (const row of rows) {
    while (open.length > row.depth + 1) open.pop();
    const inner = h("ul", {});
    open.at(-1).append(h("li", {}, node(row), inner));
    open.push(inner);
  }
  return root;
}

function node(row) {
  const facts = [row.bytes === null || row.bytes === undefined ? null : bytes(row.bytes), row.files ? t("artefacts.files_n", {n: number(row.files)}) : null,
    row.created?.slice(0, 10)].filter(Boolean);
  return h("div", {class: `node ${row.kind ?? "raw"}`}, row.role ? h("span", {class: "role"}, row.role) : null,
    h("b", {}, row.name), h("span", {class: "badge"}, row.kind ? t("artefacts.made_by", {kind: row.kind, stage: row.stage ?? "?"}) : t("artefacts.raw")),
    facts.length ? h("span", {class: "muted small"}, facts.join(" · ")) : null, row.id ? h("code", {class: "muted"}, row.id.replace("sha256:", "").slice(0, 16)) : null);
}
