// The words of the page in the reader's language: one dictionary file a language, equal keys (tests/server/test_studio.py).
import {kept} from "./dom.js";

export const LANGUAGES = {en: "English", zh: "中文"};

let words = {};
export let language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";

export async function speak(chosen) {
  const answer = await fetch(`/studio/lang/${chosen}.json`);
  words = await answer.json();
  if (chosen !== language) kept.set("language", chosen);
  language = chosen;
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : "en";
}

/** t("runs.step", {step: 3}): the sentence with {step} filled in. A key without words shows itself. */
export function t(key, values = {}) {
  const found = words[key] ?? key;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

const locale = () => (language === "zh" ? "zh-CN" : "en-GB");

export const number = (value, digits = 0) =>
  value === null || value === undefined || !Number.isFinite(value) ? "–"
    : value.toLocaleString(locale(), {minimumFractionDigits: digits, maximumFractionDigits: digits});

/** A large number in a word: 134M, 1.34亿. */
export const compact = (value) => value.toLocaleString(language === "zh" ? "zh-CN" : "en", {notation: "compact", maximumSignificantDigits: 3});

/** Four significant digits, short. */
export function brief(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2).replace("e+", "e");
  if (Number.isInteger(value)) return value.toLocaleString(locale());
  return value.toLocaleString(locale(), {maximumSignificantDigits: 4});
}

export const percent = (value, digits = 1) => (Number.isFinite(value) ? `${(100 * value).toFixed(digits)} %` : "–");

export function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${at && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const [ms, s, min, hour] = language === "zh" ? ["毫秒", "秒", "分", "小时"] : ["ms", "s", "min", "h"];
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ${ms}`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} ${s}`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} ${min} ${whole % 60} ${s}`;
  return `${Math.floor(whole / 3600)} ${hour} ${Math.floor((whole % 3600) / 60)} ${min}`;
}

export function moment(unix) {
  if (!Number.isFinite(unix)) return "–";
  return new Date(unix * 1000).toLocaleString(locale(), {month: "short", day: "numeric", hour: "2-digit", minute: "2-digit"});
}
