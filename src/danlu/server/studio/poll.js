// Asking again and again while somebody looks: not while the tab is hidden, not twice at once, more slowly while the server does not answer.

/** Calls `ask(signal)` every `seconds`; returns a function that ends it. Failures go to `failed(error)`, answers clear it with null. */
export function poll(ask, seconds, failed) {
  const controller = new AbortController();
  let timer = null;
  let misses = 0;
  const round = async () => {
    timer = null;
    if (document.hidden) return;
    try {
      await ask(controller.signal);
      misses = 0;
      failed(null);
    } catch (error) {
      if (controller.signal.aborted) return;
      misses += 1;
      failed(error);
      if (error.status === 401) return; // the reader gave no key: not to be asked again every few seconds
    }
    if (!controller.signal.aborted) timer = setTimeout(round, 1000 * seconds * Math.min(1 + misses, 8));
  };
  const seen = () => { if (!document.hidden && timer === null) round(); };
  document.addEventListener("visibilitychange", seen);
  round();
  return () => {
    controller.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
  };
}
