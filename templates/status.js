
(() => {
  "use strict";
  const EVERY_MS = 5000;
  // Longer than the service waits for a disk that does not answer.
  const PATIENCE_MS = 15000;
  const note = document.getElementById("note");
  let timer;
  let isAsking = false;

  const keyOf = (node) => node.dataset?.key;

  // Makes `old` what `next` is and leaves alone whatever is the same, so that focus, scroll positions and what the pointer
  // is over stay. Rows have keys: a new one above the others moves them and changes none.
  const morph = (old, next) => {
    if (old.isEqualNode(next)) return;
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.data = next.data;
      return;
    }
    for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    const keyed = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
    let at = old.firstChild;
    for (const child of [...next.childNodes]) {
      const key = keyOf(child);
      const same = key ? keyed.get(key) : at && !keyOf(at) && at.nodeName === child.nodeName && at;
      if (!same) {
        old.insertBefore(child, at);
        continue;
      }
      keyed.delete(key);
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      morph(same, child);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const codeOf = (page) => [...page.querySelectorAll("style, script")].map((code) => code.textContent).join("");

  const isSelecting = (main) => {
    const selection = getSelection();
    return selection && !selection.isCollapsed && selection.containsNode(main, true);
  };

  // Changes the page and holds still the row that is read, while others come in above it.
  const changing = (main, change) => {
    const rows = [...main.querySelectorAll("tr[data-key]")];
    const topOf = (row) => row.getBoundingClientRect().top;
    const row = rows.length && topOf(rows[0]) < 0 && rows.find((row) => topOf(row) >= 0);
    const top = row && topOf(row);
    change();
    if (row && row.isConnected) scrollBy(0, topOf(row) - top);
  };

  const tell = (text) => {
    if (note.textContent !== text) note.textContent = text;
    note.hidden = !text;
  };

  const show = (next) => {
    const main = document.querySelector("main");
    // After an upgrade, what is served may not fit the style and the script that are here.
    if (codeOf(next) !== codeOf(document)) location.reload();
    else if (isSelecting(main)) tell(`Paused at ${main.dataset.now} UTC while text is selected`);
    else {
      tell("");
      changing(main, () => morph(main, next.querySelector("main")));
      document.title = next.title;
      morph(document.querySelector("link[rel=icon]"), next.querySelector("link[rel=icon]"));
    }
  };

  const refresh = async () => {
    clearTimeout(timer);
    if (isAsking || document.hidden) return;
    isAsking = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      const next = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!answer.ok || !next.querySelector("main[data-now]")) throw new Error(answer.statusText);
      document.documentElement.classList.remove("stale");
      show(next);
    } catch {
      document.documentElement.classList.add("stale");
      tell(`Stale since ${document.querySelector("main").dataset.now} UTC: runhound does not answer`);
    }
    isAsking = false;
    timer = setTimeout(refresh, EVERY_MS);
  };

  document.addEventListener("visibilitychange", refresh);
  timer = setTimeout(refresh, EVERY_MS);
})();
