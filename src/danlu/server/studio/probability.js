// What a list of log-probabilities says, as plain objects; no elements here.

const strict = new TextDecoder("utf-8", {fatal: true});
const decode = (bytes) => { try { return strict.decode(Uint8Array.from(bytes)); } catch { return null; } };
export const hex = (byte) => byte.toString(16).toUpperCase().padStart(2, "0");

/**
 * Tokens of an answer from the `logprobs` of a choice, in chat's shape or the older one of completions:
 * {text, bytes, logprob, top: [{text, bytes, logprob}]}, likeliest first in top.
 */
export function tokensOf(logprobs) {
  if (!logprobs) return [];
  if (Array.isArray(logprobs.content)) {
    return logprobs.content.map((one) => ({...plain(one), top: (one.top_logprobs ?? []).map(plain)}));
  }
  return (logprobs.tokens ?? []).map((token, at) => ({
    ...plain({token, logprob: logprobs.token_logprobs?.[at]}),
    top: Object.entries(logprobs.top_logprobs?.[at] ?? {}).map(([other, logprob]) => plain({token: other, logprob}))
      .sort((one, other) => other.logprob - one.logprob),
  }));
}

function plain({token, logprob, bytes}) {
  const text = String(token ?? "");
  return {text, bytes: Array.isArray(bytes) ? bytes : bytesWritten(text), logprob: typeof logprob === "number" ? logprob : null};
}

/** Some servers write half characters of completions as `bytes:\xe4\xb8`. */
function bytesWritten(text) {
  const match = /^bytes:((?:\\x[0-9a-fA-F]{2})+)$/.exec(text);
  return match ? match[1].slice(2).split("\\x").map((pair) => Number.parseInt(pair, 16)) : null;
}

/**
 * How a token is shown: [{text}|{bytes: "E4 B8"}]. Whole characters are text; bytes that are no character by themselves are hexadecimal.
 */
export function pieces({text, bytes}) {
  if (!bytes) return text ? [{text}] : [];
  const found = [];
  for (let at = 0; at < bytes.length;) {
    const length = characterLength(bytes, at);
    const last = found.at(-1);
    if (length) {
      const shown = decode(bytes.slice(at, at + length));
      if (last?.text !== undefined) last.text += shown; else found.push({text: shown});
    } else if (last?.bytes !== undefined) last.bytes += ` ${hex(bytes[at])}`;
    else found.push({bytes: hex(bytes[at])});
    at += length || 1;
  }
  return found;
}

function characterLength(bytes, at) {
  const first = bytes[at];
  const length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
  return length && at + length <= bytes.length && decode(bytes.slice(at, at + length)) !== null ? length : 0;
}

/** For each token that holds part of a character: the characters that it and its neighbours make together; null for the others. */
export function completed(tokens) {
  const found = tokens.map(() => null);
  for (let start = 0; start < tokens.length; start += 1) {
    if (!tokens[start].bytes || decode(tokens[start].bytes) !== null) continue;
    let together = [...tokens[start].bytes];
    let end = start;
    while (decode(together) === null && end + 1 < tokens.length && tokens[end + 1].bytes && end - start < 8) {
      end += 1;
      together = together.concat(tokens[end].bytes);
    }
    const whole = decode(together);
    if (whole !== null && end > start) {
      found.fill(whole, start, end + 1);
      start = end;
    }
  }
  return found;
}

/** The alternatives of one token: {rows: [{…, p, chosen}], rest, bits, exact}. bits: entropy of what is known, the rest as one outcome. */
export function alternatives(token) {
  const same = (one) => one.text === token.text && String(one.bytes) === String(token.bytes);
  const rows = token.top.filter((one) => one.logprob !== null).map((one) => ({...one, p: Math.exp(one.logprob), chosen: same(one)}));
  if (!rows.some((row) => row.chosen) && token.logprob !== null) rows.push({...token, p: Math.exp(token.logprob), chosen: true});
  rows.sort((one, other) => other.p - one.p);
  const rest = Math.max(0, 1 - rows.reduce((sum, row) => sum + row.p, 0));
  const bits = [...rows.map((row) => row.p), rest].reduce((sum, p) => (p > 0 ? sum - p * Math.log2(p) : sum), 0);
  return {rows, rest, bits, exact: rest < 1e-4};
}

/** Five shades of surprise, 0 expected to 4 astonishing. */
export function shade(logprob) {
  if (logprob === null) return 0;
  const p = Math.exp(logprob);
  return [0.9, 0.5, 0.2, 0.05].filter((limit) => p < limit).length;
}
