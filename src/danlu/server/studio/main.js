// The frame of the page: its views, language, light and dark, the question for the key.
import {keyAsker} from "./api.js";
import * as artefacts from "./artefacts.js";
import * as chat from "./chat.js";
import {h, kept, replace} from "./dom.js";
import * as engine from "./engine.js";
import * as feedback from "./feedback.js";
import {icon} from "./icons.js";
import * as runs from "./runs.js";
import {LANGUAGES, language, speak, t} from "./words.js";

const VIEWS = {chat, engine, runs, artefacts, feedback};

const app = h("div", {id: "app"});
document.body.append(app);

let mounted = null;
let live = null;
let banner = null;

const parts = () => {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let decoded = "";
  try { decoded = decodeURIComponent(rest.join("/")); } catch { /* not ours */ }
  return [name in VIEWS ? name : "chat", decoded];
};

function frame() {
  const here = parts()[0];
  live = h("div", {class: "offscreen", "aria-live": "polite", role: "status"});
  banner = h("div", {class: "banner", role: "alert", hidden: true});
  const links = Object.keys(VIEWS).map((name) => h("a", {href: `#/${name}`, "aria-current": name === here ? "page" : null}, icon(name), h("span", {}, t(`nav.${name}`))));
  const other = language === "en" ? "zh" : "en";
  replace(app,
    h("a", {class: "skip", href: "#view", onclick: (event) => { event.preventDefault(); document.getElementById("view").focus(); }}, t("nav.skip")),
    h("a", {class: "brand", href: "#/chat"}, h("img", {src: "/studio/mark.svg", alt: "", width: "32", height: "32"}), h("span", {}, h("b", {}, "丹炉"), " Danlu")),
    h("nav", {class: "nav", "aria-label": t("nav.title")}, links),
    h("div", {class: "prefs"},
      h("button", {type: "button", class: "tool", lang: other === "zh" ? "zh-CN" : "en", title: t("nav.language"), onclick: async () => { await speak(other); await start(); document.querySelector(".prefs button").focus(); }}, LANGUAGES[other]),
      lightSwitch()),
    banner,
    h("main", {id: "view", tabindex: "-1"}),
    live);
}

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";

function paint(theme) {
  document.documentElement.dataset.theme = theme;
  kept.set("theme", theme);
}

function lightSwitch() {
  return offerLight(h("button", {type: "button", class: "tool light", onclick: (event) => { paint(isDark() ? "light" : "dark"); offerLight(event.currentTarget); }}));
}

/** Show on the switch the light that there is not. Nothing else of the page is drawn anew: a press not yet released stays a click, a shown error stays. */
function offerLight(button) {
  const dark = isDark();
  button.title = t(dark ? "nav.light" : "nav.dark");
  button.setAttribute("aria-label", button.title);
  return replace(button, icon(dark ? "sun" : "moon"));
}

async function start() {
  mounted?.unmount?.();
  mounted = null;
  const [name, rest] = parts();
  frame();
  document.title = `${t(`nav.${name}`)} · Danlu 丹炉`;
  const root = document.getElementById("view");
  root.className = name;
  const made = await VIEWS[name].mount(root, {rest, navigate, announce, problem});
  if (root.isConnected) mounted = made;
  else made?.unmount?.(); // the reader has gone on meanwhile
}

function navigate(hash) {
  if (location.hash !== hash) location.hash = hash;
}

function announce(text) { live.textContent = text; }

/** Show what went wrong across the page, or, with null, that it is over. */
function problem(error) {
  banner.hidden = !error;
  if (error) replace(banner, icon("warning"), h("span", {}, chat.explain(error)));
}

keyAsker((again) => new Promise((answer) => {
  const input = h("input", {type: "password", autocomplete: "off", spellcheck: "false", "aria-label": t("key.label")});
  const leave = (value) => { dialog.close(); dialog.remove(); answer(value); };
  const dialog = h("dialog", {"aria-labelledby": "key-title", oncancel: (event) => { event.preventDefault(); leave(null); }},
    h("h2", {id: "key-title"}, icon("key"), t("key.title")), again ? h("p", {class: "notice bad"}, t("key.again")) : null, h("p", {}, t("key.help")),
    input, h("div", {class: "row"}, h("button", {type: "button", class: "main", onclick: () => leave(input.value.trim() || null)}, t("key.use")),
      h("button", {type: "button", onclick: () => leave(null)}, t("cancel"))));
  input.addEventListener("keydown", (event) => { if (event.key === "Enter" && !event.isComposing) leave(input.value.trim() || null); });
  document.body.append(dialog);
  dialog.showModal();
  input.focus();
}));

window.addEventListener("hashchange", async () => {
  await start();
  document.getElementById("view").focus({preventScroll: true}); // readers by ear and by keyboard go on in the new view
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { app.querySelectorAll(".prefs .light").forEach(offerLight); });
await speak(language);
await start();
