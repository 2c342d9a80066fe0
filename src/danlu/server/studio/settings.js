// What is asked for beside the words: how chance picks tokens, where an answer stops. What is left empty is the server's own choice.
import {h, kept, replace} from "./dom.js";
import {t} from "./words.js";

const FIELDS = [
  {name: "temperature", min: 0, max: 2, step: 0.05},
  {name: "top_p", min: 0.01, max: 1, step: 0.01},
  {name: "top_k", min: 1, max: 100_000, step: 1},
  {name: "min_p", min: 0, max: 1, step: 0.01},
  {name: "repetition_penalty", min: 0.5, max: 2, step: 0.05},
  {name: "max_tokens", min: 1, max: 1_000_000, step: 1},
  {name: "seed", min: 0, max: 2 ** 53 - 1, step: 1},
];

const initial = () => ({system: "", stop: "", logprobs: true});

let values = initial();
try { values = {...values, ...JSON.parse(kept.get("settings", "sessionStorage") ?? "{}")}; } catch { /* not ours: begin anew */ }

/** The settings as a request has them: only what the reader set. */
export function current() {
  const stop = values.stop.split("\n").filter(Boolean).slice(0, 4);
  const set = FIELDS.filter(({name}) => Number.isFinite(values[name])).map(({name}) => [name, values[name]]);
  return {...Object.fromEntries(set), ...(stop.length ? {stop} : {}), system: values.system, logprobs: values.logprobs};
}

function keep(name, value) {
  if (value === null) delete values[name]; else values[name] = value;
  kept.set("settings", JSON.stringify(values), "sessionStorage");
}

export function settingsPanel(close) {
  const panel = h("aside", {class: "panel", id: "settings", "aria-label": t("settings.title")});
  draw();
  return panel;

  function draw() {
    replace(panel,
      h("div", {class: "panel-head"}, h("h2", {}, t("settings.title")),
        h("button", {type: "button", class: "quiet", onclick: () => { values = initial(); keep("system", ""); draw(); }}, t("settings.reset")),
        h("button", {type: "button", class: "quiet", onclick: close}, t("close"))),
      h("label", {class: "field"}, h("span", {}, t("settings.system")),
        h("textarea", {rows: "3", value: values.system, oninput: (event) => keep("system", event.target.value)}),
        h("small", {}, t("settings.system_help"))),
      FIELDS.map(numberField),
      h("label", {class: "field"}, h("span", {}, t("settings.stop")),
        h("textarea", {rows: "2", value: values.stop, class: "mono", oninput: (event) => keep("stop", event.target.value)}),
        h("small", {}, t("settings.stop_help"))),
      h("label", {class: "field check"},
        h("input", {type: "checkbox", checked: values.logprobs, onchange: (event) => keep("logprobs", event.target.checked)}),
        h("span", {}, t("settings.logprobs")), h("small", {}, t("settings.logprobs_help"))));
  }
}

function numberField({name, min, max, step}) {
  const help = h("small", {id: `help-${name}`}, t(`settings.${name}_help`));
  const input = h("input", {type: "number", min, max, step: "any", inputmode: step < 1 ? "decimal" : "numeric", placeholder: t("settings.default"),
    value: values[name] ?? "", "aria-describedby": `help-${name}`, oninput: () => {
      const value = input.value.trim() === "" ? null : Number(input.value);
      const good = value === null || (value >= min && value <= max && (step < 1 || Number.isInteger(value)));
      input.setAttribute("aria-invalid", String(!good));
      help.textContent = good ? t(`settings.${name}_help`) : t("settings.range", {min, max});
      if (good) keep(name, value);
    }});
  return h("label", {class: "field number"}, h("span", {}, t(`settings.${name}`)), input, help);
}
